"""Finds the rows of an upload whose objects exist already, many rows with one query.

The objects are looked up as for each row of an update: by the target's `lookup` field, in the queryset of the detail
view for the user of the request. So nobody learns of an object that this view does not show.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException

from bulk_import.batching import in_batches
from bulk_import.errors import OUT_OF_ORDER
from bulk_import.intake.database_checks import ROWS_PER_QUERY, find_values
from bulk_import.intake.modes import detail_view
from bulk_import.models import JobMode, database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.detail_endpoint import DetailEndpoint
    from bulk_import.intake.row_batch import CheckedRow

logger = logging.getLogger(__name__)


class ExistingRows:
    """Looks up the object of each valid row. `source` is the key of the lookup field in a row's validated values.

    `missing` returns an error for each required field that a row does not have.
    """

    def __init__(
        self,
        target: Target,
        endpoint: DetailEndpoint,
        request: Request,
        mode: str,
        source: str,
        *,
        missing: Callable[[bytes], list[dict[str, Any]]],
    ) -> None:
        self._view = detail_view(endpoint, request, "PATCH")
        self._field, self._mode, self._source, self._missing = target.lookup, mode, source, missing
        self.count: int | None = 0
        """Valid rows whose object exists. None if the objects cannot be looked up."""

    def apply(self, rows: Iterable[CheckedRow]) -> Iterator[CheckedRow]:
        """Yield all rows in their order. A valid one gets an error if its object may not, or has to, exist.

        A row of an upsert whose object does not exist yet gets an error for each required field that it lacks.

        With the mode `skip`, a row whose object exists has `is_skipped`. Raises an exception of OUT_OF_ORDER.
        """
        for batch in in_batches(rows, ROWS_PER_QUERY):
            valid = [row for row in batch if not row.errors and self._value(row) is not None]
            found = self._find({self._value(row) for row in valid})
            if self.count is not None:
                for row in valid:
                    self._mark(row, exists=self._value(row) in found)
            yield from batch

    def _value(self, row: CheckedRow) -> Any:
        value = row.validated.get(self._source)
        return None if value == "" else value

    def _mark(self, row: CheckedRow, *, exists: bool) -> None:
        if exists and self.count is not None:
            self.count += 1
        row.is_skipped = exists and self._mode == JobMode.SKIP
        if exists and self._mode == JobMode.STOP:
            row.errors = [self._error("exists", _("There is already an object with this %(field)s."))]
        elif not exists and self._mode == JobMode.UPDATE:
            row.errors = [self._error("not_found", _("There is no object with this %(field)s."))]
        elif not exists and self._mode == JobMode.UPSERT:
            row.errors = self._missing(row.raw.json)

    def _error(self, code: str, message: str) -> dict[str, Any]:
        return {"field": self._field, "code": code, "message": message % {"field": self._field}}

    def _find(self, values: set[Any]) -> set[Any]:
        """Return those of the values that an object has. Sets `count` to None if the objects cannot be looked up."""
        if not values or self.count is None:
            return set()
        try:
            return find_values(self._view.get_queryset().using(database()), self._source, values)
        except (APIException, PermissionDenied, Http404):  # the view shows the user no object
            return set()
        except OUT_OF_ORDER:
            raise
        except Exception:  # noqa: BLE001 - the target's own code may raise anything
            # The exception may contain values of the rows, so it is not logged.
            logger.warning("The objects of the rows cannot be looked up")
            self.count = None
            return set()
