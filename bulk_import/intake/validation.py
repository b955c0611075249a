"""Rows against the target's own serializer: shape and field rules, before anything is stored.

What needs the database (unique fields, related objects, rules over several fields) is left to the create
endpoint, which judges every row again anyway: a row is refused here only if it is certain to be refused there.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers
from rest_framework.validators import UniqueValidator

from bulk_import.conf import conf
from bulk_import.errors import flatten_errors
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.compiled_serializer import compile_serializer
from bulk_import.intake.endpoint_rules import leave_database_to_endpoint
from bulk_import.intake.json_rows import UNREADABLE, RowError, compact, read_row
from bulk_import_wire.contract import refused_line
from bulk_import_wire.problems import problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.formats import RawRow
    from bulk_import.intake.payload import Payload

logger = logging.getLogger(__name__)

MAX_KEPT_ERRORS = 10
"""Of one refused row, in the payload; with all those of a long list in it, a payload would grow without bound."""


@dataclass(slots=True)
class ValidationResult:
    """What the validation says of an import."""

    rows: int = 0
    invalid_rows: int = 0
    error_count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)  # the first of them
    is_malformed: bool = False  # a row is no JSON, so it can be neither stored nor skipped

    @property
    def valid_rows(self) -> int:
        return self.rows - self.invalid_rows

    def check_valid(self, *, skip_invalid: bool) -> None:
        """Raises BadImport when there is nothing to import, or when an invalid row may not be skipped."""
        if not self.invalid_rows or (skip_invalid and self.invalid_rows < self.rows and not self.is_malformed):
            return
        message = ngettext(
            "%(invalid)d of %(rows)d rows is not valid, so nothing was imported. Mend it and send all again.",
            "%(invalid)d of %(rows)d rows are not valid, so nothing was imported. Mend them and send all again.",
            self.invalid_rows,
        )
        message %= {"invalid": self.invalid_rows, "rows": self.rows}
        raise BadImport(
            message,
            code="invalid_rows",
            errors=self.errors,
            error_count=self.error_count,
            invalid_rows=self.invalid_rows,
        )


def validate_rows(
    target: Target,
    rows: Iterable[RawRow],
    request: Request,
    payload: Payload | None = None,
    *,
    skip_invalid: bool = False,
) -> ValidationResult:
    """Judge every row, and append it to the payload if there is one; a refused row only if it may be skipped.

    Raises BadImport where the document itself breaks, or has no rows or too many.
    """
    limits = conf()
    validator = RowValidator(target, request)
    verdicts = ValidationResult()
    for index, row in enumerate(rows):
        if index == limits.max_rows:
            message = _("There are more than the %(limit)d rows allowed. Send them in several imports.")
            raise BodyTooLarge(message % {"limit": limits.max_rows}, code="too_many_rows")
        line = None
        try:
            value, line = read_row(row.json, limits)
            errors = validator.errors(value, index)
        except RowError as error:
            errors = [{"field": None, "code": error.code, "message": error.message}]
            verdicts.is_malformed |= error.code in UNREADABLE
        verdicts.rows += 1
        if errors:
            verdicts.invalid_rows += 1
            verdicts.error_count += len(errors)
            where = {"index": index} if row.line is None else {"index": index, "line": row.line}
            space = limits.max_listed_errors - len(verdicts.errors)
            verdicts.errors += [{**where, **error} for error in errors[:space]]
        if payload is None or verdicts.is_malformed or (verdicts.invalid_rows and not skip_invalid):
            continue  # there will be no job
        line = compact(row.json) if line is None else line
        payload.append(refused_line(line, kept_errors(errors)) if errors else line)
    if not verdicts.rows:
        raise BadImport(_("There are no rows. Send at least one."), code="no_rows")
    return verdicts


def kept_errors(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What goes with a refused row into its payload: the first errors, their texts cut as those of problems are."""
    kept = []
    for error in errors[:MAX_KEPT_ERRORS]:
        cut = problem(error["field"], error["code"], error["message"], index=0)
        kept.append({**error, **{name: cut[name] for name in ("field", "code", "message")}})
    return kept


class RowValidator:
    """Judges one row after the other with a single serializer instance."""

    def __init__(self, target: Target, request: Request) -> None:
        self.serializer = target.serializer_class(context={"request": request, "view": target.create_view(request)})
        # Of each unique field its name, its source, and the row that each of its values came with first.
        self._unique_fields: list[tuple[str, str, dict[Any, int]]] = [
            (name, str(field.source), {})
            for name, field in self.serializer.fields.items()
            if not field.read_only and any(isinstance(check, UniqueValidator) for check in field.validators)
        ]
        leave_database_to_endpoint(self.serializer)
        wanted = [name for name, _source, _first_index in self._unique_fields]
        self._compiled = compile_serializer(self.serializer, wanted)

    def errors(self, row: Any, index: int) -> list[dict[str, Any]]:
        """What the target's serializer has against the row: field, code and message; [] when nothing."""
        # Not within the `try`: a mistake in our own tests must not pass for a stumble of the target's code.
        compiled = self._compiled if self._compiled and self._compiled.is_certain(row) else None
        try:
            validated = compiled.validate(row) if compiled else self.serializer.run_validation(row)
            return self._duplicates(validated, index)
        except serializers.ValidationError as error:
            return list(flatten_errors(error.detail))
        except Exception:  # noqa: BLE001 - the target's own code stumbled: the create endpoint will give the verdict
            # Its text may hold values of the row, so only the place is logged.
            logger.warning("The serializer %s raised on a row", type(self.serializer).__name__)
            return []

    def _duplicates(self, validated: dict[str, Any], index: int) -> list[dict[str, Any]]:
        """Values of unique fields that an earlier valid row of the same import has."""
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
        if not errors:
            for first_index, value in new:
                first_index[value] = index
        return errors
