"""Builds what is deployed to AWS Lambda: `make lambda`, which is `python -m lambda_worker.package`.

One zip for each processor: this package with its byte code, and the byte code of its pinned requirements. boto3 is
not in it: Lambda's runtime brings it. The same input gives the same bytes, wherever and whenever it is built; the
input is the source, requirements.txt (whose hashes pin every wheel), the interpreter that compiles, and zlib.

Raises PackageError where a person has to do something about it.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PYTHON = "3.13"
"""Of Lambda's runtime python3.13. Byte code and compiled modules fit no other."""

PLATFORMS = {"arm64": "aarch64-manylinux_2_34", "x86_64": "x86_64-manylinux_2_34"}
"""Lambda's names of processors, and the wheels that fit: 2.34 is the glibc of Amazon Linux 2023."""

MACHINES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}
"""The same names, from what Python calls this machine's processor."""

RUNTIME_BOTO3 = "boto3~=1.40.0"
"""What stands in for the runtime's own while imports are timed: the oldest that the worker knows."""

MAX_BYTES = 5 * 1000 * 1000
"""Our own limit, for a quick cold start; Lambda takes 50 MB."""

MAX_UNPACKED_BYTES = 250 * 1000 * 1000
"""Lambda's limit."""

HANDLERS = ("lambda_worker.handler.handler", "lambda_worker.dead_letter.handler")
TASK_ROOT = "/var/task"
"""Where Lambda unpacks the zip; tracebacks name it."""

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can tell, as the time of every file."""

PACKAGE = Path(__file__).parent
DESTINATION = PACKAGE.parent / "dist"
NOT_SHIPPED = {Path(__file__).name, "__main__.py"}
"""Modules that do not run on Lambda. Neither does the folder `poller`."""

WIRE = PACKAGE.parent / "bulk_import_wire"

SHIPPED = re.compile(r"(?!.*\btests/).*\.(py|pyc|so|pem)|[^/]+\.dist-info/(METADATA|licenses/.*|LICENSE.*)")
"""Code but no tests, certificates, and METADATA and licences, by which scanners and people know what is in there."""

IMPORT_SECONDS = """
import sys, time
sys.path.insert(0, sys.argv[1])
started_at = time.perf_counter()
import lambda_worker.handler, lambda_worker.dead_letter
print(time.perf_counter() - started_at)
"""


class PackageError(Exception):
    """Do what the message says."""


def build(architecture: str, destination: Path = DESTINATION) -> Path:
    """Build the zip for `arm64` or `x86_64` in the folder `destination`; returns its path. Raises PackageError."""
    interpreter = find_interpreter()
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / f"lambda_worker-{architecture}.zip"
    with TemporaryDirectory(prefix="lambda-worker-") as name:
        folder = Path(name)
        install_requirements(folder, architecture)
        for file in files_of(folder):
            if not SHIPPED.fullmatch(file.relative_to(folder).as_posix()):
                file.unlink()
        # Of other people's modules the byte code is enough; ours keep their source, which tracebacks quote.
        compile_modules(folder, interpreter, "-b")
        for source in folder.rglob("*.py"):
            source.unlink()
        copy_modules(PACKAGE, folder)
        copy_modules(WIRE, folder)
        compile_modules(folder, interpreter)
        write_zip(folder, path)
    check_size(path)
    return path


def find_interpreter() -> Path:
    """The Python of Lambda's version on this machine: on the PATH, pyenv's or uv's. Raises PackageError."""
    on_path = shutil.which(f"python{PYTHON}")
    found = [Path(on_path)] if on_path else []
    found += sorted(Path.home().glob(f".pyenv/versions/{PYTHON}.*/bin/python{PYTHON}"))
    found += sorted(Path.home().glob(f".local/share/uv/python/cpython-{PYTHON}.*/bin/python{PYTHON}"))
    for interpreter in found:
        # pyenv has a command for every version on the PATH, and most of them only say that they are not chosen.
        answer = subprocess.run([interpreter, "-I", "-c", ""], capture_output=True, check=False)  # noqa: S603 - a Python
        if answer.returncode == 0:
            return interpreter
    raise PackageError(f"There is no Python {PYTHON} on this machine: uv python install {PYTHON}")


def install_requirements(folder: Path, architecture: str) -> None:
    """Unpack the wheels for Lambda's Python and this processor, whatever machine this is."""
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes"]
    fitting = ["--python-platform", PLATFORMS[architecture], "--python-version", PYTHON, "--only-binary", ":all:"]
    run(*install, *fitting, "--target", folder, "--requirement", PACKAGE / "requirements.txt")


def copy_modules(package: Path, folder: Path) -> None:
    """Copy the modules of one of our packages, without its subfolders, into a folder of the same name."""
    (folder / package.name).mkdir()
    for module in package.glob("*.py"):
        if module.name not in NOT_SHIPPED:
            shutil.copyfile(module, folder / package.name / module.name)


def compile_modules(folder: Path, interpreter: Path, *options: str) -> None:
    """Leave the byte code beside each source; it holds a hash of the source, which is never looked at, and no time."""
    compileall = ["-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", *options]
    run(interpreter, *compileall, "-s", folder, "-p", TASK_ROOT, folder)


def write_zip(folder: Path, path: Path) -> None:
    """Pack all files: in order, readable by everybody, and of no particular time."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in files_of(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), EARLIEST)
            entry.create_system = 3  # Unix, also where this is built on something else
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def check_size(path: Path) -> None:
    """Raises PackageError."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if path.stat().st_size > MAX_BYTES or unpacked > MAX_UNPACKED_BYTES:
        raise PackageError(f"{path} is too big: {path.stat().st_size:,} bytes, and {unpacked:,} when unpacked.")


def files_of(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))


def import_seconds(path: Path) -> float:
    """How long a new process takes to import both handlers from the unpacked zip: the better part of a cold start."""
    with TemporaryDirectory(prefix="lambda-worker-") as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        python = [sys.executable, "-m", "uv", "run", "--quiet", "--no-config", "--no-project"]
        python += ["--python", str(find_interpreter()), "--with", RUNTIME_BOTO3, "python", "-I"]
        run(*python, "-c", IMPORT_SECONDS, folder)  # once to warm the disk's cache, and for boto3's own byte code
        return float(run(*python, "-c", IMPORT_SECONDS, folder))


def run(*command: str | Path) -> str:
    """Run to the end and return what was printed. Raises PackageError."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
    if done.returncode:
        raise PackageError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and print path, bytes and, for this machine's own processor, the time of the imports."""
    parser = argparse.ArgumentParser(prog="python -m lambda_worker.package", description="Builds the zips for Lambda.")
    parser.add_argument("--architecture", choices=PLATFORMS, action="append", help="all of them if none is given")
    parser.add_argument("--destination", type=Path, default=DESTINATION, help="a folder (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        for architecture in given.architecture or PLATFORMS:
            path = build(architecture, given.destination)
            line = f"{path}: {path.stat().st_size / 1e6:.2f} MB for python{PYTHON}"
            if MACHINES.get(platform.machine()) == architecture:
                line += f", handlers imported in {import_seconds(path):.2f} s"
            print(line)  # noqa: T201 - a command line tool prints
    except PackageError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
