"""Validates rows with the target's own serializer before anything is stored.

Only the rules about the shape and the fields of a row are applied here. Everything that needs the database (unique
values, related objects, rules over several fields) is left to the create endpoint, which validates every row again.
So a row is rejected here only if the create endpoint would certainly reject it too. A dry run also compares the values
with the database; see `database_checks`.
"""

from __future__ import annotations

import json
import logging
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.validators import UniqueValidator

from bulk_import.conf import conf
from bulk_import.errors import flatten_errors
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.compiled_serializer import compile_serializer
from bulk_import.intake.database_checks import DatabaseChecks
from bulk_import.intake.endpoint_rules import skip_database_checks
from bulk_import.intake.existing_rows import ExistingRows
from bulk_import.intake.json_rows import UNREADABLE_ROW_CODES, RowError, parse_row, to_payload_line
from bulk_import.intake.raw_rows import ReadRows
from bulk_import.intake.spreadsheets.damage import CODES_OF_CELLS
from bulk_import.intake.unknown_fields import UnknownFields
from bulk_import.intake.upload_limits import check_values
from bulk_import.intake.validation_result import ValidationResult
from bulk_import.models import PARTIAL_MODES, JobMode
from bulk_import.reports.cells import CLEAR_MARK
from bulk_import.target_views import ViewFormat, error_detail
from bulk_import_wire.lines import refused_line
from bulk_import_wire.problems import problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.payload import Payload
    from bulk_import.intake.raw_rows import RawRow

logger = logging.getLogger(__name__)

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
    checked = check_rows(validator, rows, result)
    if existing:
        checked = existing.apply(checked)
    for row in checks.apply(checked) if checks else checked:
        result.rows += 1
        if row.errors:
            result.add_errors(row.errors, row.where, row.line or b"")
        if payload is None or result.is_malformed or (result.invalid_rows and not skip_invalid):
            continue
        line = to_payload_line(row.raw.json) if row.line is None else row.line
        payload.append(refused_line(line, stored_errors(row.errors)) if row.errors else line, row.raw.line)
    if not result.rows:
        raise BadImport(_("This file has no rows. Send at least one."), code="no_rows")
    return result


def check_rows(validator: RowValidator, rows: Iterable[RawRow], result: ValidationResult) -> Iterator[CheckedRow]:
    """Read and validate one row after another, without the database.

    Sets `result.is_malformed` if a row cannot be read. Raises BadImport if there are too many rows or values.
    """
    settings = conf()
    lines = array("I")
    values = 0
    for index, uploaded in enumerate(rows):
        if index == settings.max_rows:
            message = _("This file has more than %(limit)d rows, which is the limit. Split it into several files.")
            raise BodyTooLarge(message % {"limit": settings.max_rows}, code="too_many_rows")
        row = validator.with_cleared_fields(uploaded)
        lines.append(row.line or 0)
        checked = CheckedRow(index, row, None, [], {})
        try:
            value, checked.line, row_values = parse_row(row.json, settings.max_row_bytes)
            values += row_values
            checked.errors, checked.validated = validator.validate(value, index)
            if row.errors:
                checked.errors, checked.validated = join_errors(row.errors, checked.errors), {}
        except RowError as error:
            checked.errors = [{"field": None, "code": error.code, "message": error.message}]
            result.is_malformed |= error.code in UNREADABLE_ROW_CODES
            values += row.json.count(b",")  # about as many as the row has
        for found in checked.errors:
            if "first_index" in found and (line := lines[found["first_index"]]):
                found["first_line"] = line
        check_values(values, index + 1)
        yield checked


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


