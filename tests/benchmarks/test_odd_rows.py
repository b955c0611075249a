"""The benchmark of unusual rows runs without an error. The sizes are too small for a useful measurement."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.odd_rows import COUNTS, UNUSUAL, body_lines
from demo.stack import PROJECT


def test_the_benchmark_of_unusual_rows_prints_a_figure_for_each_kind_and_share() -> None:
    command = [sys.executable, "-m", "benchmarks.odd_rows", "--rows", "100", "--runs", "1"]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout

    figures = json.loads(printed.splitlines()[-1])
    assert figures.keys() == UNUSUAL.keys()
    assert all(len(by_count) == len(COUNTS) and min(by_count) > 0 for by_count in figures.values())


def test_so_many_of_100_rows_are_unusual() -> None:
    for change in UNUSUAL.values():
        usual = body_lines(100, lambda row: row, 0)
        for count in COUNTS:
            lines = body_lines(100, change, count)
            assert sum(line != before for line, before in zip(lines, usual, strict=True)) == count
