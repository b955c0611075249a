"""Rows whose response may be about the row itself or about every row. The other rows of the chunk decide which.

For example, a 403 may mean that this row needs a permission of its own, or that the submitter has lost the permission
to create rows. If a row whose call started later is created, the first reading is right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulk_import_wire.contract import Outcome
from lambda_worker.retries import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambda_worker.monolith_client import Answer
    from lambda_worker.row import Row

MAX_WRONG_STATUS_ROWS = 5
"""Number of rows with a wrong status after which only one more row, the control, is sent unless a row was created.

A wrong status is a 2xx that is not one of the target's `success_statuses`, so the row was not created.

The number is more than one, so that a single row that is answered quickly does not pause the job. It is small, because
an endpoint that answers every row like this should not be called for the whole chunk.
"""


@dataclass(slots=True)
class SetAsideRows:
    """Collects such rows while the others are dispatched, and decides on them afterwards."""

    _forbidden: list[tuple[Row, Answer]] = field(default_factory=list)
    _wrong_status: list[tuple[Row, Answer]] = field(default_factory=list)
    _last_admitted: int = 0  # the number of the last call that shows that the submitter may create rows

    def admit(self, row: Row) -> None:
        """Note that the endpoint created or rejected this row, so the submitter may create rows."""
        self._last_admitted = max(self._last_admitted, row.call_number)

    def add(self, row: Row, response: Answer, decision: Decision) -> None:
        """Set a row aside. The decision is FORBIDDEN for a 401 or 403, or WRONG_STATUS."""
        rows = self._forbidden if decision == Decision.FORBIDDEN else self._wrong_status
        rows.append((row, response))

    @property
    def has_many_wrong_statuses(self) -> bool:
        """Whether so many rows had a wrong status that the endpoint may answer every row like this."""
        return len(self._wrong_status) >= MAX_WRONG_STATUS_ROWS

    def decide(self, *, has_created: bool) -> Iterator[tuple[Row, Answer, Outcome | None]]:
        """Yield each row with its response and its outcome. None means that the response concerns every row.

        `has_created` says whether a row of the chunk was created, in this delivery or in an earlier one. A forbidden
        row is rejected if the endpoint created or rejected a row whose call started later. A row with a wrong status
        fails if any row was created.
        """
        for row, response in self._forbidden:
            yield row, response, Outcome.REJECTED if row.call_number < self._last_admitted else None
        for row, response in self._wrong_status:
            yield row, response, Outcome.FAILED if has_created else None
