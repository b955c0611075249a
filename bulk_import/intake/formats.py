"""The formats that an import may come in. Each gives raw JSON rows; limits and errors are the same for all.

application/json        an array of rows
application/x-ndjson    a row a line
text/csv                a header row, then a row a line; an empty cell is an absent field
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, NamedTuple, Self

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.json_rows import ROW_TOO_LARGE, split_array
from bulk_import.reports.cells import as_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEBIBYTE = 1024 * 1024
DELIMITERS = b",;\t"
TABLE_GROWTH = 2
"""As JSON, each row of a CSV repeats the names of the columns: so many times the limit of a body, and no more."""
FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*([^\r\n]{0,65535})")
SUFFIXES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
}


class RawRow(NamedTuple):
    """One row as JSON, and the line of the document that it begins at where lines mean something."""

    json: bytes
    line: int | None = None


def split_json(body: bytes) -> Iterator[RawRow]:
    """The elements of a JSON array."""
    return map(RawRow, split_array(body))


def split_lines(body: bytes) -> Iterator[RawRow]:
    """The lines of JSON Lines; blank ones do not count."""
    for number, line in enumerate(io.BytesIO(body), 1):
        if row := line.strip(b" \t\r\n"):
            yield RawRow(row, number)


def split_table(body: bytes) -> Iterator[RawRow]:
    """The records of a CSV, each an object of strings under the names of the header row.

    As spreadsheets write them: with or without a byte order mark, and with comma, semicolon or tab between cells.
    Raises BadImport, naming the line, and BodyTooLarge when the objects together are.
    """
    first_line = FIRST_LINE.match(body)
    delimiter = max(DELIMITERS, key=first_line[1].count) if first_line else DELIMITERS[0]
    lines = RecordLines(body, conf().max_row_bytes)
    records = csv.reader(lines, delimiter=chr(delimiter), strict=True)
    header: list[str] | None = None
    line = 1
    space = TABLE_GROWTH * conf().max_body_bytes
    try:
        for record in records:
            lines.start_record()
            if header is None:
                header = _header(record, line) if any(record) else None
            elif any(record):
                row = _table_row(header, record, line)
                space -= len(row.json)
                if space < 0:
                    message = _("With the names of the columns, the rows are larger than %(limit)s MiB. Send fewer.")
                    limit = TABLE_GROWTH * conf().max_body_bytes // MEBIBYTE
                    raise BodyTooLarge(message % {"limit": limit})
                yield row
            line = records.line_num + 1
    except UnicodeDecodeError as error:
        message = _("The CSV is not in UTF-8 (line %(line)d). Save it as “CSV UTF-8”.")
        raise BadImport(message % {"line": _undecodable_line(body)}) from error
    except csv.Error as error:
        message = _("The CSV cannot be read, line %(line)d: %(reason)s.")
        raise BadImport(message % {"line": line, "reason": error}) from error


class RecordLines:
    """The lines of a CSV, one at a time. Raises BodyTooLarge when those of one record exceed the limit of a row.

    Neither the text as a whole nor a record without end is ever in memory.
    """

    def __init__(self, body: bytes, limit: int) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
        self._limit = limit
        self._line = 0
        self.start_record()

    def start_record(self) -> None:
        self._left = self._limit

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._line += 1
        self._left -= len(line)
        if self._left < 0:
            message = _("The row that ends in line %(line)d or later has more than the %(limit)d bytes allowed.")
            raise BodyTooLarge(message % {"line": self._line, "limit": self._limit}, code=ROW_TOO_LARGE)
        return line


FORMATS: dict[str, Callable[[bytes], Iterator[RawRow]]] = {
    "application/json": split_json,
    "application/x-ndjson": split_lines,
    "text/csv": split_table,
}


def _header(record: list[str], line: int) -> list[str]:
    """The names of the columns. Raises BadImport when one is missing or there twice."""
    names = [name.strip() for name in record]
    for name in names:
        if not name or names.count(name) > 1:
            message = _("The header row (line %(line)d) has a column without a name, or a name twice: “%(name)s”.")
            raise BadImport(message % {"line": line, "name": name}, code="malformed_header")
    return names


def _table_row(header: list[str], record: list[str], line: int) -> RawRow:
    if len(record) > len(header):
        message = _("Line %(line)d has %(cells)d cells, the header row has %(columns)d.")
        message %= {"line": line, "cells": len(record), "columns": len(header)}
        raise BadImport(message, code="too_many_cells")
    row = {name: as_sent(cell) for name, cell in zip(header, record, strict=False) if cell}
    return RawRow(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), line)


def _undecodable_line(body: bytes) -> int:
    """The number of the first line that is not UTF-8."""
    for number, line in enumerate(io.BytesIO(body), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 1
