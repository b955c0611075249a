"""The formats of the download of the failures: lines in, the same line by line out.

JSON Lines     as they are; or the rows alone, byte for byte, to be posted again
CSV            for spreadsheets; mended, it can be posted again
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import msgspec
from django.utils.formats import get_format
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _
from rest_framework.renderers import BaseRenderer
from rest_framework.serializers import HiddenField

from bulk_import.reports.cells import escape_cell
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.models import ImportJob

BYTE_ORDER_MARK = "\ufeff"
"""Without it Excel takes UTF-8 for something else."""

PIECE_BYTES = 64 * 1024
"""Sent at a time; a write for each line would cost more than the line."""

ROW = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""The values keep their bytes: a number must not change on its way through a float."""


class JSONLinesRenderer(BaseRenderer):
    """So that a client may ask for it. `FailuresView` streams it, and answers anything else in JSON."""

    media_type = "application/x-ndjson"
    format = "ndjson"


class CSVRenderer(BaseRenderer):
    """As `JSONLinesRenderer`."""

    media_type = "text/csv"
    format = "csv"


def as_rows(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The rows alone, each a line of JSON as it was sent."""
    for line in lines:
        yield read_failure_line(line)[1] + b"\n"


def as_table(lines: Iterable[bytes], fields: list[str], *, rows_only: bool = False) -> Iterator[bytes]:
    """A CSV with a header in the active language: what is known of each failure, unless `rows_only`, then its row.

    The row has a column for each field of the target, and a last one for whatever else it held, as JSON.
    """
    # Where the comma is in numbers, Excel takes a semicolon between cells.
    writer = csv.writer(Echo(), delimiter=";" if get_format("DECIMAL_SEPARATOR") == "," else ",")
    known_headings = [] if rows_only else [_("index"), _("outcome"), _("HTTP status"), _("reasons")]
    headings = [
        *(own_heading(name, fields) for name in known_headings),
        *fields,
        own_heading(_("other fields"), fields),
    ]
    header: str = writer.writerow(map(escape_cell, headings))
    yield (BYTE_ORDER_MARK + header).encode()
    for line in lines:
        known, row = read_failure_line(line)
        record: str = writer.writerow([*([] if rows_only else known_cells(known)), *row_cells(row, fields)])
        yield record.encode()


class Echo:
    """A file for `csv.writer`, which returns what its file's `write` returns: the line."""

    def write(self, line: str) -> str:
        return line


def own_heading(name: str, fields: list[str]) -> str:
    """A name of a column that is not one of the fields: posted again, the column must not be taken for that field."""
    while name in fields:
        name += "_"
    return name


def known_cells(known: dict[str, Any]) -> list[Any]:
    reasons = (
        f"{error['field']}: {error['message']}" if error["field"] else error["message"] for error in known["errors"]
    )
    return [known["index"], known["outcome"], known["status"], escape_cell("; ".join(reasons))]


def row_cells(row: bytes, fields: list[str]) -> list[str]:
    """A cell for each field, and one for the rest; all of a row that is no object is rest."""
    try:
        values: dict[str, msgspec.Raw] = ROW.decode(row)
    except msgspec.ValidationError:
        return [*("" for _field in fields), row.decode()]
    cells = [value_cell(values.pop(name, None)) for name in fields]
    return [*cells, msgspec.json.encode(values).decode() if values else ""]


def value_cell(value: msgspec.Raw | None) -> str:
    """A text is escaped. A number is as it was sent, and nested values are JSON: neither runs as a formula."""
    text = "null" if value is None else bytes(value).decode()
    if text == "null":
        return ""
    return escape_cell(json.loads(text)) if text.startswith('"') else text


def row_fields(target: Target, request: Request) -> list[str]:
    """The fields of a row that the user of the request may send, in the serializer's order."""
    serializer = target.serializer_class(context={"request": request, "view": target.create_view(request)})
    return [
        name for name, field in serializer.fields.items() if not field.read_only and not isinstance(field, HiddenField)
    ]


def file_name(job: ImportJob, suffix: str) -> str:
    """What the file of a job's failures is called where it is kept."""
    return get_valid_filename(f"{job.target}-failures-{str(job.pk)[:8]}.{suffix}")


def in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in pieces of a size that is worth sending."""
    piece = bytearray()
    for part in parts:
        piece += part
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
