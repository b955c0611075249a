"""Writes tables as CSV for spreadsheets. `cells` says which of their cells have to be escaped."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from django.utils.formats import get_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BYTE_ORDER_MARK = "\ufeff"
"""First character of a CSV. Excel does not recognize UTF-8 without it."""


def table_lines(headings: Iterable[str], records: Iterable[Iterable[Any]]) -> Iterator[str]:
    """Yield the lines of a CSV in the active language: the headings, and then each record."""
    # Excel expects semicolons between cells where the decimal separator is a comma.
    writer = csv.writer(_Echo(), delimiter=";" if get_format("DECIMAL_SEPARATOR") == "," else ",")
    yield BYTE_ORDER_MARK + writer.writerow(headings)
    for record in records:
        yield writer.writerow(record)


class _Echo:
    """A file for `csv.writer`, whose `writerow` returns what `write` returns: the line."""

    def write(self, line: str) -> str:
        return line
