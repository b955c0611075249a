"""The wheel, as somebody installs it: into an environment that has nothing of ours."""

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
FOR_DEPLOYMENT = ("README.md", "pyproject.toml", "requirements.txt", "serverless.yml", "template.yaml")
LEFT_OUT = {f"lambda_worker/{name}" for name in FOR_DEPLOYMENT}
METADATA = ("pyproject.toml", "README.md", "LICENSE")
UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in run("git", "ls-files", "bulk_import", "bulk_import_wire", "lambda_worker", *METADATA).split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)  # setuptools leaves things behind that the next wheel would hold
    run(UV, "build", "--quiet", "--wheel", folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run the Python of an environment with the wheel and what it asks for, from an empty folder."""
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


def test_it_holds_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = {
        name
        for name in run("git", "ls-files", "bulk_import", "bulk_import_wire", "lambda_worker").split()
        if name not in LEFT_OUT
    }

    assert packed == {name for name in listed if not name.endswith(".po")}


def test_both_packages_can_be_imported(python: Callable[..., str]) -> None:
    imports = "import bulk_import.urls, bulk_import.worker_urls, bulk_import.admin, lambda_worker.handler; print('yes')"

    assert python("manage.py", "shell", "-v", "0", "-c", imports).strip() == "yes"


def test_the_worker_needs_no_django(python: Callable[..., str]) -> None:
    code = "import sys, lambda_worker.handler, lambda_worker.poller.poller; print('django' in sys.modules)"

    assert python("-c", code).strip() == "False"


def test_a_site_has_its_tables_and_commands(python: Callable[..., str]) -> None:
    assert "Applying bulk_import.0001_initial... OK" in python("manage.py", "migrate", "--skip-checks", "bulk_import")
    commands = python("manage.py", "help", "--commands").split()

    assert {"bulk_import", "bulk_import_relay", "bulk_import_expire", "bulk_import_doctor"} <= set(commands)
