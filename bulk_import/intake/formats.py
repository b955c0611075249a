"""The formats of an upload. Each format is turned into raw JSON rows, so limits and errors are the same for all.

application/json        an array of rows
application/x-ndjson    JSON Lines: one row per line
text/csv                a header row with the field names, then one row per line; an empty cell is an absent field
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from typing import TYPE_CHECKING, NamedTuple, Self

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.json_rows import ROW_TOO_LARGE, split_array
from bulk_import.intake.parser_reasons import plain_reason
from bulk_import.intake.upload_limits import check_values, max_lines, too_many_lines
from bulk_import.reports.cells import unescape_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEBIBYTE = 1024 * 1024
DELIMITERS = b",;\t"
FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*([^\r\n]{0,65535})")

MAX_CSV_GROWTH = 2
"""Maximum size of all JSON rows of a CSV together, as a multiple of MAX_BODY_BYTES.

Each JSON row repeats the names of the columns, so a small CSV with long names could become very large.
"""

SUFFIXES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
}


class RawRow(NamedTuple):
    """One row as JSON, and the number of the line where it begins. A row of a JSON array has no line number."""

    json: bytes
    line: int | None = None
    has_cells: bool = False  # whether the values are the texts of cells


def split_json(body: bytes) -> Iterator[RawRow]:
    """Yield the elements of a JSON array."""
    return map(RawRow, split_array(body))


def split_lines(body: bytes) -> Iterator[RawRow]:
    """Yield the lines of JSON Lines, without blank ones. Raises BodyTooLarge if there are too many lines."""
    limit = max_lines()
    for number, line in enumerate(io.BytesIO(body), 1):
        if number > limit:
            raise too_many_lines()
        if row := line.strip(b" \t\r\n"):
            yield RawRow(row, number)


def split_table(body: bytes) -> Iterator[RawRow]:
    """Yield the records of a CSV, each as an object of strings. The header row gives the names.

    Reads what spreadsheets write: with or without a byte order mark, and with a comma, a semicolon or a tab between
    the cells. Raises BadImport with the line, and BodyTooLarge if one row or all rows together are too large, or if
    there are too many lines or cells.
    """
    check_values(body.count(b"'"), conf().max_rows)  # each apostrophe costs `unescape_cell` time
    lines = RecordLines(body, conf().max_row_bytes)
    records = csv.reader(lines, delimiter=_delimiter(body), strict=True)
    header: list[str] | None = None
    line = 1
    max_bytes = MAX_CSV_GROWTH * conf().max_body_bytes
    total_bytes = rows = cells = 0
    try:
        for record in records:
            lines.start_record()
            cells += len(record)
            check_values(cells, rows)
            if header is None:
                header = _header(record, line) if any(record) else None
            elif any(record):
                row = _table_row(header, record, line)
                total_bytes += len(row.json)
                if total_bytes > max_bytes:
                    message = _(
                        "This CSV is too large: with the column names in every row, it exceeds %(limit)s MB. "
                        "Split it into several files."
                    )
                    raise BodyTooLarge(message % {"limit": max_bytes // MEBIBYTE})
                rows += 1
                yield row
            line = records.line_num + 1
    except UnicodeDecodeError as error:
        message = _("This CSV is not in UTF-8 (line %(line)d). Save it as “CSV UTF-8” and send it again.")
        raise BadImport(message % {"line": _undecodable_line(body)}) from error
    except csv.Error as error:
        message = _("The row at line %(line)d of this CSV cannot be read: %(reason)s. Check its quotation marks.")
        raise BadImport(message % {"line": line, "reason": plain_reason(str(error))}) from error


class RecordLines:
    """Iterates over the lines of a CSV.

    Raises BodyTooLarge if a record has more than `max_row_bytes`, or if the CSV has more than `max_lines` lines.

    A record may span many lines, because a quoted cell may contain line breaks. Neither the whole text nor an
    endless record is ever in memory.
    """

    def __init__(self, body: bytes, max_row_bytes: int) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
        self._max_row_bytes = max_row_bytes
        self._line = 0
        self._max_lines = max_lines()
        self.start_record()

    def start_record(self) -> None:
        """Count from zero again, because the next line begins a new record."""
        self._remaining = self._max_row_bytes

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._remaining + 1)
        if not line:
            raise StopIteration
        self._line += 1
        if self._line > self._max_lines:
            raise too_many_lines()
        self._remaining -= len(line)
        if self._remaining < 0:
            message = _(
                "The row that includes line %(line)d has more than %(limit)d bytes, which is the limit for one row. "
                "Check whether a closing quotation mark is missing."
            )
            raise BodyTooLarge(message % {"line": self._line, "limit": self._max_row_bytes}, code=ROW_TOO_LARGE)
        return line


FORMATS: dict[str, Callable[[bytes], Iterator[RawRow]]] = {
    "application/json": split_json,
    "application/x-ndjson": split_lines,
    "text/csv": split_table,
}
"""The function that splits an upload of each media type into rows."""


def empty_file(media_type: str) -> BadImport:
    """Return the error for an upload without any content."""
    hints = {
        "application/json": _("Send a JSON array with at least one row."),
        "application/x-ndjson": _("Send at least one line with a JSON object."),
        "text/csv": _("Send a header row with the names of the columns, and at least one row."),
    }
    problem = _("This file is empty.")  # not inside the f-string, where makemessages would not find it
    return BadImport(f"{problem} {hints[media_type]}", code="empty_body")


def _delimiter(body: bytes) -> str:
    """Return the delimiter that occurs most often in the first line that is not blank."""
    first_line = FIRST_LINE.match(body)
    return chr(max(DELIMITERS, key=first_line[1].count) if first_line else DELIMITERS[0])


def _header(record: list[str], line: int) -> list[str]:
    """Return the names of the columns. Raises BadImport if a name is missing or occurs twice."""
    names = [name.strip() for name in record]
    seen: set[str] = set()
    for name in names:
        if not name:
            message = _("A column of the header row (line %(line)d) has no name. Give every column a name.")
            raise BadImport(message % {"line": line}, code="malformed_header")
        if name in seen:
            message = _("Two columns of the header row (line %(line)d) are named “%(name)s”. Rename or remove one.")
            raise BadImport(message % {"line": line, "name": name}, code="malformed_header")
        seen.add(name)
    return names


def _table_row(header: list[str], record: list[str], line: int) -> RawRow:
    if len(record) > len(header):
        message = _(
            "Line %(line)d has %(cells)d cells, but the header row has only %(columns)d. Remove the extra cells. "
            "If a text contains the separator, put the text in quotation marks."
        )
        message %= {"line": line, "cells": len(record), "columns": len(header)}
        raise BadImport(message, code="too_many_cells")
    row = {name: unescape_cell(cell) for name, cell in zip(header, record, strict=False) if cell}
    return RawRow(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), line, has_cells=True)


def _undecodable_line(body: bytes) -> int:
    """Return the number of the first line that is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), MEBIBYTE):
        incomplete = len(decoder.getstate()[0])  # bytes of a character that began in the previous piece
        try:
            decoder.decode(body[start : start + MEBIBYTE])
        except UnicodeDecodeError as error:
            return body.count(b"\n", 0, start - incomplete + error.start) + 1
    return body.count(b"\n") + 1
