"""The accept benchmark runs without an error. The sizes are too small for a useful measurement."""

from __future__ import annotations

import json
import subprocess
import sys

from demo.stack import PROJECT


def test_the_accept_benchmark_prints_json_as_its_last_line() -> None:
    command = [sys.executable, "-m", "benchmarks.accept", "--rows", "30", "--runs", "1"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout

    figures = json.loads(printed.splitlines()[-1])
    assert figures["rows"] == 30
    assert {"speedup_over_plain", "times_floor", "extra_memory_over_body"} <= figures.keys()
