"""Rows with corrections: fields that replace those of an upload, or of an earlier job.

The texts of corrections are read with the locale and the decimal separators of the upload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport
from bulk_import.intake.raw_rows import MEBIBYTE, RawRow, ReadRows
from bulk_import.intake.spreadsheets.cells import ColumnCells
from bulk_import.intake.spreadsheets.damage import CODES_OF_CELLS
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.reports.failures import ROW

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bulk_import.intake.spreadsheets.target_fields import TargetFields

ChangesByIndex = dict[int, dict[str, msgspec.Raw]]
"""The corrected fields of each row, by the index of the row."""

MAX_CHANGES_BYTES = 8 * MEBIBYTE
"""Maximum size of the corrections of one request. A correction of one field takes about 50 bytes."""

CODES_OF_THE_FILE = CODES_OF_CELLS | {"unknown_field"}
"""The codes of errors that only the upload of the file could find. They stay until their field is corrected."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The document with corrections."""

    rows: ChangesByIndex


BODY = msgspec.json.Decoder(Body)


def read_changes(body: bytes) -> ChangesByIndex:
    """Return the corrections in a JSON document. Raises BadImport if it has another form."""
    try:
        body.decode()  # msgspec does not look into the values yet
        return BODY.decode(body).rows
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        message = _("Send a JSON object with the corrected fields of each row: %(example)s.")
        raise BadImport(message % {"example": '{"rows": {"17": {"price": "12.50"}}}'}) from error


def unknown_row(index: int) -> BadImport:
    """Return the error for a correction of a row that does not exist, or that cannot be corrected."""
    message = _("There is no row with the index %(index)d that can be corrected.")
    return BadImport(message % {"index": index}, code="unknown_row")


class Changes:
    """Applies corrections to rows. `reading` says how the file of the rows was read."""

    def __init__(self, by_index: ChangesByIndex, fields: TargetFields, reading: dict[str, Any]) -> None:
        self.by_index = by_index
        self._fields = fields
        conventions = {name: reading[name] for name in ("locale", "decimal") if name in reading}
        self._options = ReadingOptions(**conventions, damage="accept")  # a person has typed the value

    def apply(self, index: int, row: RawRow) -> RawRow:
        """Return the row with its corrections, and with the errors of its file that are left."""
        changes = self.by_index.get(index, {})
        kept = [error for error in row.errors if error["code"] in CODES_OF_THE_FILE and error["field"] not in changes]
        if not changes:
            return msgspec.structs.replace(row, errors=kept)
        changes, errors = self._read(changes)
        return row.changed(change_row(row.json, changes), kept + errors)

    def _read(self, changes: dict[str, msgspec.Raw]) -> tuple[dict[str, msgspec.Raw], list[dict[str, Any]]]:
        """Return the changes with each text read like a cell of the upload, and the errors of ambiguous texts."""
        read, errors = dict(changes), []
        for name, raw in changes.items():
            # Only a text is decoded here. Another value may be refused when the row is parsed, such as 1e999.
            if bytes(raw).startswith(b'"') and name in self._fields.fields:
                text = msgspec.json.decode(raw, type=str)
                cells = ColumnCells(self._fields.fields[name], self._options)
                cells.observe(text)
                value, error = cells.read(text)
                read[name] = msgspec.Raw(msgspec.json.encode(value))
                errors += [{"field": name, **error}] if error else []
        return read, errors


def change_row(row: bytes, changes: dict[str, msgspec.Raw]) -> bytes:
    """Return the row with these fields, and without those that are null. Its other values keep their bytes."""
    try:
        values = ROW.decode(row)
    except msgspec.DecodeError:  # the row is no object
        values = {}
    values |= changes
    removed = {name for name, value in changes.items() if bytes(value) == b"null"}
    return msgspec.json.encode({name: value for name, value in values.items() if name not in removed})


class ChangedRows:
    """The rows of an upload, with corrections. Iterating raises BadImport if a correction is for no row."""

    def __init__(self, rows: Iterable[RawRow], changes: Changes) -> None:
        self._rows, self._changes = rows, changes

    def __iter__(self) -> Iterator[RawRow]:
        count = 0
        for index, row in enumerate(self._rows):
            yield self._changes.apply(index, row)
            count += 1
        for index in self._changes.by_index:
            if not 0 <= index < count:
                raise unknown_row(index)


class ChangedTable(ChangedRows):
    """The rows of a table, with corrections. See `ReadRows`."""

    def __init__(self, table: ReadRows, changes: Changes) -> None:
        super().__init__(table, changes)
        self._table = table

    @property
    def reading(self) -> dict[str, Any]:
        return self._table.reading
