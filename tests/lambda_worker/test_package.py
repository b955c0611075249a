"""The zips for AWS Lambda: what they contain, that their build is reproducible, and that the handlers run from them."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lambda_worker
from lambda_worker import package
from tests.lambda_worker.conftest import ARCHITECTURE

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(lambda_worker.__file__).parent
WIRE = PACKAGE.parent / "bulk_import_wire"
ELF_MACHINES = {"x86_64": 62, "arm64": 183}


@pytest.fixture(scope="module")
def zips(lambda_zip: Path) -> dict[str, Path]:
    """Return the zip of each architecture."""
    built = {ARCHITECTURE: lambda_zip}
    return {name: built.get(name) or package.build(name, lambda_zip.parent) for name in package.PLATFORMS}


@pytest.fixture(params=package.PLATFORMS)
def architecture(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def files_in(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_another_clone_builds_the_same_bytes(lambda_zip: Path, tmp_path: Path) -> None:
    """Modification times, the path of the clone, the umask and other files in it make no difference."""
    clone = tmp_path / "clone"
    for package_folder in (PACKAGE, WIRE):
        shutil.copytree(package_folder, clone / package_folder.name, copy_function=shutil.copyfile)
    for module in clone.rglob("*.py"):
        os.utime(module, (1, 1))
    for junk in (".env", "secrets.json", "__pycache__/left_over.cpython-313.pyc", "notes.txt", "local/module.py"):
        path = clone / PACKAGE.name / junk
        path.parent.mkdir(exist_ok=True)
        path.write_text("BULK_IMPORT_WORKER_SECRET=must-not-be-shipped")
    destination = tmp_path / "dist"

    command = [sys.executable, "-m", "lambda_worker.package", "--architecture", ARCHITECTURE]
    command += ["--destination", str(destination)]
    done = subprocess.run(command, cwd=clone, umask=0o077, stdout=subprocess.PIPE, text=True, check=True)

    assert re.fullmatch(r".*\.zip: \d\.\d\d MB for python3\.13, handlers imported in \d+\.\d\d s\n", done.stdout)
    assert (destination / lambda_zip.name).read_bytes() == lambda_zip.read_bytes()


def test_the_zip_contains_both_packages_and_their_requirements_only(zips: dict[str, Path], architecture: str) -> None:
    names = files_in(zips[architecture]).keys()

    requirements = re.findall(r"^([a-z0-9-]+)==", (PACKAGE / "requirements.txt").read_text(), re.MULTILINE)
    described = {name.partition(".dist-info/")[0].rpartition("-")[0] for name in names if ".dist-info/" in name}
    assert described == {name.replace("-", "_") for name in requirements}
    assert {"boto3", "botocore"}.isdisjoint(name.partition("/")[0] for name in names)
    modules = {f"{folder.name}/{module.name}" for folder in (PACKAGE, WIRE) for module in folder.glob("*.py")}
    modules -= {"lambda_worker/package.py", "lambda_worker/__main__.py"}
    assert {"lambda_worker/handler.py", "bulk_import_wire/contract.py"} <= modules
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name for name in names if name.startswith(("lambda_worker/", "bulk_import_wire/"))} == modules | {
        f"{Path(module).parent}/__pycache__/{Path(module).stem}.cpython-313.pyc" for module in modules
    }
    assert [name for name in names if "poller" in name] == []
    others = {name for name in names if not name.endswith((".py", ".pyc", ".so"))} - {"certifi/cacert.pem"}
    assert [name for name in others if not re.search(r"\.dist-info/(METADATA|licenses/|LICENSE)", name)] == []
    assert [name for name in names if re.search(r"(^|/)tests?/", name)] == []


def test_compiled_libraries_are_for_the_architecture(zips: dict[str, Path], architecture: str) -> None:
    libraries = [content for name, content in files_in(zips[architecture]).items() if name.endswith(".so")]

    assert {struct.unpack_from("<H", content, 18)[0] for content in libraries} == {ELF_MACHINES[architecture]}


@pytest.mark.parametrize("version", package.PYTHONS)
def test_compiled_libraries_are_for_the_python_version(architecture: str, version: str, tmp_path: Path) -> None:
    """The test needs no interpreter of the version."""
    package.install_requirements(tmp_path, architecture, version)

    libraries = [library.name for library in tmp_path.rglob("*.so")]
    assert libraries
    assert [name for name in libraries if f".cpython-{version.replace('.', '')}-" not in name] == []


def available_versions() -> Iterator[str]:
    """Yield the versions whose interpreter is on this machine. `make lambda` refuses the others."""
    for version in package.PYTHONS:
        with suppress(package.PackageError):
            package.find_interpreter(version)
            yield version


@pytest.mark.parametrize("version", list(available_versions()))
def test_a_zip_contains_the_byte_code_of_its_version(lambda_zip: Path, tmp_path: Path, version: str) -> None:
    is_default = version == package.PYTHONS[0]
    names = files_in(lambda_zip if is_default else package.build(ARCHITECTURE, tmp_path, version))

    assert f"lambda_worker/__pycache__/handler.cpython-{version.replace('.', '')}.pyc" in names


def test_byte_code_is_never_checked_against_its_source(zips: dict[str, Path], architecture: str) -> None:
    """Flags 1: it goes by a hash, not a time, and without looking."""
    byte_codes = [content for name, content in files_in(zips[architecture]).items() if name.endswith(".pyc")]

    assert len(byte_codes) > 100
    assert {struct.unpack_from("<I", content, 4)[0] for content in byte_codes} == {1}


def test_everybody_may_read_every_file(zips: dict[str, Path], architecture: str) -> None:
    """Lambda runs as a user of its own."""
    with zipfile.ZipFile(zips[architecture]) as archive:
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}

    assert modes == {stat.S_IFREG | 0o644}


def test_the_zip_is_smaller_than_5_megabytes(zips: dict[str, Path], architecture: str) -> None:
    assert zips[architecture].stat().st_size < 5_000_000


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_UNPACKED_BYTES"])
def test_a_zip_that_is_too_big_is_an_error(lambda_zip: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(package, limit, 1_000_000)

    with pytest.raises(package.PackageError, match="too big"):
        package.check_size(lambda_zip)


def test_the_handlers_import_only_the_zip_and_the_runtime(runtime_python: Path, task_root: Path) -> None:
    code = f"""
import importlib, json, sys
sys.path.insert(0, {str(task_root)!r})
for handler in {package.HANDLERS!r}:
    module, _, name = handler.rpartition(".")
    assert callable(getattr(importlib.import_module(module), name))
files = {{name: getattr(module, "__file__", None) for name, module in sys.modules.items() if "." not in name}}
print(json.dumps({{name: file for name, file in files.items() if file and "/task" in file}}))
"""
    done = subprocess.run([runtime_python, "-I", "-W", "error", "-c", code], capture_output=True, text=True, check=True)

    shipped = json.loads(done.stdout)
    assert {
        "lambda_worker",
        "bulk_import_wire",
        "httpx",
        "httpx_aiohttp",
        "aiohttp",
        "yarl",
        "certifi",
    } <= shipped.keys()
    assert all(Path(file).is_relative_to(task_root) for file in shipped.values())


def test_the_error_for_a_missing_interpreter_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    for version in package.PYTHONS:
        with pytest.raises(package.PackageError, match=f"uv python install {re.escape(version)}"):
            package.find_interpreter(version)
