"""`make matrix`: runs the tests of the monolith's code on each supported Python and Django version.

On each of them, it also installs the wheel and the sdist into an environment of their own, and makes a site with them.

It uses the interpreters that uv or pyenv have on this machine. It downloads none, and names those that are missing.
Each pair of versions has its own environment in .local/environments, with all other packages as pinned.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = PROJECT / ".local" / "environments"
UV = Path(sys.executable).parent / "uv"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
DJANGOS = {"django~=5.2.0": (3, 11), "django~=6.0.0": (3, 12), "django~=6.1.0": (3, 12)}
"""Django versions to install, and the oldest Python version that each supports."""

DRFS = ("djangorestframework~=3.17.2", "djangorestframework~=3.18.0")
"""Release lines of DRF. The oldest Django version runs with both, the others with the newest."""

TESTS = ("tests/bulk_import", "tests/products", "tests/import_page", "tests/settings", "tests/pipeline")


def find(version: str) -> str | None:
    """Return the path of the interpreter of a version, or None if there is none on this machine."""
    options = ["--no-python-downloads", "--system", version]
    found = subprocess.run([UV, "python", "find", *options], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return found.stdout.strip()
    kept = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions").glob(f"{version}.*/bin/python")
    )
    return str(kept[-1]) if kept else None


def install(interpreter: str, environment: Path, django: str, drf: str) -> Path:
    """Create an environment and return the path of its Python."""
    python = environment / "bin" / "python"
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", interpreter, environment], check=True)
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, "-r", PROJECT / "requirements-dev.txt"], check=True)
    subprocess.run([*install, "--upgrade", django, drf], check=True)
    return python


def build() -> dict[str, Path]:
    """Build the wheel and the sdist, and return their paths."""
    folder = ENVIRONMENTS.parent / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([UV, "build", "--quiet", "--out-dir", folder, PROJECT], check=True)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


def makes_a_site(interpreter: str, environment: Path, django: str, drf: str, package: Path) -> bool:
    """Install the package into an environment of its own, and return whether a new site starts with it."""
    python = environment / "bin" / "python"
    shutil.rmtree(environment, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", interpreter, environment], check=True)
    install: list[str | Path] = [UV, "pip", "install", "--quiet", "--python", python]
    subprocess.run([*install, django, drf, f"{package}[worker,spreadsheets,page]"], check=True)
    made = subprocess.run([python, PROJECT / "tests" / "new_site.py", environment / "site"], check=False)
    return made.returncode == 0


def main(tests: list[str]) -> int:
    """Run the tests for all pairs. Returns 0 if at least one pair could run and none failed."""
    table = Table("Python", "Django", "DRF", "tests", "seconds", title="Versions")
    codes, packages = [], build()
    for version in PYTHONS:
        interpreter = find(version)
        pairs = [(django, DRFS[-1]) for django in DJANGOS] + [(next(iter(DJANGOS)), DRFS[0])]
        for django, drf in pairs:
            if tuple(map(int, version.split("."))) < DJANGOS[django]:
                continue
            if interpreter is None:
                table.add_row(version, django, drf, "interpreter not found", "")
                continue
            python = install(interpreter, ENVIRONMENTS / f"matrix-{version}-{django}-{drf}", django, drf)
            code = "import sys, django, rest_framework as drf; "
            code += "print(sys.version.split()[0], django.__version__, drf.VERSION)"
            names = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
            began = time.monotonic()
            run = subprocess.run([python, "-m", "pytest", "-q", *(tests or TESTS)], cwd=PROJECT, check=False)
            codes.append(run.returncode)
            verdict = "failed" if run.returncode else "passed"
            table.add_row(*names, verdict, f"{time.monotonic() - began:.0f}")
            for kind, package in packages.items():
                works = makes_a_site(
                    interpreter, ENVIRONMENTS / f"{kind}-{version}-{django}-{drf}", django, drf, package
                )
                codes.append(0 if works else 1)
                table.add_row(*names, f"{kind} {'works' if works else 'fails'}", "")
    Console().print(table)
    return 0 if codes and not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
