"""`make bench-odd`: measures how long the validation of an upload takes if some of its rows are unusual.

The figures are microseconds of processor time per row, the lowest of several runs. Nothing is stored, and no server
runs. To compare two versions, run this module in a checkout of each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import django
from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulk_import.conf import Target

UNUSUAL: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "an invalid price": lambda row: {**row, "price": "-1.00"},
    "a stock such as 3.0": lambda row: {**row, "stock": float(row["stock"])},
    "a barcode": lambda row: {**row, "barcode": "12345678"},
    "a nested value": lambda row: {**row, "extra": [1]},
    "the same SKU": lambda row: {**row, "sku": "BENCH"},
}
COUNTS = (0, 1, 10, 100)
"""How many of 100 rows are unusual."""


def body_lines(rows: int, change: Callable[[dict[str, Any]], dict[str, Any]], count: int) -> list[bytes]:
    """Return rows as JSON, of which `count` of 100 are changed. These are scattered."""
    made = enumerate(make_rows(rows))
    return [json.dumps(change(row) if number * 37 % 100 < count else row).encode() for number, row in made]


def measure(target: Target, lines: list[bytes], runs: int) -> float:
    """Return the microseconds of processor time per row of the fastest run."""
    from rest_framework.test import APIRequestFactory  # noqa: PLC0415 - needs the settings
    from rest_framework.views import APIView  # noqa: PLC0415

    from bulk_import.intake.payload import Payload  # noqa: PLC0415
    from bulk_import.intake.raw_rows import RawRow  # noqa: PLC0415
    from bulk_import.intake.validation import validate_rows  # noqa: PLC0415

    rows = list(map(RawRow, lines))
    took = []
    for _run in range(runs):
        request = APIView().initialize_request(APIRequestFactory().post("/"))
        with Payload() as payload:
            began = time.process_time()
            validate_rows(target, rows, request, payload, skip_invalid=True)
            took.append(time.process_time() - began)
    return min(took) / len(rows) * 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=10)
    options = parser.parse_args(arguments)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.accept_settings")
    django.setup()
    from bulk_import.conf import conf  # noqa: PLC0415 - needs the settings

    figures = {
        what: [
            round(measure(conf().target("products"), body_lines(options.rows, change, count), options.runs), 1)
            for count in COUNTS
        ]
        for what, change in UNUSUAL.items()
    }
    table = Table("unusual rows have", *(f"{count} of 100" for count in COUNTS), title="µs per row")
    for what, by_count in figures.items():
        table.add_row(what, *map(str, by_count))
    Console().print(table)
    sys.stdout.write(json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
