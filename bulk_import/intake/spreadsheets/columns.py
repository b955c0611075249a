"""Finds the header of a table, and the field that each of its columns is meant for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport
from bulk_import.intake.spreadsheets.target_fields import MATCHES, normalise

if TYPE_CHECKING:
    from bulk_import.intake.spreadsheets.options import ReadingOptions
    from bulk_import.intake.spreadsheets.records import Record
    from bulk_import.intake.spreadsheets.target_fields import TargetFields

MIN_NAMES = 2
"""Names of fields that a row must contain to be the header, if it is not the first row."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file. `field` and `match` are None if it is ignored."""

    name: str  # as in the file; "" for a column without a name
    field: str | None = None
    match: str | None = None
    is_dropped: bool = False  # left out of the rows: the upload says so, another column has its field, or it is ours


def count_names(cells: list[Any], fields: TargetFields, options: ReadingOptions) -> int:
    """Return how many cells are names of fields."""
    names = {cell.strip() for cell in cells if isinstance(cell, str)}
    return sum(name in options.columns or fields.find(name) is not None for name in names if name)


def find_header(records: list[Record], fields: TargetFields, options: ReadingOptions) -> int:
    """Return the position of the header: the first record with the names of two fields, or else the first one."""
    counts = (count_names(record.cells, fields, options) for record in records)
    return next((position for position, count in enumerate(counts) if count >= MIN_NAMES), 0)


def read_header(record: Record, fields: TargetFields, options: ReadingOptions) -> list[Column]:
    """Return the columns. Raises BadImport if the header is not clear, or if it does not fit the options."""
    names = [header_name(cell) for cell in record.cells]
    check_names(names, record.line, options)
    added = added_by_download(names, fields) - options.columns.keys()
    found = {name: recognise(name, fields, options) for name in names if name and name not in added}
    claims: dict[str, dict[str, list[str]]] = {}
    for name, meaning in found.items():
        if meaning:
            claims.setdefault(meaning[0], {}).setdefault(meaning[1], []).append(name)
    winners = {field: best_claim(field, claim, record.line) for field, claim in claims.items()}
    own_names = {normalise(field) for field in fields.fields}
    columns = []
    for name in names:
        meaning = found.get(name)
        if name in added:
            columns.append(Column("", is_dropped=True))
        elif meaning and winners[meaning[0]] == name:
            columns.append(Column(name, *meaning))
        else:
            columns.append(Column(name, is_dropped=name in options.columns or normalise(name) in own_names))
    return columns


def added_by_download(names: list[str], fields: TargetFields) -> set[str]:
    """Return the columns that our download of failed rows adds to the fields, if the file is such a download.

    It is one if it has the heading of "other fields", and otherwise only fields and headings of the download.
    """
    for headings in fields.download_headings:
        if headings[-1] in names and all(name in headings or name in fields.fields for name in names if name):
            return set(headings)
    return set()


def header_name(cell: Any) -> str:
    if isinstance(cell, dict):
        cell = cell.get("date", "")
    return "" if cell is None else str(cell).strip()


def check_names(names: list[str], line: int, options: ReadingOptions) -> None:
    """Raise BadImport if two columns have the same name, or if the upload chooses a column that does not exist."""
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            message = _("Two columns of the header row (line %(line)d) are named “%(name)s”. Rename or remove one.")
            raise BadImport(message % {"line": line, "name": name}, code="malformed_header")
        seen.add(name)
    for name in options.columns:
        if name not in seen:
            message = _("The header row (line %(line)d) has no column “%(name)s”, which “columns” names.")
            raise BadImport(message % {"line": line, "name": name}, code="unknown_column")


def recognise(name: str, fields: TargetFields, options: ReadingOptions) -> tuple[str, str] | None:
    """Return the field of a column, and how it was recognised; None for a column that is to be ignored."""
    if name in options.columns:
        field = options.columns[name]
        return (field, MATCHES[0]) if field is not None else None
    return fields.find(name)


def best_claim(field: str, claims: dict[str, list[str]], line: int) -> str:
    """Return the column that is read as the field. Raises BadImport if two columns are equally good."""
    names = next(claims[match] for match in MATCHES if match in claims)
    if len(names) > 1:
        message = _(
            "The columns “%(first)s” and “%(second)s” of the header row (line %(line)d) are both read as %(field)s. "
            "Choose one of them with “columns”."
        )
        values = {"first": names[0], "second": names[1], "line": line, "field": field}
        raise BadImport(message % values, code="ambiguous_column", ambiguous={"field": field, "columns": names})
    return names[0]
