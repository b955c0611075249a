"""`make bench-neighbours`: measures how long the visitors of a shop wait while an import runs.

Several visitors use the shop at the same time: a page of products, one product, a new product. They are measured
without an import, with an import with the default settings, with batches, with imports with a fixed number of calls in
flight, and with calls at equal intervals. The rate of each import is compared with the ceiling: `wrk`, which sends one
call per row while nobody visits the shop.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, cycle
from statistics import quantiles
from typing import TYPE_CHECKING

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.drain import CEILING, rows_of, run
from benchmarks.shop import importing, open_shop, pacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from benchmarks.shop import Shop

VISITORS = 4
PAUSE_SECONDS = 0.1
"""Mean pause of a visitor between two requests. Together the visitors use about a fifth of the server's core."""

PRODUCTS = 100  # number of products that the shop has at the beginning

METHODS = ("GET", "POST")  # of the visitors

WAIT_SECONDS = 30  # timeout of a request; a visitor would not wait longer

NOTHING, DEFAULTS, BATCHES, PACED = "no import", "default", "batches", "paced"
SETTINGS: dict[str, int | None] = {DEFAULTS: None, BATCHES: None, "1-call": 1, "4-calls": 4, PACED: None}
"""The imports that are measured, with the cap for the calls in flight per chunk. Two chunks run at the same time.

PACED is no import. It sends one call per row at equal intervals, and shows how much any sender of this rate must
disturb the visitors.
"""


@dataclass
class Measurement:
    seconds: list[tuple[str, float]]  # the method of each request of a visitor, and how long it took
    rows_a_second: float = 0.0

    def percentile(self, percent: int, *methods: str) -> float:
        """Return this percentile of the visitors' requests with these methods, or of all, in seconds."""
        return quantiles([second for method, second in self.seconds if method in (methods or METHODS)], n=100)[
            percent - 1
        ]


def requests_of(visitor: str) -> Iterator[tuple[str, str, dict[str, object] | None]]:
    """Return the requests that a visitor makes, one after the other: method, path and body."""
    for number, row in zip(count(1), cycle(rows_of(visitor, 100))):
        yield "GET", "/products/?page_size=20", None
        yield "GET", f"/products/{number % PRODUCTS + 1}/", None
        yield "POST", "/products/", row | {"sku": f"{visitor}-{time.time_ns()}"}


def visit(url: str, visitor: str, requests: int) -> list[tuple[str, float]]:
    """Make so many requests to the shop, with pauses. Returns the method and the duration of each in seconds."""
    took = []
    chance = random.Random(visitor)  # noqa: S311 - not used for security
    with httpx.Client(base_url=url, auth=("demo", "demo"), timeout=WAIT_SECONDS, trust_env=False) as http:
        for _request, (method, path, body) in zip(range(requests), requests_of(visitor), strict=False):
            time.sleep(chance.expovariate(1 / PAUSE_SECONDS))
            began = time.perf_counter()
            try:
                http.request(method, path, json=body).raise_for_status()
            except httpx.TransportError:
                took.append((method, float(WAIT_SECONDS)))
            else:
                took.append((method, time.perf_counter() - began))
    return took


