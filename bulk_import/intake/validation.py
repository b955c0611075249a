"""Validates rows with the target's own serializer before anything is stored.

Only the rules about the shape and the fields of a row are applied here. Everything that needs the database (unique
values, related objects, rules over several fields) is left to the create endpoint, which validates every row again.
So a row is rejected here only if the create endpoint would certainly reject it too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.validators import UniqueValidator

from bulk_import.conf import conf
from bulk_import.errors import flatten_errors
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.compiled_serializer import compile_serializer
from bulk_import.intake.endpoint_rules import skip_database_checks
from bulk_import.intake.json_rows import UNREADABLE_ROW_CODES, RowError, parse_row, to_payload_line
from bulk_import.intake.spreadsheets.table import Table
from bulk_import.intake.upload_limits import check_values
from bulk_import.target_views import ViewFormat, error_detail
from bulk_import_wire.lines import refused_line
from bulk_import_wire.problems import problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.payload import Payload
    from bulk_import.intake.raw_rows import RawRow

logger = logging.getLogger(__name__)

MAX_LISTED_ERRORS = 100
"""Maximum number of errors in a response. The response also has the number of all errors."""

MAX_ERRORS = 5_000
"""Errors after which validation stops. Each error takes DRF many times as long as a valid row."""

MAX_STORED_ERRORS = 10
"""Maximum number of errors that the payload stores for one invalid row. A row with a long list can have thousands."""


MAX_NAME_CHARACTERS = 100
"""Longest name of an unknown field in an answer. It comes from the client."""


@dataclass(slots=True)
class ValidationResult:
    """How many rows of an upload are valid, and the first errors of the others."""

    rows: int = 0
    invalid_rows: int = 0
    error_count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)  # at most MAX_LISTED_ERRORS
    is_malformed: bool = False  # a row is not valid JSON, so it can be neither stored nor skipped
    table: Table | None = None  # the file, if it is a table
    unknown_fields: dict[str, None] = field(default_factory=dict)  # of JSON rows, in their order

    @property
    def reading(self) -> dict[str, Any]:
        """How the file was read: which of its columns or names were ignored, and more for a table."""
        return self.table.reading if self.table else {"format": "json", "ignored": list(self.unknown_fields)}

    def add_errors(self, errors: list[dict[str, Any]], where: dict[str, int]) -> None:
        """Count the errors of an invalid row, which is at the index and line in `where`.

        Raises BadImport if there are more than MAX_ERRORS errors.
        """
        self.invalid_rows += 1
        self.error_count += len(errors)
        space = MAX_LISTED_ERRORS - len(self.errors)
        self.errors += [{**where, **error} for error in errors[:space]]
        if self.error_count > MAX_ERRORS:
            message = _(
                "This file has more than %(limit)d errors, so we stopped checking it, and nothing was imported. "
                "Correct the rows and send the file again."
            )
            raise BadImport(
                message % {"limit": MAX_ERRORS},
                code="too_many_errors",
                errors=self.errors,
                error_count=self.error_count,
                error_count_is_minimum=True,
                invalid_rows=self.invalid_rows,
                reading=self.reading,
            )

    @property
    def valid_rows(self) -> int:
        return self.rows - self.invalid_rows

    def check_valid(self, *, skip_invalid: bool) -> None:
        """Raise BadImport if there is nothing to import, or if an invalid row may not be skipped."""
        if not self.invalid_rows or (skip_invalid and self.invalid_rows < self.rows and not self.is_malformed):
            return
        message = ngettext(
            "%(invalid)d of %(rows)d rows is not valid, so nothing was imported. "
            "Correct this row and send the file again.",
            "%(invalid)d of %(rows)d rows are not valid, so nothing was imported. "
            "Correct these rows and send the file again.",
            self.invalid_rows,
        )
        message %= {"invalid": self.invalid_rows, "rows": self.rows}
        raise BadImport(
            message,
            code="invalid_rows",
            errors=self.errors,
            error_count=self.error_count,
            invalid_rows=self.invalid_rows,
            reading=self.reading,
        )


def validate_rows(
    target: Target,
    rows: Iterable[RawRow],
    request: Request,
    payload: Payload | None = None,
    *,
    skip_invalid: bool = False,
    refuse_unknown: bool = False,
) -> ValidationResult:
    """Validate every row and append it to the payload, if there is one.

    With `refuse_unknown`, a JSON row with a field that the serializer does not have is invalid.

    With `skip_invalid`, invalid rows are appended too, together with their errors. As soon as it is certain that
    there will be no job, nothing more is appended. Raises BadImport if the document itself is malformed, or if it has
    no rows, too many rows or values, or too many errors.
    """
    settings = conf()
    result = ValidationResult(table=rows if isinstance(rows, Table) else None)
    validator = RowValidator(target, request, None if result.table else result.unknown_fields, refuse_unknown)
    values = 0
    for index, row in enumerate(rows):
        if index == settings.max_rows:
            message = _("This file has more than %(limit)d rows, which is the limit. Split it into several files.")
            raise BodyTooLarge(message % {"limit": settings.max_rows}, code="too_many_rows")
        line = None
        try:
            value, line, row_values = parse_row(row.json, settings.max_row_bytes)
            values += row_values
            errors = join_errors(row.errors, validator.errors(value, index))
        except RowError as error:
            errors = [{"field": None, "code": error.code, "message": error.message}]
            result.is_malformed |= error.code in UNREADABLE_ROW_CODES
            values += row.json.count(b",")  # about as many as the row has
        result.rows += 1
        check_values(values, result.rows)
        if errors:
            result.add_errors(errors, {"index": index} if row.line is None else {"index": index, "line": row.line})
        if payload is None or result.is_malformed or (result.invalid_rows and not skip_invalid):
            continue
        line = to_payload_line(row.json) if line is None else line
        payload.append(refused_line(line, stored_errors(errors)) if errors else line)
    if not result.rows:
        raise BadImport(_("This file has no rows. Send at least one."), code="no_rows")
    return result


def join_errors(of_cells: Iterable[dict[str, Any]], of_row: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the errors of a row. If a cell could not be read, what the serializer says about its field is left out."""
    unread = {error["field"] for error in of_cells}
    return [*of_cells, *(error for error in of_row if error["field"] not in unread)] if unread else of_row


