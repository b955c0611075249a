"""The benchmark of hostile bodies runs without an error. One body is too few for a useful measurement."""

from __future__ import annotations

import json
import subprocess
import sys

from demo.stack import PROJECT


def test_the_hostile_benchmark_prints_json_as_its_last_line() -> None:
    command = [sys.executable, "-m", "benchmarks.hostile", "--only", "empty objects", "--runs", "1"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout

    figures = json.loads(printed.splitlines()[-1])
    assert figures["bodies"] == 1
    assert {"processor_seconds", "neighbour_p99_seconds", "storm_p99_seconds"} <= figures.keys()
