"""Turns a CSV or a workbook into rows, and says how it was read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.raw_rows import MEBIBYTE, RawRow
from bulk_import.intake.spreadsheets.cells import ColumnCells
from bulk_import.intake.spreadsheets.columns import count_names, find_header, read_header
from bulk_import.intake.spreadsheets.csv_source import CsvSource
from bulk_import.intake.spreadsheets.file_kinds import is_workbook
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.spreadsheets.target_fields import TargetFields
from bulk_import.intake.spreadsheets.workbook_source import WorkbookSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.intake.spreadsheets.records import Record, Source

MAX_NAMES, MAX_NAME_CHARACTERS = 100, 100
"""Maximum number and length of the ignored columns in an answer."""

HEADER_RECORDS = 20
"""Records in which the header is looked for."""

MAX_CSV_GROWTH = 2
"""Maximum size of all JSON rows of a table together, as a multiple of MAX_BODY_BYTES.

Each JSON row repeats the names of the columns, so a small CSV with long names could become very large.
"""


class Table:
    """The rows of a table. Iterate over it to get them; every answer shows `reading`.

    Raises BadImport if the file, its header or its options are not clear, and BodyTooLarge if a limit is exceeded.
    """

    def __init__(self, body: bytes, fields: TargetFields | None = None, options: ReadingOptions | None = None) -> None:
        self._fields, self._options = fields or TargetFields(), options or ReadingOptions()
        self._check_fields()
        self._source = self._open(body)
        first = list(islice(self._source.records(), HEADER_RECORDS))
        position = find_header(first, self._fields, self._options)
        self._header_line = first[position].line if first else 0
        self._skipped_lines = [record.line for record in first[:position]]
        self.columns = read_header(first[position], self._fields, self._options) if first else []
        self._cells = {
            number: ColumnCells(self._fields.fields[column.field], self._options)
            for number, column in enumerate(self.columns)
            if column.field in self._fields.fields
        }
        if self._options.unknown == "reject" and self.ignored_columns:
            self._refuse_unknown()

    def _check_fields(self) -> None:
        """Raise BadImport if the upload chooses a field that does not exist."""
        chosen = {*self._options.columns.values(), *self._options.decimal}
        for name in chosen - self._fields.fields.keys() - {None}:
            message = _("There is no field “%(name)s”. Choose one of these: %(fields)s.")
            raise BadImport(message % {"name": name, "fields": ", ".join(self._fields.fields)}, code="unknown_field")

    def _open(self, body: bytes) -> Source:
        options = self._options
        if is_workbook(body):
            return WorkbookSource(body, options.sheet)
        source = CsvSource(body, options.encoding, options.locale)
        source.choose_delimiter(
            lambda records: max((count_names(record.cells, self._fields, options) for record in records), default=0)
        )
        return source

    @property
    def ignored_columns(self) -> list[str]:
        """The columns that are read as no field, although the upload does not say that they should be ignored."""
        return [c.name for c in self.columns if c.name and c.field is None and c.name not in self._options.columns]

    @property
    def reading(self) -> dict[str, Any]:
        """How the file was read, for the answers of the API."""
        used = {column.field for column in self.columns}
        conventions = {"locale": self._options.locale, "decimal": self._options.decimal}
        return {
            **self._source.describe(),
            **{name: value for name, value in conventions.items() if value},
            "header_line": self._header_line,
            "skipped_lines": self._skipped_lines,
            "columns": [
                {"column": column.name, "field": column.field, "match": column.match}
                for column in self.columns
                if column.field is not None
            ],
            "ignored": [
                column.name[:MAX_NAME_CHARACTERS] for column in self.columns if column.name and column.field is None
            ][:MAX_NAMES],
            "missing": [
                field.name for field in self._fields.fields.values() if field.required and field.name not in used
            ],
            "values": [
                {"field": self.columns[number].field, "from": cells.example[0], "to": cells.example[1]}
                for number, cells in self._cells.items()
                if cells.example
            ],
        }

    def __iter__(self) -> Iterator[RawRow]:
        self._observe()
        max_bytes = MAX_CSV_GROWTH * conf().max_body_bytes
        total_bytes = 0
        for record in self._records():
            row = self._row(record)
            total_bytes += len(row.json)
            if total_bytes > max_bytes:
                message = _(
                    "This CSV is too large: with the column names in every row, it exceeds %(limit)s MB. "
                    "Split it into several files."
                )
                raise BodyTooLarge(message % {"limit": max_bytes // MEBIBYTE})
            yield row

    def _records(self) -> Iterator[Record]:
        return (record for record in self._source.records() if record.line > self._header_line)

    def _observe(self) -> None:
        """Show every cell to the columns that can read a value only if they know all of them."""
        observed = [(number, cells) for number, cells in self._cells.items() if cells.needs_all_cells]
        if not observed:
            return
        for record in self._records():
            width = len(record.cells)
            for number, cells in observed:
                if number < width:
                    cells.observe(record.cells[number])

    def _row(self, record: Record) -> RawRow:
        """Return a record as a row. An empty cell is an absent field."""
        values: dict[str, Any] = {}
        errors: list[dict[str, Any]] = []
        if len(record.cells) > len(self.columns):
            self._check_extra_cells(record)
        for number, (column, cell) in enumerate(zip(self.columns, record.cells, strict=False)):
            if cell == "" or cell is None:
                continue
            if column.is_dropped:
                continue
            if not column.name:
                self._refuse_unnamed()
            value = self._source.read_cell(cell) if type(cell) is str else cell
            cells = self._cells.get(number)
            if cells is None:
                values[column.field or column.name] = next(iter(value.values())) if type(value) is dict else value
                continue
            value, error = cells.read(value)
            if error:
                errors.append({"field": column.field, **error})
            if value is not None:
                values[str(column.field)] = value
        return RawRow(msgspec.json.encode(values), record.line, has_cells=True, errors=errors)

    def _check_extra_cells(self, record: Record) -> None:
        width = max((number for number, cell in enumerate(record.cells, 1) if cell not in ("", None)), default=0)
        if width > len(self.columns):
            message = _(
                "Line %(line)d has %(cells)d cells, but the header row has only %(columns)d. Remove the extra cells. "
                "If a text contains the separator, put the text in quotation marks."
            )
            message %= {"line": record.line, "cells": width, "columns": len(self.columns)}
            raise BadImport(message, code="too_many_cells")

    def _refuse_unnamed(self) -> None:
        message = _("A column of the header row (line %(line)d) has no name. Give every column a name.")
        raise BadImport(message % {"line": self._header_line}, code="malformed_header")

    def _refuse_unknown(self) -> None:
        message = _(
            "These columns are not fields: %(columns)s. Choose their fields, or ignore them, with “columns”: "
            'columns={"%(first)s": null}.'
        )
        columns = ", ".join(f"“{name}”" for name in self.ignored_columns)
        message %= {"columns": columns, "first": self.ignored_columns[0]}
        raise BadImport(message, code="unknown_columns", reading=self.reading)