def stored_errors(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first errors of an invalid row for its payload line, with their texts cut to a safe length."""
    stored = []
    for error in errors[:MAX_STORED_ERRORS]:
        cut = problem(error["field"], error["code"], error["message"], index=0)
        stored.append({**error, **{name: cut[name] for name in ("field", "code", "message")}})
    return stored


class RowValidator:
    """Validates one row after another with a single serializer instance."""

    def __init__(
        self,
        target: Target,
        request: Request,
        unknown_fields: dict[str, None] | None = None,
        refuse_unknown: bool = False,
    ) -> None:
        """Add fields that the serializer does not have to `unknown_fields`, if given; it stops at MAX_LISTED_ERRORS."""
        view = target.create_view(request)
        self._format = ViewFormat(view)
        self.serializer = target.serializer_class(context={"request": request, "view": view})
        # For each unique field: its name, its source, and the index of the first row with each value.
        self._unique_fields: list[tuple[str, str, dict[Any, int]]] = [
            (name, str(field.source), {})
            for name, field in self.serializer.fields.items()
            if not field.read_only and any(isinstance(validator, UniqueValidator) for validator in field.validators)
        ]
        self._names = {name for name, found in self.serializer.fields.items() if not found.read_only}
        self._unknown_fields, self._refuse_unknown = unknown_fields, refuse_unknown
        skip_database_checks(self.serializer)
        unique_names = [name for name, _source, _first_index in self._unique_fields]
        self._compiled = compile_serializer(self.serializer, needed_values=unique_names)

    def errors(self, row: Any, index: int) -> list[dict[str, Any]]:
        """Return the errors of a row, each with `field`, `code` and `message`; an empty list if it is valid.

        If the target's own code raises an unexpected exception, the row counts as valid. The create endpoint
        validates it again and reports what is wrong.
        """
        try:
            row = self._format.read(row)
        except Exception as error:  # noqa: BLE001 - the target's own parser may raise anything
            return self._reported(error)
        unknown = self._unknown(row)
        # The fast checks are our own code. They run outside the `try`, so that a bug in them is not mistaken for an
        # exception of the target's code, which would let every row pass.
        compiled = self._compiled if self._compiled and self._compiled.passes_fast_checks(row) else None
        try:
            validated = compiled.validate(row) if compiled else self.serializer.run_validation(row)
            return unknown + self._format.name_fields(self._duplicates(validated, index))
        except Exception as error:  # noqa: BLE001 - the target's own code may raise anything
            return self._reported(error)

    def _unknown(self, row: Any) -> list[dict[str, Any]]:
        """Note the fields of a row that the serializer does not have. Return their errors if they are refused."""
        if self._unknown_fields is None or type(row) is not dict or row.keys() <= self._names:
            return []
        unknown = [name for name in row if name not in self._names]
        for name in unknown[:MAX_LISTED_ERRORS]:
            if len(self._unknown_fields) < MAX_LISTED_ERRORS:
                self._unknown_fields.setdefault(name[:MAX_NAME_CHARACTERS])
        if not self._refuse_unknown:
            return []
        message = _("There is no such field. Remove it, or correct its name.")
        return [{"field": name, "code": "unknown_field", "message": message} for name in unknown[:MAX_LISTED_ERRORS]]

    def _reported(self, error: Exception) -> list[dict[str, Any]]:
        """Return the errors of an exception of the target's parser or serializer; none if it is not about the row."""
        if isinstance(error, serializers.ValidationError | ParseError):
            return self._format.name_fields(list(flatten_errors(error_detail(error))))
        # The text of the exception may contain values of the row, so it is not logged.
        logger.warning("The serializer %s raised an exception for a row", type(self.serializer).__name__)
        return []

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
