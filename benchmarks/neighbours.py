"""`make bench-neighbours`: measures how long a user waits for a page of products while an import runs.

One client sends a GET every 50 ms: without an import, while this worker imports, while it imports with one call per
chunk, and while all rows are sent at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.drain import AT_ONCE, WORKER, rows_of, run
from benchmarks.shop import open_shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shop import Shop

NOTHING = "no import"
ONE_CALL = "one-call"
LABELS = {
    NOTHING: NOTHING,
    WORKER: "this worker",
    ONE_CALL: "this worker, with a concurrency of 1",
    AT_ONCE: "all requests at once",
}
PAUSE_SECONDS = 0.05
WAIT_SECONDS = 30  # timeout of a request; a user would not wait longer


def visit(shop: Shop, over: Event) -> list[float]:
    """Request a page of products until `over` is set. Returns the duration of each request in seconds."""
    took = []
    auth = ("demo", "demo")
    with httpx.Client(base_url=shop.stack.url, auth=auth, timeout=WAIT_SECONDS, trust_env=False) as http:
        while not over.wait(PAUSE_SECONDS):
            began = time.perf_counter()
            try:
                http.get("/products/?page_size=20")
            except httpx.TransportError:
                took.append(float(WAIT_SECONDS))
            else:
                took.append(time.perf_counter() - began)
    return took


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--idle-seconds", type=float, default=20)
    options = parser.parse_args(arguments)
    took: dict[str, list[float]] = {}
    with open_shop() as shop, ThreadPoolExecutor() as threads:
        engine = shop.stack.database_url.partition(":")[0]
        for label in LABELS:
            over = Event()
            visits = threads.submit(visit, shop, over)
            if label == NOTHING:
                time.sleep(options.idle_seconds)
            elif label == ONE_CALL:
                shop.drain(rows_of(label, options.rows), calls=1)
            else:
                run(shop, label, label.replace(" ", "-"), options.rows)
            over.set()
            took[label] = visits.result()
    console = Console(width=110)
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {engine}"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {where}, {options.rows:,} rows")
    table = Table("load", "requests", "p50 ms", "p99 ms", "relative p99", title="Other requests during an import")
    for label, words in LABELS.items():
        times = p99(took[label]) / p99(took[NOTHING])
        p50 = statistics.median(took[label])
        table.add_row(words, str(len(took[label])), f"{p50 * 1e3:.1f}", f"{p99(took[label]) * 1e3:.1f}", f"{times:.1f}")
    console.print(table)
    last = {
        "p99_ratio": round(p99(took[WORKER]) / p99(took[NOTHING]), 2),
        "p99_ratio_of_one_call": round(p99(took[ONE_CALL]) / p99(took[NOTHING]), 2),
        "p99_ratio_at_once": round(p99(took[AT_ONCE]) / p99(took[NOTHING]), 2),
        "rows": options.rows,
        "database": engine,
    }
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