class RowValidator:
    """Validates one row after another with a single serializer instance."""

    def __init__(
        self, target: Target, request: Request, mode: str = JobMode.CREATE, *, check_database: bool = False
    ) -> None:
        # An update needs only the fields that it changes, and the one that identifies the object.
        partial = mode in PARTIAL_MODES
        self._lookup = target.lookup if mode != JobMode.CREATE else ""
        self.serializer: Any = target.create_serializer(request, partial=partial)
        self._format = ViewFormat(self.serializer.context["view"])
        unique_names = [
            name
            for name, field in self.serializer.fields.items()
            if not field.read_only
            and (name == self._lookup or any(isinstance(validator, UniqueValidator) for validator in field.validators))
        ]
        self.names = {name for name, field in self.serializer.fields.items() if not field.read_only}
        self.unknown_fields: UnknownFields | None = None  # set by `validate_rows`, if they are to be noted
        removed = skip_database_checks(self.serializer)
        sources = {name: str(field.source) for name, field in self.serializer.fields.items() if not field.read_only}
        # For each unique field: its name, its source, and the index of the first row with each value.
        self._unique_fields: list[tuple[str, str, dict[Any, int]]] = [
            (name, sources[name], {}) for name in unique_names
        ]
        self._lookup_source = sources.get(self._lookup, "")
        needed = {sources[name] for name in unique_names}
        self.database_checks = None
        if check_database:
            self.database_checks = DatabaseChecks(removed, sources, self._format.field_name, is_update=partial)
            needed |= self.database_checks.sources
        self.existing_rows = None
        if (endpoint := target.detail_endpoint) and (source := sources.get(target.lookup)):
            self.existing_rows = ExistingRows(target, endpoint, request, mode, source, missing=self.missing)
            needed.add(source)
        self._compiled = compile_serializer(
            self.serializer, needed_values=[name for name, source in sources.items() if source in needed]
        )

    def with_cleared_fields(self, raw: RawRow) -> RawRow:
        """Return the row of an update with null, or an empty text, in place of each cell that is CLEAR_MARK."""
        if not (self._lookup and raw.has_cells and CLEAR_MARK.encode() in raw.json):
            return raw
        row = json.loads(raw.json)
        for name in [name for name, cell in row.items() if cell == CLEAR_MARK]:
            row[name] = None if getattr(self.serializer.fields.get(name), "allow_null", False) else ""
        return raw._replace(json=json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    def validate(self, row: Any, index: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the errors of a row, and the validated values of its unique and related fields.

        Each error has `field`, `code` and `message`. If there are any, there are no values. If the target's own code
        raises an unexpected exception, the row counts as valid. The create endpoint validates it again and reports
        what is wrong.
        """
        try:
            row = self._format.read(row)
        except Exception as error:  # noqa: BLE001 - the target's own parser may raise anything
            return self._reported(error), {}
        unknown = self.unknown_fields.errors(row) if self.unknown_fields else []
        # The fast checks are our own code. They run outside the `try`, so that a bug in them is not mistaken for an
        # exception of the target's code, which would let every row pass.
        compiled = self._compiled if self._compiled and self._compiled.passes_fast_checks(row) else None
        try:
            validated = compiled.validate(row) if compiled else self.serializer.run_validation(row)
            errors = self._format.name_fields(self._missing_lookup(validated) or self._duplicates(validated, index))
        except Exception as error:  # noqa: BLE001 - the target's own code may raise anything
            return unknown + self._reported(error), {}
        errors = unknown + errors
        return errors, {} if errors else validated

    def missing(self, raw: bytes) -> list[dict[str, Any]]:
        """Return an error for each required field that a row, which is valid as an update, does not have."""
        row = self._format.read(json.loads(raw))
        errors = [
            {"field": name, "code": "required", "message": str(field.error_messages["required"])}
            for name, field in self.serializer.fields.items()
            if field.required and not field.read_only and name not in row
        ]
        return self._format.name_fields(errors)

    def _reported(self, error: Exception) -> list[dict[str, Any]]:
        """Return the errors of an exception of the target's parser or serializer; none if it is not about the row."""
        if isinstance(error, serializers.ValidationError | ParseError):
            return self._format.name_fields(list(flatten_errors(error_detail(error))))
        # The text of the exception may contain values of the row, so it is not logged.
        logger.warning("The serializer %s raised an exception for a row", type(self.serializer).__name__)
        return []

    def _missing_lookup(self, validated: dict[str, Any]) -> list[dict[str, Any]]:
        """Return an error if the row of an update does not say which object it is about."""
        if not self._lookup or validated.get(self._lookup_source) not in {None, ""}:
            return []
        message = _("This field is needed to find the object.")
        return [{"field": self._lookup, "code": "required", "message": message}]

    def _duplicates(self, validated: dict[str, Any], index: int) -> list[dict[str, Any]]:
        """Return an error for each unique field whose value also occurs in an earlier valid row of this import."""
        new: list[tuple[dict[Any, int], Any]] = []
        errors = []
        for name, source, first_index in self._unique_fields:
            value = validated.get(source)
            if value is None or value == "":
                continue
            new.append((first_index, value))
            if value in first_index:
                message = _("An earlier row of this import has the same %(field)s.") % {"field": name}
                error = {"field": name, "code": "duplicate", "message": message, "first_index": first_index[value]}
                errors.append(error)
        # An invalid row is not imported, so its other values stay available to later rows.
        if not errors:
            for first_index, value in new:
                first_index[value] = index
        return errors
