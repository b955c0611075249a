"""Reads CSV and TSV: with a comma, a semicolon or a tab between the cells, in every encoding that it can find out."""

from __future__ import annotations

import csv
import io
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.json_rows import ROW_TOO_LARGE
from bulk_import.intake.parser_reasons import plain_reason
from bulk_import.intake.spreadsheets.records import Record
from bulk_import.intake.spreadsheets.text_encoding import ENCODINGS, find_encoding
from bulk_import.intake.upload_limits import check_values, max_lines, too_many_lines
from bulk_import.reports.cells import unescape_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DELIMITERS = ",;\t"
SEPARATOR_LINE = re.compile(r"sep=(.)[\r\n]*", re.IGNORECASE)
"""A first line in which Excel reads and writes the separator of the file."""

SAMPLE_RECORDS = 20
"""Records in which the delimiter is looked for."""


class CsvSource:
    """The records of a CSV. `find_header` says how well a list of records fits the target, see `choose_delimiter`."""

    read_cell = staticmethod(unescape_cell)

    def __init__(self, body: bytes, encoding: str, locale: str) -> None:
        self._body = body
        self._encoding = find_encoding(body, encoding, locale)
        check_values(body.count(b"'"), conf().max_rows)  # each apostrophe costs `unescape_cell` time
        first_line = next(self._lines(), "")
        named = SEPARATOR_LINE.fullmatch(first_line)
        self._has_separator_line = bool(named)
        self.delimiter = named[1] if named else ","

    def _lines(self) -> RecordLines:
        return RecordLines(self._body, ENCODINGS[self._encoding], conf().max_row_bytes)

    def choose_delimiter(self, fit: Callable[[list[Record]], int]) -> None:
        """Choose the delimiter with which the first records fit the target best, and else the most frequent one.

        `fit` returns how many names of fields a list of records contains.
        """
        if self._has_separator_line:
            return
        lines = self._lines()
        first_line = next((line for line in islice(lines, SAMPLE_RECORDS) if line.strip("\r\n")), "")
        ranked = sorted(DELIMITERS, key=first_line.count, reverse=True)
        self.delimiter = max(ranked, key=lambda delimiter: fit(self._sample(delimiter)))

    def _sample(self, delimiter: str) -> list[Record]:
        try:
            return list(islice(self._records(delimiter, strict=False), SAMPLE_RECORDS))
        except BadImport:
            return []

    def describe(self) -> dict[str, Any]:
        return {"format": "csv", "encoding": self._encoding, "delimiter": self.delimiter}

    def records(self) -> Iterator[Record]:
        """Yield the records that are not blank.

        Raises BadImport with the line, and BodyTooLarge if a record is too large, or if there are too many lines or
        cells.
        """
        return self._records(self.delimiter, strict=True)

    def _records(self, delimiter: str, *, strict: bool) -> Iterator[Record]:
        lines = self._lines()
        reader = csv.reader(lines, delimiter=delimiter, strict=strict)
        line = 1
        rows = cells = 0
        if self._has_separator_line:
            next(lines)
            lines.start_record()
            line = 2
        first_line = line
        try:
            for record in reader:
                lines.start_record()
                cells += len(record)
                check_values(cells, rows)
                if any(record):
                    rows += 1
                    yield Record(line, record)
                line = first_line + reader.line_num
        except csv.Error as error:
            message = _("The row at line %(line)d of this CSV cannot be read: %(reason)s. Check its quotation marks.")
            raise BadImport(message % {"line": line, "reason": plain_reason(str(error))}) from error


class RecordLines:
    """Iterates over the lines of a CSV.

    Raises BodyTooLarge if a record has more than `max_row_bytes`, or if the CSV has more than `max_lines` lines.

    A record may span many lines, because a quoted cell may contain line breaks. Neither the whole text nor an
    endless record is ever in memory.
    """

    def __init__(self, body: bytes, encoding: str, max_row_bytes: int) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(body), encoding=encoding, newline="")
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
