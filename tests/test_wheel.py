"""The wheel and the sdist: what they contain, and that they work when installed into an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("bulk_import", "bulk_import_wire", "import_page", "lambda_worker")
FOR_DEPLOYMENT = ("README.md", "pyproject.toml", "requirements.txt", "serverless.yml", "template.yaml")
LEFT_OUT = {f"lambda_worker/{name}" for name in FOR_DEPLOYMENT}
METADATA = ("pyproject.toml", "README.md", "LICENSE")
UV = Path(sys.executable).parent / "uv"


TWINE = (UV, "tool", "run", "--quiet", "--from", "twine==7.0.0", "twine")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the sdist, and with the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in run("git", "ls-files", *PACKAGES, *METADATA).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # We build from a copy, because setuptools leaves build files that the next wheel would contain.
        shutil.copy(PROJECT / name, folder / name)
    run(UV, "build", "--quiet", folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Return a function that runs Python in an environment that contains only the wheel and its requirements."""
    folder = tmp_path_factory.mktemp("empty")
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    executable = folder / "venv" / "bin" / "python"
    run(UV, "pip", "install", "--quiet", "--python", executable, f"{wheel}[worker]")
    run(folder / "venv" / "bin" / "django-admin", "startproject", "monolith", folder)
    with (folder / "monolith" / "settings.py").open("a") as settings:
        settings.write('INSTALLED_APPS += ["rest_framework", "bulk_import"]\n')
    return lambda *arguments: run(executable, *arguments, cwd=folder)


def run(*command: str | Path, cwd: Path = PROJECT) -> str:
    environment = {name: os.environ[name] for name in os.environ if not name.startswith(("PYTHON", "DJANGO", "AWS_"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_contains_all_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = {name for name in run("git", "ls-files", *PACKAGES).split() if name not in LEFT_OUT}

    assert {name.partition("/")[0] for name in packed} == set(PACKAGES)
    assert packed == {name for name in listed if not name.endswith(".po")}


def test_an_index_would_accept_the_sdist_and_the_wheel(built: Path) -> None:
    run(*TWINE, "check", "--strict", *built.glob("django_bulk_import*"))


def test_an_installation_keeps_an_old_django_and_says_what_is_supported(wheel: Path, tmp_path: Path) -> None:
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    install = (UV, "pip", "install", "--quiet", "--python", python)
    run(*install, "django~=4.2.0", "djangorestframework~=3.15.0")
    run(*install, wheel)
    code = "import django; from django.conf import settings; "
    code += "settings.configure(INSTALLED_APPS=['django.contrib.auth', 'django.contrib.contenttypes', 'bulk_import'])\n"
    code += "try: django.setup()\nexcept Exception as error: print(django.__version__, error)"

    said = run(python, "-c", code)

    assert said.startswith("4.2.")
    assert "tested with Django 5.2 to 6.1" in said


def test_each_package_declares_its_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    assert [package for package in PACKAGES if f"{package}/py.typed" not in names] == []


def test_the_modules_of_all_packages_can_be_imported(python: Callable[..., str]) -> None:
    modules = (
        "bulk_import.urls",
        "bulk_import.worker_urls",
        "bulk_import.admin",
        "bulk_import_wire.contract",
        "lambda_worker.handler",
        "lambda_worker.poller.poller",
    )

    code = f"import {', '.join(modules)}; print('yes')"
    assert python("manage.py", "shell", "-v", "0", "-c", code).strip() == "yes"


def test_the_worker_does_not_import_django(python: Callable[..., str]) -> None:
    code = "import sys, lambda_worker.handler, lambda_worker.poller.poller; print('django' in sys.modules)"

    assert python("-c", code).strip() == "False"


def test_a_site_gets_the_tables_and_commands(python: Callable[..., str]) -> None:
    assert "Applying bulk_import.0001_initial... OK" in python("manage.py", "migrate", "--skip-checks", "bulk_import")
    commands = python("manage.py", "help", "--commands").split()

    assert {"bulk_import", "bulk_import_relay", "bulk_import_expire", "bulk_import_doctor"} <= set(commands)
