"""Builds the zips for AWS Lambda: `make lambda`, which runs `python -m lambda_worker.package`.

There is one zip per processor architecture. Each contains the modules of `lambda_worker` and `bulk_import_wire` with
their byte code, and the byte code of the pinned requirements. It contains neither boto3, which Lambda's runtime
provides, nor the poller, which replaces Lambda elsewhere.

Builds are reproducible: the same source, requirements.txt (which pins every wheel by its hash), Python interpreter and
zlib always give the same bytes.
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

PYTHONS = ("3.13", "3.14")
"""Python versions of Lambda's runtimes that the worker supports. Byte code and compiled modules work with one of them
only, so the runtime of the functions must be that of their zip. The first is the default."""

PLATFORMS = {"arm64": "aarch64-manylinux_2_34", "x86_64": "x86_64-manylinux_2_34"}
"""Lambda's names of the architectures, and the platforms of suitable wheels. Amazon Linux 2023 has glibc 2.34."""

MACHINES = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "AMD64": "x86_64"}
"""Lambda's name of an architecture for each value of `platform.machine()`."""

RUNTIME_BOTO3 = "boto3~=1.40.0"
"""The boto3 that `import_seconds` uses instead of the one in Lambda's runtime. It is the oldest supported version."""

MAX_BYTES = 5 * 1000 * 1000
"""Our own limit for a zip, to keep cold starts short. Lambda accepts 50 MB."""

MAX_UNPACKED_BYTES = 250 * 1000 * 1000
"""Lambda's limit for the unpacked zip."""

