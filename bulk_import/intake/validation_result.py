"""What the validation of an upload found."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bulk_import.exceptions import BadImport
from bulk_import.intake.raw_rows import MEBIBYTE

if TYPE_CHECKING:
    from bulk_import.intake.database_checks import DatabaseChecks
    from bulk_import.intake.existing_rows import ExistingRows
    from bulk_import.intake.raw_rows import ReadRows
    from bulk_import.intake.unknown_fields import UnknownFields

MAX_LISTED_ERRORS = 100
"""Maximum number of errors in a response. The response also has the number of all errors."""

MAX_LISTED_ROW_BYTES = 4 * MEBIBYTE
"""Maximum size of all rows in a response together."""

MAX_ERRORS = 5_000
"""Errors after which validation stops. Each error takes DRF many times as long as a valid row."""


@dataclass(slots=True)
class ValidationResult:
    """How many rows of an upload are valid, and the first errors of the others."""

    rows: int = 0
    invalid_rows: int = 0
    error_count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)  # at most MAX_LISTED_ERRORS, or all with `listed_rows`
    listed_rows: list[dict[str, Any]] | None = None  # the rows of these errors; None if nobody asked for them
    listed_row_bytes: int = 0
    is_malformed: bool = False  # a row is not valid JSON, so it can be neither stored nor skipped
    database_checks: DatabaseChecks | None = None  # what was compared with the database, in a dry run
    existing: ExistingRows | None = None  # the objects of the rows, if they were looked up
    file: ReadRows | None = None  # the rows, if they say how their file was read
    unknown_fields: UnknownFields | None = None  # those of JSON rows

    @property
    def existing_rows(self) -> int | None:
        """The number of valid rows whose object exists; None if that is unknown."""
        return self.existing.count if self.existing else None

    @property
    def reading(self) -> dict[str, Any]:
        """How the file was read: which of its columns or fields were ignored, and more for a table."""
        if self.file:
            return self.file.reading
        return {"format": "json", "ignored": self.unknown_fields.names if self.unknown_fields else []}

    def add_errors(self, errors: list[dict[str, Any]], where: dict[str, int], row: bytes = b"") -> None:
        """Count the errors of an invalid row, which is at the index and line in `where`. `row` is b"" if unreadable.

        Raises BadImport if there are more than MAX_ERRORS errors.
        """
        self.invalid_rows += 1
        self.error_count += len(errors)
        space = (MAX_LISTED_ERRORS if self.listed_rows is None else MAX_ERRORS) - len(self.errors)
        if self.listed_rows is not None and row and self.listed_row_bytes + len(row) <= MAX_LISTED_ROW_BYTES:
            self.listed_row_bytes += len(row)
            self.listed_rows.append({**where, "row": json.loads(row)})
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

    def check_valid(self, *, skip_invalid: bool, rehearsal: bool = False) -> None:
        """Raise BadImport if there is nothing to import, or if an invalid row may not be skipped.

        A rehearsal may have invalid rows only, because they can be corrected afterwards.
        It is raised too if the object of a row exists, and the import is to stop in this case.
        """
        if self.existing:
            self.check_none_exists(self.existing.count or 0)
        can_skip = skip_invalid and not self.is_malformed and (rehearsal or self.invalid_rows < self.rows)
        if not self.invalid_rows or can_skip:
            return
        message = ngettext(
            "%(invalid)d row of %(rows)d is not valid, so nothing was imported. "
            "Correct this row and send the file again.",
            "%(invalid)d rows of %(rows)d are not valid, so nothing was imported. "
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

    def check_none_exists(self, existing: int) -> None:
        """Raise BadImport if objects of the rows exist."""
        if not existing:
            return
        message = ngettext(
            "The object of %(existing)d row of %(rows)d exists already, so nothing was imported. Send "
            "on_existing=skip to leave it as it is, or on_existing=update to change it.",
            "The objects of %(existing)d rows of %(rows)d exist already, so nothing was imported. Send "
            "on_existing=skip to leave them as they are, or on_existing=update to change them.",
            existing,
        )
        raise BadImport(
            message % {"existing": existing, "rows": self.rows},
            code="rows_exist",
            status=HTTPStatus.CONFLICT,
            errors=self.errors,
            error_count=self.error_count,
            invalid_rows=self.invalid_rows,
            existing_rows=existing,
            reading=self.reading,
        )
