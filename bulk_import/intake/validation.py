"""Validates rows with the target's own serializer before anything is stored.

Only the rules about the shape and the fields of a row are applied here. Everything that needs the database (unique
values, related objects, rules over several fields) is left to the create endpoint, which validates every row again.
So a row is rejected here only if the create endpoint would certainly reject it too. A dry run also compares the values
with the database; see `database_checks`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.json_rows import UNREADABLE_ROW_CODES, RowError, parse_row, to_payload_line
from bulk_import.intake.raw_rows import ReadRows
from bulk_import.intake.row_validator import RowValidator
from bulk_import.intake.spreadsheets.damage import CODES_OF_CELLS
from bulk_import.intake.unknown_fields import UnknownFields
from bulk_import.intake.upload_limits import check_values
from bulk_import.intake.validation_result import ValidationResult
from bulk_import.models import JobMode
from bulk_import_wire.lines import refused_line
from bulk_import_wire.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.payload import Payload
    from bulk_import.intake.raw_rows import RawRow

BATCH_ROWS = 100
"""Rows that are read and validated at once. If one of them is not certainly valid, each one is validated alone."""

MAX_STORED_ERRORS = 10
"""Maximum number of errors that the payload stores for one invalid row. A row with a long list can have thousands.

The errors of its cells are all stored: there is at most one for each field, and only the file shows them.
"""


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


def validate_rows(
    target: Target,
    rows: Iterable[RawRow],
    request: Request,
    payload: Payload | None = None,
    *,
    mode: str = JobMode.CREATE,
    skip_invalid: bool = False,
    check_database: bool = False,
    unknown: str = "ignore",
    list_rows: bool = False,
) -> ValidationResult:
    """Validate every row and append it to the payload, if there is one.

    With `skip_invalid`, invalid rows are appended too, together with their errors. As soon as it is certain that
    there will be no job, nothing more is appended. With `check_database`, the values are also compared with the
    database. With "reject" as `unknown`, a JSON row with a field that does not exist is invalid.

    With `list_rows`, the result has all errors, and the rows that have them. The objects of the rows are looked up for
    a dry run, and for an import that stops if one of them exists.

    Raises BadImport if the document itself is malformed, or if it has no rows, too many rows or values, or
    too many errors.
    """
    validator = RowValidator(target, request, mode, check_database=check_database)
    checks = validator.database_checks
    existing = validator.existing_rows if check_database or mode == JobMode.STOP else None
    result = ValidationResult(database_checks=checks, existing=existing, listed_rows=[] if list_rows else None)
    if isinstance(rows, ReadRows):
        result.file = rows
    else:
        result.unknown_fields = validator.unknown_fields = UnknownFields(validator.names, refuse=unknown == "reject")

    def is_stored() -> bool:
        return payload is not None and not result.is_malformed and (skip_invalid or not result.invalid_rows)

    def store_valid(lines: list[bytes], line_numbers: Iterable[int]) -> None:
        result.rows += len(lines)
        if payload is not None and is_stored():
            payload.extend(lines, line_numbers)

    checked = check_rows(validator, rows, result, None if checks or existing else store_valid)
    if existing:
        checked = existing.apply(checked)
    for row in checks.apply(checked) if checks else checked:
        result.rows += 1
        if row.errors:
            result.add_errors(row.errors, row.where, row.line or b"")
        if payload is not None and is_stored():
            line = to_payload_line(row.raw.json) if row.line is None else row.line
            payload.append(refused_line(line, stored_errors(row.errors)) if row.errors else line, row.raw.line)
    if not result.rows:
        raise BadImport(_("This file has no rows. Send at least one."), code="no_rows")
    return result


def check_rows(
    validator: RowValidator,
    rows: Iterable[RawRow],
    result: ValidationResult,
    store_valid: Callable[[list[bytes], Iterable[int]], None] | None,
) -> Iterator[CheckedRow]:
    """Read and validate one row after another, without the database.

    The payload lines and the line numbers of rows that are certainly valid go to `store_valid`, many at once. Only the
    other rows are yielded. Without `store_valid`, all rows are yielded.

    Sets `result.is_malformed` if a row cannot be read. Raises BadImport if there are too many rows or values.
    """
    settings = conf()
    line_numbers = array("I")
    values = 0
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH_ROWS)):
        first = len(line_numbers)
        line_numbers.extend([row.line or 0 for row in batch])
        is_small = (
            len(line_numbers) <= settings.max_rows and max(len(row.json) for row in batch) <= settings.max_row_bytes
        )
        if store_valid and is_small and (valid := validator.read_valid_rows(batch, first)):
            parsed, lines = valid
            values += sum(map(len, parsed))
            check_values(values, len(line_numbers))
            store_valid(lines, line_numbers[first:])
            continue
        for index, uploaded in enumerate(batch, first):
            if index == settings.max_rows:
                message = _("This file has more than %(limit)d rows, which is the limit. Split it into several files.")
                raise BodyTooLarge(message % {"limit": settings.max_rows}, code="too_many_rows")
            checked, row_values = check_row(validator, uploaded, index)
            values += row_values
            if checked.line is None:
                result.is_malformed |= checked.errors[0]["code"] in UNREADABLE_ROW_CODES
            for found in checked.errors:
                if "first_index" in found and (line := line_numbers[found["first_index"]]):
                    found["first_line"] = line
            check_values(values, index + 1)
            yield checked


def check_row(validator: RowValidator, uploaded: RawRow, index: int) -> tuple[CheckedRow, int]:
    """Read and validate one row alone. Return it, and its number of values."""
    row = validator.with_cleared_fields(uploaded)
    checked = CheckedRow(index, row, None, [], {})
    try:
        value, checked.line, values = parse_row(row.json, conf().max_row_bytes)
    except RowError as error:
        checked.errors = [{"field": None, "code": error.code, "message": error.message}]
        return checked, row.json.count(b",")  # about as many as the row has
    checked.errors, checked.validated = validator.validate(value, index)
    if row.errors:
        checked.errors, checked.validated = join_errors(row.errors, checked.errors), {}
    return checked, values


def join_errors(of_cells: Iterable[dict[str, Any]], of_row: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the errors of a row. If a cell could not be read, what the serializer says about its field is left out."""
    unread = {error["field"] for error in of_cells}
    return [*of_cells, *(error for error in of_row if error["field"] not in unread)]


def stored_errors(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first errors of an invalid row for its payload line, with their texts cut to a safe length."""
    of_cells = sum(error["code"] in CODES_OF_CELLS for error in errors)  # they come first, see `join_errors`
    stored = []
    for error in errors[: max(MAX_STORED_ERRORS, of_cells)]:
        cut = problem(error["field"], error["code"], error["message"], index=0)
        stored.append({**error, **{name: cut[name] for name in ("field", "code", "message")}})
    return stored
