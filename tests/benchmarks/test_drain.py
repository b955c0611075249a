"""The benchmarks run without an error. The sizes are too small for a useful measurement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from demo.stack import PROJECT

pytestmark = [
    pytest.mark.skipif(not (shutil.which("wrk") and shutil.which("node")), reason="needs wrk and node"),
    pytest.mark.timeout(300),
]


def figures(benchmark: str, *sizes: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *sizes]
    printed = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    last: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return last


def test_the_client_benchmark_prints_json_as_its_last_line() -> None:
    last = figures("clients", "--rows", "40", "--runs", "1")

    assert {"microseconds", "times_less_than_httpx", "times_aiohttp"} <= last.keys()


def test_the_memory_benchmark_prints_json_as_its_last_line() -> None:
    last = figures("worker_memory", "--rows", "1500")

    assert last["rows"] == 1500
    assert 0 < last["mebibytes_chunk"] <= last["mebibytes_job"] < 256


@pytest.mark.skipif(not find_spec("import_export"), reason="needs django-import-export")
def test_the_drain_benchmark_prints_json_as_its_last_line() -> None:
    sizes = ["--rows", "20", "--runs", "1", "--rows-at-once", "10", "--rows-one-by-one", "5"]
    last = figures("drain", *sizes, "--round-trip-ms", "5")

    assert (last["rows_lost"], last["rows_lost_at_once"]) == (0, 0)
    assert {"ratio_to_ceiling", "ledger_cost"} <= last.keys()
    assert {"times_single_calls", "cpu_per_row_ratio", "times_import_export"} <= last.keys()
    assert {"round_trip_ratio_batches", "round_trip_ratio_single"} <= last.keys()


def test_the_neighbours_benchmark_prints_json_as_its_last_line() -> None:
    sizes = ["--requests", "12", "--rows", "1000", "--ceiling-rows", "20"]
    last = figures("neighbours", "--imports", "default", "paced", *sizes)

    assert {"p99_ratio", "p95_ratio", "ratio_to_ceiling", "database"} == last.keys()
    assert last["ratio_to_ceiling"] > 0
