"""Validates rows with the target's own serializer. DRF sees only those that are not certainly valid."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.validators import UniqueValidator

from bulk_import.errors import flatten_errors
from bulk_import.intake.compiled_serializer import compile_serializer
from bulk_import.intake.database_checks import DatabaseChecks
from bulk_import.intake.endpoint_rules import skip_database_checks
from bulk_import.intake.existing_rows import ExistingRows
from bulk_import.intake.row_columns import Columns
from bulk_import.intake.unique_values import UniqueValues
from bulk_import.models import PARTIAL_MODES, JobMode
from bulk_import.reports.cells import CLEAR_MARK
from bulk_import.target_views import ViewFormat, error_detail

if TYPE_CHECKING:
    from collections.abc import Collection

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.raw_rows import RawRow
    from bulk_import.intake.unknown_fields import UnknownFields

logger = logging.getLogger(__name__)


class RowValidator:
    """Validates the rows of an import with a single serializer instance."""

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
        self._unique_values = UniqueValues((name, sources[name]) for name in unique_names)
        self._lookup_source = sources.get(self._lookup, "")
        self._needs_values = check_database or mode != JobMode.CREATE
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

    def with_cleared_fields(self, raws: list[RawRow]) -> list[RawRow]:
        """Return the rows of an update with null, or an empty text, in place of each cell that is CLEAR_MARK."""
        return list(map(self._with_cleared_fields, raws)) if self._lookup else raws

    def _with_cleared_fields(self, raw: RawRow) -> RawRow:
        if not (raw.has_cells and CLEAR_MARK.encode() in raw.json):
            return raw
        row = json.loads(raw.json)
        for name in [name for name, cell in row.items() if cell == CLEAR_MARK]:
            row[name] = None if getattr(self.serializer.fields.get(name), "allow_null", False) else ""
        return raw.changed(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), raw.errors)

    def validate(
        self, rows: dict[int, Any], invalid: Collection[int] = ()
    ) -> tuple[dict[int, list[dict[str, Any]]], dict[int, dict[str, Any]]]:
        """Return the errors of each invalid row, and the validated values of the unique and related fields of each row.

        The keys are the indexes of the rows. `invalid` has the keys of rows with errors that are known already. Each
        error has `field`, `code` and `message`. If the target's own code raises an unexpected exception, the row counts
        as valid. The create endpoint validates it again and reports what is wrong. The values may be missing if they
        are neither compared with the database nor looked up.
        """
        errors: dict[int, list[dict[str, Any]]] = {}
        validated: dict[int, dict[str, Any]] = {}
        rows = self._read(rows, errors)
        objects = rows
        if set(map(type, rows.values())) != {dict}:
            objects = {index: row for index, row in rows.items() if type(row) is dict}
        columns = Columns(list(objects.values()))
        if self.unknown_fields:
            errors |= self.unknown_fields.errors(objects, columns.names)
        # The fast checks are our own code. They run outside the `try`, so that a bug in them is not mistaken for an
        # exception of the target's code, which would let every row pass.
        certain = self._compiled.certain(objects, columns) if self._compiled else {}
        invalid = {*invalid, *errors}
        if not invalid and len(certain) == len(rows) and self._are_valid(list(certain), columns):
            return errors, validated
        validate_certain = self._compiled.validate if self._compiled else self.serializer.run_validation
        for index, row in rows.items():
            try:
                values = validate_certain(row) if index in certain else self.serializer.run_validation(row)
                is_valid = index not in invalid
                found = self._missing_lookup(values) or self._unique_values.errors(values, index, is_valid=is_valid)
                found = self._format.name_fields(found) if found else found
            except Exception as error:  # noqa: BLE001 - the target's own code may raise anything
                found, values = self._reported(error), {}
            validated[index] = values
            if found:
                errors[index] = errors.get(index, []) + found
        return errors, validated

    def _are_valid(self, indexes: list[int], columns: Columns) -> bool:
        """Return whether rows that pass all fast checks need no further look. Then their unique values are noted."""
        if self._needs_values or not self._compiled or not self._compiled.leaves_nothing_to_drf(columns.names):
            return False
        return self._unique_values.add_new(self._compiled.needed_columns(columns), indexes)

    def _read(self, rows: dict[int, Any], errors: dict[int, list[dict[str, Any]]]) -> dict[int, Any]:
        """Return the rows as the view's parser reads them. Add the errors of those that it refuses."""
        if not self._format.has_own_parser:
            return rows
        read = {}
        for index, row in rows.items():
            try:
                read[index] = self._format.read(row)
            except Exception as error:  # noqa: BLE001 - the target's own parser may raise anything
                if found := self._reported(error):
                    errors[index] = found
        return read

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
