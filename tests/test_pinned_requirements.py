"""The pinned requirements: each has hashes, and `make sbom` lists all of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
FILES = sorted(
    str(path.relative_to(PROJECT))
    for pattern in ("requirements*.txt", "lambda_worker/requirements.txt", "tests/**/requirements.txt")
    for path in PROJECT.glob(pattern)
)


def pins(file: str) -> dict[str, int]:
    """Return the number of hashes of each pin of a requirements file."""
    logical_lines = (PROJECT / file).read_text().replace("\\\n", "").splitlines()
    return {line.split()[0]: line.count("--hash=sha256:") for line in logical_lines if re.match(r"[A-Za-z]", line)}


@pytest.mark.parametrize("file", FILES)
def test_every_pin_has_hashes(file: str) -> None:
    assert pins(file)
    assert [pin for pin, hashes in pins(file).items() if not hashes] == []


def test_make_lock_writes_all_these_files_with_hashes() -> None:
    commands = re.findall(r"uv pip compile .*", (PROJECT / "Makefile").read_text())

    assert sorted(command.split()[-1] for command in commands) == FILES
    assert all("--generate-hashes" in command for command in commands)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_sbom_lists_all_pins() -> None:
    run = ["make", "--old-file=.venv/.dev", "sbom"]  # the environment is as it should be, since this test runs in it
    done = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for file, requirements in zip(
        done.stdout.split(), ("lambda_worker/requirements.txt", "requirements.txt"), strict=True
    ):
        document = json.loads((PROJECT / file).read_text())
        assert document["bomFormat"] == "CycloneDX"
        listed = {f"{component['name']}=={component['version']}" for component in document["components"]}
        assert listed == set(pins(requirements))
