"""Tests of `make demo`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(240)


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", "run", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_the_sample_catalogue_is_imported_and_reported() -> None:
    done = demo()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "141 of 153 products were created" in done.stdout
    assert "There is no category “kayaks”." in done.stdout


def test_another_file_can_be_imported(tmp_path: Path) -> None:
    mug = {"name": "Mug", "price": 9.5, "currency": "BRL", "category": "cookware"}
    rows = [{"sku": "MINE-1", **mug}, {"sku": "MINE-2", **mug}]
    own = tmp_path / "own.json"
    own.write_text(json.dumps(rows))
    done = demo(str(own))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "All 2 products were created." in done.stdout


def test_the_reasons_for_a_refused_file_are_printed(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('[{"sku": "MINE"}]')
    done = demo(str(own))

    assert done.returncode == 1
    assert "invalid_rows" in done.stdout


def test_a_missing_file_is_an_error() -> None:
    done = demo("nowhere.json")

    assert done.returncode == 2
    assert "there is no file nowhere.json" in done.stderr
