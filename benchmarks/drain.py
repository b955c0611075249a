"""`make bench-drain`: measures how many rows a second become products.

It compares the worker with the most that the endpoint can do, and with simpler ways of sending the rows. The contenders
take turns within one run. A row without a product at the end counts as lost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows
from benchmarks.shop import BASIC, IN_FLIGHT, compact, open_shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shop import Shop

WORKER, BATCHES, CEILING, WITHOUT_LEDGER = "worker", "batches", "ceiling", "without"
ONE_BY_ONE, AT_ONCE, IMPORT_EXPORT = "one", "at once", "import-export"
FAR_WORKER, FAR_BATCHES = "far worker", "far batches"
LABELS = {
    WORKER: "this worker, one call per row",
    BATCHES: "this worker, batches",
    CEILING: f"ceiling: wrk with {IN_FLIGHT} calls in flight, same headers and bodies",
    WITHOUT_LEDGER: f"wrk with {IN_FLIGHT} calls in flight, without the ledger",
    ONE_BY_ONE: "one request after the other",
    AT_ONCE: "all requests at once (Node, Promise.allSettled)",
    IMPORT_EXPORT: "django-import-export, without the endpoint",
}
FAR_LABELS = {
    FAR_WORKER: "this worker, one call per row, with the round trip",
    FAR_BATCHES: "this worker, batches, with the round trip",
}


def rows_of(prefix: str, count: int) -> list[dict[str, Any]]:
    return [{**row, "sku": f"{prefix}-{number}"} for number, row in enumerate(make_rows(count))]


def run(shop: Shop, contender: str, prefix: str, count: int, round_trip_ms: float = 0) -> float:
    """Let a contender create its rows. Return the monolith's processor time in seconds, or 0.0 if it is not of use."""
    rows = rows_of(prefix, count)
    if contender in {WORKER, FAR_WORKER}:
        return shop.drain(rows, shop.single, round_trip_ms)
    if contender in {BATCHES, FAR_BATCHES}:
        return shop.drain(rows, shop.batches, round_trip_ms)
    if contender == CEILING:
        shop.storm(shop.calls_of_a_worker(rows), prefix)
    elif contender == WITHOUT_LEDGER:
        shop.storm([({"Authorization": BASIC}, compact(row)) for row in rows], prefix)
    elif contender == IMPORT_EXPORT:
        shop.import_export(rows)
    elif contender == ONE_BY_ONE:
        for row in rows:
            shop.http.post("/products/", json=row)
    else:
        path = shop.stack.folder / "rows.json"
        path.write_text(json.dumps(rows))
        shop.all_at_once(path).wait()
    return 0.0


@dataclass
class Figures:
    """The measurements of one contender."""

    rates: list[float] = field(default_factory=list)  # rows a second
    cpu_per_row: list[float] = field(default_factory=list)  # seconds of the monolith's processor time
    lost: int = 0

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)


def measure(shop: Shop, counts: dict[str, int], runs: int, round_trip_ms: float) -> dict[str, Figures]:
    """Let the contenders take turns, each with its number of rows."""
    figures = {contender: Figures() for contender in counts}
    for number in range(runs):
        for place, (contender, count) in enumerate(counts.items()):
            if contender == AT_ONCE and number:
                continue
            prefix, found = f"RUN{number}X{place}", figures[contender]
            delay = round_trip_ms if contender in FAR_LABELS else 0
            found.cpu_per_row.append(run(shop, contender, prefix, count, delay) / count)
            found.rates.append(shop.rows_a_second(prefix))
            found.lost += count - shop.created(prefix)
    return figures


def summary(figures: dict[str, Figures], round_trip_ms: float) -> dict[str, Any]:
    """Return the figures for which docs/performance.md has goals."""
    rates = {contender: found.rate for contender, found in figures.items()}
    cpu = {contender: statistics.median(found.cpu_per_row) for contender, found in figures.items()}
    last = {
        "ratio_to_ceiling": round(rates[WORKER] / rates[CEILING], 3),
        "rows_lost": figures[WORKER].lost + figures[BATCHES].lost,
        "rows_lost_at_once": figures[AT_ONCE].lost,
        "ledger_cost": round(1 - rates[CEILING] / rates[WITHOUT_LEDGER], 3),
        "times_single_calls": round(rates[BATCHES] / rates[CEILING], 2),
        "cpu_per_row_ratio": round(cpu[BATCHES] / cpu[WORKER], 2) if cpu[WORKER] else None,
        "times_import_export": round(rates[BATCHES] / rates[IMPORT_EXPORT], 2),
    }
    if round_trip_ms:
        last["round_trip_ms"] = round_trip_ms
        last["round_trip_ratio_single"] = round(rates[FAR_WORKER] / rates[WORKER], 3)
        last["round_trip_ratio_batches"] = round(rates[FAR_BATCHES] / rates[BATCHES], 3)
    return last


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--rows-at-once", type=int, default=10_000, help="for all requests at once")
    parser.add_argument("--rows-one-by-one", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--round-trip-ms", type=float, default=0, help="also measure the worker behind a slow network")
    options = parser.parse_args(arguments)
    labels = LABELS | FAR_LABELS if options.round_trip_ms else LABELS
    counts = dict.fromkeys(labels, options.rows)
    counts |= {ONE_BY_ONE: options.rows_one_by_one, AT_ONCE: options.rows_at_once}
    with open_shop() as shop:
        engine = shop.stack.database_url.partition(":")[0]
        figures = measure(shop, counts, options.runs, options.round_trip_ms)
    console = Console(width=110)
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {engine}"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {where}")
    table = Table("contender", "rows a second", "of the ceiling", "ms CPU a row", "rows lost", title="Drain")
    for contender, found in figures.items():
        share, ms = found.rate / figures[CEILING].rate, 1e3 * statistics.median(found.cpu_per_row)
        cpu = f"{ms:.2f}" if ms else ""
        table.add_row(labels[contender], f"{found.rate:.0f}", f"{share:.2f}", cpu, f"{found.lost:,}")
    console.print(table)
    last = {**summary(figures, options.round_trip_ms), "rows": options.rows, "database": engine}
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
