"""Reads and validates the rows of an upload in batches, because one call for many rows takes less time than many calls.

A row of a batch that cannot be read, or that is not certainly valid, does not affect the other rows of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from bulk_import.batching import in_batches
from bulk_import.conf import conf
from bulk_import.intake.flat_rows import parse_flat_rows, to_payload_lines
from bulk_import.intake.json_rows import UNREADABLE_ROW_CODES, RowError, parse_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bulk_import.intake.raw_rows import RawRow
    from bulk_import.intake.row_validator import RowValidator

BATCH_ROWS = 200
"""Rows of a batch. With more of them, a row takes hardly less time."""

MAX_BATCH_BYTES = 1024 * 1024
"""Rows that are larger together are read one by one, because parsed rows take many times as much memory."""


@dataclass(slots=True)
class CheckedRow:
    """A row of an upload after its validation."""

    index: int
    raw: RawRow
    line: bytes | None  # the row's payload line; None if the row cannot be read
    errors: list[dict[str, Any]]
    validated: dict[str, Any]  # the validated values that `RowValidator` was asked for; {} if the row is invalid
    is_skipped: bool = False  # whether the object of the row exists, and is to stay as it is

    @property
    def where(self) -> dict[str, int]:
        return {"index": self.index} if self.raw.line is None else {"index": self.index, "line": self.raw.line}


def split_into_batches(rows: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    """Yield the rows in lists of BATCH_ROWS, or each one alone if they have more than MAX_BATCH_BYTES together."""
    for batch in in_batches(rows, BATCH_ROWS):
        if sum([len(row.json) for row in batch]) > MAX_BATCH_BYTES:
            yield from ([row] for row in batch)
        else:
            yield batch


class Batch:
    """Consecutive rows of an upload.

    `lines` are their payload lines, b"" for each row that cannot be read. `errors` has the errors of each invalid row,
    with its index in the upload. `values` is the number of values of all rows: fields and elements at any depth.
    `is_malformed` says whether one of the rows cannot be stored, because it is not JSON or too large.
    """

    def __init__(self, raws: Sequence[RawRow], first_index: int) -> None:
        """Parse the rows. `first_index` is the index of the first one."""
        self.raws = raws
        self.first_index = first_index
        self.lines: list[bytes] = []
        self.errors: dict[int, list[dict[str, Any]]] = {}
        self.values = 0
        self.is_malformed = False
        self._rows: dict[int, Any] = {}  # the values of the rows that can be read
        self._validated: dict[int, dict[str, Any]] = {}
        jsons = [raw.json for raw in raws]
        max_row_bytes = conf().max_row_bytes
        parsed = [raw.fields for raw in raws if raw.fields is not None]
        are_parsed = len(parsed) == len(raws)
        if flat := (parsed, to_payload_lines(jsons)) if are_parsed else parse_flat_rows(jsons, max_row_bytes):
            rows, self.lines = flat
            self._rows = dict(enumerate(rows, first_index))
            self.values = sum(map(len, rows))
        else:
            for index, json in enumerate(jsons, first_index):
                self._parse(index, json, max_row_bytes)

    def _parse(self, index: int, json: bytes, max_row_bytes: int) -> None:
        try:
            self._rows[index], line, values = parse_row(json, max_row_bytes)
        except RowError as error:
            self.errors[index] = [{"field": None, "code": error.code, "message": error.message}]
            self.is_malformed |= error.code in UNREADABLE_ROW_CODES
            line, values = b"", json.count(b",")  # about as many as the row has
        self.lines.append(line)
        self.values += values

    def validate(self, validator: RowValidator) -> None:
        """Validate the rows that can be read."""
        of_cells = {index: raw.errors for index, raw in enumerate(self.raws, self.first_index) if raw.errors}
        errors, self._validated = validator.validate(self._rows, of_cells.keys())
        for index in of_cells.keys() & self._rows.keys():
            errors[index] = join_errors(of_cells[index], errors.get(index, []))
        self.errors |= errors

    def checked_row(self, index: int) -> CheckedRow:
        """Return what is known of the row with this index in the upload."""
        at = index - self.first_index
        errors = self.errors.get(index, [])
        validated = {} if errors else self._validated.get(index, {})
        raw = msgspec.structs.replace(self.raws[at], fields=None)  # the parsed row takes many times as much memory
        return CheckedRow(index, raw, self.lines[at] or None, errors, validated)


def join_errors(of_cells: Iterable[dict[str, Any]], of_row: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the errors of a row. If a cell could not be read, what the serializer says about its field is left out."""
    unread = {error["field"] for error in of_cells}
    return [*of_cells, *(error for error in of_row if error["field"] not in unread)]
