"""A row while it is being sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from lambda_worker.failure_file import RowFailure, now

if TYPE_CHECKING:
    from bulk_import_wire.contract import Outcome


@dataclass(slots=True)
class Row:
    """A row that is being sent, and what is known about it so far."""

    index: int
    body: bytes
    calls: int = 0
    tries: int = 0  # the calls that count towards MAX_TRIES
    status: int | None = None  # of the last answer; None if there was none
    errors: list[dict[str, Any]] = field(default_factory=list)  # why the last call did not create the row
    call_number: int = 0  # the position of the last call among all calls of the dispatch
    is_alone: bool = False  # whether it gets a call of its own, because a batch with it broke off
    signs_before: int = 0  # the endpoint's signs of life before the last call
    may_fail: bool = False  # whether the last call counts as a try, so that the row may fail
    retries: int = 0  # that the row has got from the budget and not used yet
    is_refused_a_retry: bool = False

    @classmethod
    def tried_before(cls, failure: RowFailure) -> Self:
        """Return the row of an earlier delivery that ended before the row had an outcome."""
        tries = failure.attempts
        return cls(failure.index, failure.row, tries, tries, failure.status, failure.errors, may_fail=True)

    def failure(self, outcome: Outcome, *, attempts: int) -> RowFailure:
        """Return why the row was not created, as a line of the failures file."""
        return RowFailure(self.index, self.body, outcome, self.status, self.errors, attempts=attempts, at=now())
