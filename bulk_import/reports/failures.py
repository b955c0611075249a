"""The rows of a job that were not created, in the formats of the download.

JSON Lines     the lines as the worker stored them, or only the rows, byte for byte
CSV            for spreadsheets

A CSV, and the rows alone, can be corrected and sent again. Everything works line by line, because a job can have
very many failures.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer

from bulk_import.conf import conf
from bulk_import.errors import BulkImportRowErrorSerializer
from bulk_import.models import JobMode
from bulk_import.reports.cells import CLEAR_MARK, escape_cell
from bulk_import.reports.problems import error_text
from bulk_import.reports.tables import table_lines
from bulk_import.target_views import ViewFormat
from bulk_import_wire.contract import LEDGER_OUTCOMES, Outcome
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.models import ImportJob

UNDO_FIELDS = ["id", "lookup", "index"]
"""The fields of a row of an undo: the ID of the object, its lookup, and the index of the row that created it."""

PIECE_BYTES = 64 * 1024
"""Size of the pieces in which a download is sent. Sending each line separately would take longer than creating it."""

NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
"""A number in JSON."""

ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Decodes a row but leaves its values as bytes, because a float would change the digits of a number."""


class ImportJobFailureSerializer(serializers.Serializer[dict[str, Any]]):
    """A row that was not created, and why."""

    # This serializer only describes the lines of `read_failures`. Rendering them would take longer and change the
    # digits of numbers.
    index = serializers.IntegerField(min_value=0, help_text="0-based position of the row.")
    line = serializers.IntegerField(
        min_value=1,
        allow_null=True,
        help_text="Line of the row in a table or in JSON Lines, where 1 is the first line.",
    )
    outcome = serializers.ChoiceField([str(outcome) for outcome in Outcome if outcome not in LEDGER_OUTCOMES])
    status = serializers.IntegerField(allow_null=True, help_text="HTTP status of the create endpoint's response.")
    errors: Any = BulkImportRowErrorSerializer(many=True)  # DRF's property `Serializer.errors` is not affected
    attempts = serializers.IntegerField(min_value=0, help_text="Number of calls of the create endpoint.")
    at = serializers.DateTimeField()
    row = serializers.JSONField(help_text="The row as it was sent.")


class JSONLinesRenderer(BaseRenderer):
    """Lets a client ask for JSON Lines. `FailuresView` streams the content, so there is nothing to render."""

    media_type = "application/x-ndjson"
    format = "ndjson"


class CSVRenderer(BaseRenderer):
    """Lets a client ask for CSV; see `JSONLinesRenderer`."""

    media_type = "text/csv"
    format = "csv"


def as_rows(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield only the row of each failure, as a line of JSON, byte for byte as it was sent."""
    for line in lines:
        yield read_failure_line(line)[1] + b"\n"


def job_table(job: ImportJob, lines: Iterable[bytes], request: Request, *, rows_only: bool = False) -> Iterator[bytes]:
    """Yield the lines of a CSV with the failures of a job. `request` is that of the user who reads it."""
    if job.mode == JobMode.UNDO:
        return as_table(lines, UNDO_FIELDS, rows_only=rows_only)
    # The same CSV may be sent again as an update, where an empty cell would leave the field alone.
    empty = "" if job.mode == JobMode.CREATE else CLEAR_MARK
    return as_table(lines, row_fields(conf().target(job.target), request), rows_only=rows_only, empty=empty)


def as_table(lines: Iterable[bytes], fields: list[str], *, rows_only: bool = False, empty: str = "") -> Iterator[bytes]:
    """Yield the lines of a CSV, the first of which has the headings in the active language.

    Each record has columns for the reasons of the failure (unless `rows_only`), a column for each of the `fields`, and
    a last column with all other fields of the row as JSON. `empty` is the cell of a null and of an empty text.
    """
    *reason_headings, other_heading = own_headings(fields)
    headings = [*([] if rows_only else reason_headings), *fields, other_heading]
    failures = map(read_failure_line, lines)
    records = (
        [*([] if rows_only else reason_cells(failure)), *row_cells(row, fields, empty)] for failure, row in failures
    )
    for text in table_lines(map(escape_cell, headings), records):
        # Numbers are not escaped. A program that expects another separator sees no number in "-5;3". It takes
        # a line that begins like this for a formula, so a minus sign at the start of a line gets an apostrophe.
        yield ("'" * text.startswith("-") + text).encode()


def own_headings(fields: Collection[str]) -> list[str]:
    """Return the headings, in the active language, of the columns that this CSV adds to the fields of the rows.

    None of them is one of the fields. An upload of this CSV leaves these columns out.
    """
    names = [_("index"), _("line"), _("outcome"), _("HTTP status"), _("reasons"), _("other fields")]
    return [unused_heading(name, fields) for name in names]


def unused_heading(name: str, fields: Collection[str]) -> str:
    while name in fields:
        name += "_"
    return name


def reason_cells(failure: dict[str, Any]) -> list[Any]:
    reasons = "; ".join(map(error_text, failure["errors"]))
    return [failure["index"], failure["line"], failure["outcome"], failure["status"], escape_cell(reasons)]


def row_cells(row: bytes, fields: list[str], empty: str) -> list[str]:
    """Return a cell for each field, and one for everything else. A field that the row lacks has an empty cell.

    If the row is not an object, the last cell contains the whole row.
    """
    try:
        values: dict[str, msgspec.Raw] = ROW.decode(row)
    except msgspec.ValidationError:
        return [*("" for _field in fields), json_cell(row.decode())]
    cells = [value_cell(bytes(values.pop(name)), empty) if name in values else "" for name in fields]
    return [*cells, json_cell(msgspec.json.encode(values).decode()) if values else ""]


def value_cell(value: bytes, empty: str) -> str:
    """Return the cell of a JSON value: the text of a string, `empty` if there is none, JSON for everything else."""
    text = value.decode()
    if text in {"null", '""'}:
        return empty
    return escape_cell(json.loads(text)) if text.startswith('"') else json_cell(text)


def json_cell(text: str) -> str:
    """Return the cell of a JSON text. A number is not escaped, so that a spreadsheet can compute with it."""
    return text if NUMBER.fullmatch(text) else escape_cell(text)


def row_fields(target: Target, request: Request) -> list[str]:
    """Return the fields that the user of the request may send, in the order of the target's serializer."""
    serializer = target.create_serializer(request)
    view_format = ViewFormat(serializer.context["view"])
    return [
        view_format.field_name(name)
        for name, field in serializer.fields.items()
        if not field.read_only and not isinstance(field, serializers.HiddenField)
    ]


def file_name(job: ImportJob, content: str, suffix: str) -> str:
    """Return the name under which a browser saves a download of a job, such as its "failures"."""
    return get_valid_filename(f"{job.target}-{content}-{str(job.pk)[:8]}.{suffix}")


def in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of about PIECE_BYTES."""
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
