"""The formats of an upload. Each format is turned into raw JSON rows, so limits and errors are the same for all.

application/json        an array of rows
application/x-ndjson    JSON Lines: one row per line
text/csv and others     a table: a CSV or a workbook, see `spreadsheets`; an empty cell is an absent field

The bytes of a file say what it is. Its name and its media type only decide between JSON, JSON Lines and CSV.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport
from bulk_import.intake.json_rows import split_array
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.spreadsheets.file_kinds import is_workbook, name_other_kind
from bulk_import.intake.upload_limits import max_lines, too_many_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JSON, JSON_LINES, TABLE = "application/json", "application/x-ndjson", "text/csv"
"""The media types of the three formats."""

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS = "application/vnd.ms-excel"
ODS = "application/vnd.oasis.opendocument.spreadsheet"

MEDIA_TYPES = {
    JSON: JSON,
    JSON_LINES: JSON_LINES,
    **dict.fromkeys((TABLE, "text/tab-separated-values", XLSX, XLS, ODS), TABLE),
}
"""The format of each media type that an upload may have."""

SUFFIXES = {
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    **dict.fromkeys((".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".xls", ".ods"), TABLE),
}
"""The format of each suffix that the name of a file may have."""

JSON_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*\{")
JSON_LINES_START = re.compile(rb"\s*\{\s*\"")


def format_of(body: bytes, media_type: str) -> str:
    """Return the format of a body: JSON, JSON_LINES or TABLE. `media_type` is one of these, as its sender says.

    Raises BadImport if the body is a file of a kind that cannot be imported, such as an image.
    """
    if kind := name_other_kind(body):
        message = _("This is %(kind)s. Send a spreadsheet (.xlsx, .xls, .ods), CSV, JSON or JSON Lines.")
        raise BadImport(message % {"kind": kind}, code="not_a_table")
    if is_workbook(body):
        return TABLE
    if media_type == TABLE:
        if JSON_START.match(body):
            return JSON
        if JSON_LINES_START.match(body):
            return JSON_LINES
    return media_type


def split_lines(body: bytes) -> Iterator[RawRow]:
    """Yield the lines of JSON Lines, without blank ones. Raises BodyTooLarge if there are too many lines."""
    limit = max_lines()
    for number, line in enumerate(io.BytesIO(body), 1):
        if number > limit:
            raise too_many_lines()
        if row := line.strip(b" \t\r\n"):
            yield RawRow(row, number)


SPLITTERS: dict[str, Callable[[bytes], Iterator[RawRow]]] = {JSON: split_array, JSON_LINES: split_lines}
"""The functions that split JSON and JSON Lines into rows."""


def empty_file(media_type: str) -> BadImport:
    """Return the error for an upload without any content."""
    hints = {
        JSON: _("Send a JSON array with at least one row."),
        JSON_LINES: _("Send at least one line with a JSON object."),
        TABLE: _("Send a header row with the names of the columns, and at least one row."),
    }
    problem = _("This file is empty.")  # not inside the f-string, where makemessages would not find it
    return BadImport(f"{problem} {hints[media_type]}", code="empty_body")
