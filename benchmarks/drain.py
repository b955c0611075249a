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
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows
from benchmarks.shop import BASIC, IN_FLIGHT, compact, open_shop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.shop import Shop

WORKER, CEILING, WITHOUT_LEDGER, ONE_BY_ONE, AT_ONCE = "worker", "ceiling", "without", "one", "at once"
LABELS = {
    WORKER: "this worker",
    CEILING: f"ceiling: wrk with {IN_FLIGHT} calls in flight, same headers and bodies",
    WITHOUT_LEDGER: f"wrk with {IN_FLIGHT} calls in flight, without the ledger",
    ONE_BY_ONE: "one request after the other",
    AT_ONCE: "all requests at once (Node, Promise.allSettled)",
}


def rows_of(prefix: str, count: int) -> list[dict[str, Any]]:
    return [{**row, "sku": f"{prefix}-{number}"} for number, row in enumerate(make_rows(count))]


def run(shop: Shop, contender: str, prefix: str, count: int) -> None:
    """Let a contender create its rows."""
    rows = rows_of(prefix, count)
    if contender == WORKER:
        shop.drain(rows)
    elif contender == CEILING:
        shop.storm(shop.calls_of_a_worker(rows), prefix)
    elif contender == WITHOUT_LEDGER:
        shop.storm([({"Authorization": BASIC}, compact(row)) for row in rows], prefix)
    elif contender == ONE_BY_ONE:
        for row in rows:
            shop.http.post("/products/", json=row)
    else:
        path = shop.stack.folder / "rows.json"
        path.write_text(json.dumps(rows))
        shop.all_at_once(path).wait()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    parser.add_argument("--rows", type=int, default=3_000)
    parser.add_argument("--rows-at-once", type=int, default=10_000, help="for all requests at once")
    parser.add_argument("--rows-one-by-one", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    counts = {ONE_BY_ONE: options.rows_one_by_one, AT_ONCE: options.rows_at_once}
    rates: dict[str, list[float]] = {contender: [] for contender in LABELS}
    lost = dict.fromkeys(LABELS, 0)
    with open_shop() as shop:
        engine = shop.stack.database_url.partition(":")[0]
        for number in range(options.runs):
            for place, contender in enumerate(LABELS):
                if contender == AT_ONCE and number:
                    continue
                prefix, count = f"RUN{number}X{place}", counts.get(contender, options.rows)
                run(shop, contender, prefix, count)
                rates[contender].append(shop.rows_a_second(prefix))
                lost[contender] += count - shop.created(prefix)
    medians = {contender: statistics.median(figures) for contender, figures in rates.items()}
    console = Console(width=110)
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, {engine}"
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {where}")
    table = Table("contender", "rows a second", "of the ceiling", "rows lost", title="Drain")
    for contender, label in LABELS.items():
        share = medians[contender] / medians[CEILING]
        table.add_row(label, f"{medians[contender]:.0f}", f"{share:.2f}", f"{lost[contender]:,}")
    console.print(table)
    last = {
        "ratio_to_ceiling": round(medians[WORKER] / medians[CEILING], 3),
        "rows_lost": lost[WORKER],
        "rows_lost_at_once": lost[AT_ONCE],
        "ledger_cost": round(1 - medians[CEILING] / medians[WITHOUT_LEDGER], 3),
        "rows": options.rows,
        "database": engine,
    }
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
