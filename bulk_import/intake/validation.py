"""Validates rows with the target's own serializer before anything is stored.

Only the rules about the shape and the fields of a row are applied here. Everything that needs the database (unique
values, related objects, rules over several fields) is left to the create endpoint, which validates every row again.
So a row is rejected here only if the create endpoint would certainly reject it too. A dry run also compares the values
with the database; see `database_checks`.
"""

from __future__ import annotations

from array import array
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.flat_rows import to_payload_line
from bulk_import.intake.raw_rows import ReadRows
from bulk_import.intake.row_batch import Batch, split_into_batches
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
    from bulk_import.intake.row_batch import CheckedRow

MAX_STORED_ERRORS = 10
"""Maximum number of errors that the payload stores for one invalid row. A row with a long list can have thousands.

The errors of its cells are all stored: there is at most one for each field, and only the file shows them.
"""


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
        if lines and payload is not None and is_stored():
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
    """Read and validate the rows, without the database.

    The payload lines and the line numbers of valid rows go to `store_valid`, many at once. Only the invalid rows are
    yielded. Without `store_valid`, all rows are yielded. Both happens in the order of the rows.

    Sets `result.is_malformed` if a row cannot be read. Raises BadImport if there are too many rows or values.
    """
    limit = conf().max_rows
    line_numbers = array("I")
    values = 0
    for uploaded in split_into_batches(rows):
        first, end = len(line_numbers), len(line_numbers) + len(uploaded)
        if end > limit:
            message = _("This file has more than %(limit)d rows, which is the limit. Split it into several files.")
            raise BodyTooLarge(message % {"limit": limit}, code="too_many_rows")
        line_numbers.extend([row.line or 0 for row in uploaded])
        batch = Batch(validator.with_cleared_fields(uploaded), first)
        values += batch.values
        check_values(values, end)
        result.is_malformed |= batch.is_malformed
        batch.validate(validator)
        for found in chain.from_iterable(batch.errors.values()):
            if "first_index" in found and (line := line_numbers[found["first_index"]]):
                found["first_line"] = line
        unstored = first
        for index in sorted(batch.errors) if store_valid else range(first, end):
            if store_valid:
                store_valid(batch.lines[unstored - first : index - first], line_numbers[unstored:index])
                unstored = index + 1
            yield batch.checked_row(index)
        if store_valid:
            store_valid(batch.lines[unstored - first :], line_numbers[unstored:])


def stored_errors(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first errors of an invalid row for its payload line, with their texts cut to a safe length."""
    of_cells = sum(error["code"] in CODES_OF_CELLS for error in errors)  # they come first, see `join_errors`
    stored = []
    for error in errors[: max(MAX_STORED_ERRORS, of_cells)]:
        cut = problem(error["field"], error["code"], error["message"], index=0)
        stored.append({**error, **{name: cut[name] for name in ("field", "code", "message")}})
    return stored