HANDLERS = ("lambda_worker.handler.handler", "lambda_worker.dead_letter.handler")
TASK_ROOT = "/var/task"
"""The folder into which Lambda unpacks the zip. Byte code contains this path, and tracebacks show it."""

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""Modification time of every file in the zip: the earliest that the format can store. It makes builds reproducible."""

PACKAGE = Path(__file__).parent
DESTINATION = PACKAGE.parent / "dist"
WIRE = PACKAGE.parent / "bulk_import_wire"

NOT_SHIPPED = {Path(__file__).name, "__main__.py"}
"""Modules of `lambda_worker` that do not run on Lambda. The subfolder `poller` is not shipped either."""

SHIPPED = re.compile(r"(?!.*\btests/).*\.(py|pyc|so|pem)|[^/]+\.dist-info/(METADATA|licenses/.*|LICENSE.*)")
"""The files of the requirements that go into the zip: code without tests, certificates, and the metadata and licenses
by which scanners and people recognize the packages."""

IMPORT_SECONDS = """
import sys, time
sys.path.insert(0, sys.argv[1])
started_at = time.perf_counter()
import lambda_worker.handler, lambda_worker.dead_letter
print(time.perf_counter() - started_at)
"""


class PackageError(Exception):
    """The zip cannot be built. The message says what to do."""


def build(architecture: str, destination: Path = DESTINATION, version: str = PYTHONS[0]) -> Path:
    """Build the zip for `arm64` or `x86_64` in the folder `destination` and return its path. Raises PackageError.

    `version` is one of PYTHONS. The name of the zip does not contain it, because the template needs a fixed name.
    """
    interpreter = find_interpreter(version)
    destination.mkdir(parents=True, exist_ok=True)
    path = destination / f"lambda_worker-{architecture}.zip"
    with TemporaryDirectory(prefix="lambda-worker-") as name:
        folder = Path(name)
        install_requirements(folder, architecture, version)
        for file in files_of(folder):
            if not SHIPPED.fullmatch(file.relative_to(folder).as_posix()):
                file.unlink()
        # Third-party modules are shipped as byte code only, to keep the zip small. Our own modules keep their source,
        # because tracebacks quote it.
        compile_modules(folder, interpreter, "-b")
        for source in folder.rglob("*.py"):
            source.unlink()
        copy_modules(PACKAGE, folder)
        copy_modules(WIRE, folder)
        compile_modules(folder, interpreter)
        write_zip(folder, path)
    check_size(path)
    return path


def find_interpreter(version: str = PYTHONS[0]) -> Path:
    """Return a Python of this version from the PATH, pyenv or uv. Raises PackageError if there is none."""
    on_path = shutil.which(f"python{version}")
    found = [Path(on_path)] if on_path else []
    found += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    found += sorted(Path.home().glob(f".local/share/uv/python/cpython-{version}.*/bin/python{version}"))
    for interpreter in found:
        # pyenv puts a command for every version on the PATH, but the command fails if its version is not activated.
        answer = subprocess.run([interpreter, "-I", "-c", ""], capture_output=True, check=False)  # noqa: S603 - a Python
        if answer.returncode == 0:
            return interpreter
    raise PackageError(f"There is no Python {version} on this machine. Install it: uv python install {version}")


def install_requirements(folder: Path, architecture: str, version: str) -> None:
    """Unpack the wheels for the given architecture and Python version, whatever machine this runs on."""
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes"]
    fitting = ["--python-platform", PLATFORMS[architecture], "--python-version", version, "--only-binary", ":all:"]
    run(*install, *fitting, "--target", folder, "--requirement", PACKAGE / "requirements.txt")


def copy_modules(package: Path, folder: Path) -> None:
    """Copy the modules of one of our packages, without its subfolders, into a folder of the same name.

    It copies *.py only, so that nothing else in a working copy, such as an .env file, reaches Lambda.
    """
    (folder / package.name).mkdir()
    for module in package.glob("*.py"):
        if module.name not in NOT_SHIPPED:
            shutil.copyfile(module, folder / package.name / module.name)


def compile_modules(folder: Path, interpreter: Path, *options: str) -> None:
    """Compile all modules in the folder.

    The byte code contains a hash of its source instead of the source's modification time, so that builds are
    reproducible. Python never checks that hash (`unchecked-hash`).
    """
    compileall = ["-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", *options]
    run(interpreter, *compileall, "-s", folder, "-p", TASK_ROOT, folder)


def write_zip(folder: Path, path: Path) -> None:
    """Pack all files in alphabetical order, with the same permissions and the same modification time."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in files_of(folder):
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), EARLIEST)
            entry.create_system = 3  # Unix, whatever system this runs on
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def check_size(path: Path) -> None:
    """Raise PackageError if the zip is larger than our limit, or larger than Lambda's when unpacked."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if path.stat().st_size > MAX_BYTES or unpacked > MAX_UNPACKED_BYTES:
        raise PackageError(f"{path} is too big: {path.stat().st_size:,} bytes, and {unpacked:,} when unpacked.")


def files_of(folder: Path) -> Iterator[Path]:
    return iter(sorted(path for path in folder.rglob("*") if path.is_file()))


def import_seconds(path: Path, version: str) -> float:
    """Return how long a new process takes to import both handlers from the zip: most of the time of a cold start."""
    with TemporaryDirectory(prefix="lambda-worker-") as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        python = [sys.executable, "-m", "uv", "run", "--quiet", "--no-config", "--no-project"]
        python += ["--python", str(find_interpreter(version)), "--with", RUNTIME_BOTO3, "python", "-I"]
        run(*python, "-c", IMPORT_SECONDS, folder)  # the first run warms the disk cache and compiles boto3
        return float(run(*python, "-c", IMPORT_SECONDS, folder))


def run(*command: str | Path) -> str:
    """Run a command and return its output. Raises PackageError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own commands
    if done.returncode:
        raise PackageError(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the zips. Print their paths and sizes, and the import time for the architecture of this machine."""
    parser = argparse.ArgumentParser(prog="python -m lambda_worker.package", description="Builds the zips for Lambda.")
    parser.add_argument("--architecture", choices=PLATFORMS, action="append", help="default: all")
    parser.add_argument(
        "--destination", type=Path, default=DESTINATION, help="folder for the zips (default: %(default)s)"
    )
    parser.add_argument("--python", choices=PYTHONS, default=PYTHONS[0], help="default: %(default)s")
    given = parser.parse_args(arguments)
    try:
        for architecture in given.architecture or PLATFORMS:
            path = build(architecture, given.destination, given.python)
            line = f"{path}: {path.stat().st_size / 1e6:.2f} MB for python{given.python}"
            if MACHINES.get(platform.machine()) == architecture:
                line += f", handlers imported in {import_seconds(path, given.python):.2f} s"
            print(line)  # noqa: T201 - a command line tool prints
    except PackageError as error:
        parser.exit(1, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
