"""The benchmark of a row's cost runs without an error. One run is too few for a useful measurement."""

from __future__ import annotations

import json
import subprocess
import sys

from demo.stack import PROJECT


def test_the_row_cost_benchmark_prints_json_as_its_last_line() -> None:
    command = [sys.executable, "-m", "benchmarks.row_cost", "--rows", "100", "--runs", "1"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout

    figures = json.loads(printed.splitlines()[-1])
    assert 0 < figures["ledger_share_batches"] < 1
    assert figures["batch_ratio"] > 0