def visit_together(shop: Shop, requests: int, prefix: str, url: str) -> Measurement:
    """Let all visitors of the monolith at this URL make so many requests together.

    The rate is that of the products with the prefix, which are being created meanwhile.
    """
    created_before, began = shop.created(prefix), time.monotonic()
    with ThreadPoolExecutor(VISITORS) as threads:
        share = -(-requests // VISITORS)
        visits = [threads.submit(visit, url, f"VISITOR{prefix}{who}", share) for who in range(VISITORS)]
        seconds = [second for visit in visits for second in visit.result()]
    rate = (shop.created(prefix) - created_before) / (time.monotonic() - began)
    return Measurement(seconds, rate)


def sending(shop: Shop, label: str, rows: list[dict[str, Any]], calls_a_second: float) -> AbstractContextManager[None]:
    """Return a context manager that sends rows as the label says. `calls_a_second` is the rate of PACED."""
    if label == PACED:
        return pacing(shop, rows, shop.single, calls_a_second)
    return importing(shop, rows, shop.batches if label == BATCHES else shop.single, SETTINGS[label])


def measure(shop: Shop, options: argparse.Namespace) -> tuple[float, dict[str, Measurement]]:
    """Return the ceiling in rows a second, and the measurement without an import and of each of these imports."""
    for row in rows_of("OLD", PRODUCTS):
        shop.http.post("/products/", json=row).raise_for_status()
    measurements = {NOTHING: visit_together(shop, options.requests, "IDLE", shop.single.url)}
    run(shop, CEILING, "CEILING", options.ceiling_rows)
    ceiling = shop.rows_a_second("CEILING")
    for number, label in enumerate(options.imports):
        prefix, monolith = f"SET{number}", shop.batches if label == BATCHES else shop.single
        with sending(shop, label, rows_of(prefix, options.rows), options.paced_share * ceiling):
            while not shop.created(prefix):
                time.sleep(0.1)
            measurements[label] = visit_together(shop, options.requests, prefix, monolith.url)
            if shop.created(prefix) == options.rows:
                raise RuntimeError("The import ended before the visitors were done. Use more --rows.")
    return ceiling, measurements


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="requests of all visitors per measurement")
    parser.add_argument("--rows", type=int, default=30_000, help="rows of an import, which is cancelled at the end")
    parser.add_argument("--ceiling-rows", type=int, default=2_000)
    parser.add_argument("--imports", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="which to measure")
    parser.add_argument("--paced-share", type=float, default=0.6, help="rate of `paced`, as a share of the ceiling")
    parser.add_argument("--view-waits-ms", type=int, default=0, help="how long each view waits for its database")
    parser.add_argument("--threads", type=int, default=4, help="threads of each of the two processes of the server")
    options = parser.parse_args(arguments)
    with open_shop(VIEW_WAITS_MS=str(options.view_waits_ms), GUNICORN_THREADS=str(options.threads)) as shop:
        database = shop.stack.database_url.partition(":")[0]
        ceiling, measurements = measure(shop, options)
    idle = measurements[NOTHING]
    console = Console(width=120)
    load = " ".join(f"{load:.1f}" for load in os.getloadavg())
    where = f"{os.cpu_count()} cores, load averages {load}, Python {platform.python_version()}, {database}"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {where}")
    title = f"{VISITORS} visitors, {options.requests:,} requests; ceiling {ceiling:.0f} rows a second"
    columns = ["p50 ms", "p95 ms", "p99 ms", "p95 / idle", "p99 / idle", *(f"p99 / idle, {name}" for name in METHODS)]
    table = Table("import", *columns, "rows a second", "of the ceiling")
    table.title = title
    for label, found in measurements.items():
        ms = [f"{found.percentile(percent) * 1e3:.1f}" for percent in (50, 95, 99)]
        ratios = [f"{found.percentile(percent) / idle.percentile(percent):.1f}" for percent in (95, 99)]
        ratios += [f"{found.percentile(99, method) / idle.percentile(99, method):.1f}" for method in METHODS]
        rates = [f"{found.rows_a_second:.0f}", f"{found.rows_a_second / ceiling:.2f}"] if label != NOTHING else []
        table.add_row(label, *ms, *ratios, *rates)
    console.print(table)
    last: dict[str, object] = {"database": database}
    for label, ending in [(DEFAULTS, ""), (BATCHES, "_batches")]:
        if label in measurements:
            found = measurements[label]
            last[f"p99_ratio{ending}"] = round(found.percentile(99) / idle.percentile(99), 2)
            last[f"p95_ratio{ending}"] = round(found.percentile(95) / idle.percentile(95), 2)
            last[f"ratio_to_ceiling{ending}"] = round(found.rows_a_second / ceiling, 3)
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
