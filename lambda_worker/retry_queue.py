"""Decides which rows get the retries of a chunk's budget."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambda_worker.retries import MAX_TRIES

if TYPE_CHECKING:
    from lambda_worker.retries import RetryBudget


@dataclass(slots=True)
class RetryQueue:
    """The rows that wait for a retry. The row with the most tries is first, because it is closest to its outcome.

    A row that may fail gets all the retries up to MAX_TRIES at once, and gives back those that it does not use. So a
    few rows get the retries that they need for an outcome, instead of many rows getting one more try each.

    A row waits as long as other rows can still add to the budget. After that it is refused a retry, and fails. For
    example, the endpoint answers every row of a chunk with status 500. Some rows then get five tries, and the others
    fail after one.
    """

    budget: RetryBudget
    has_rows_to_start: bool = True
    reserved: int = 0  # retries that rows have got and not used yet
    _waiting: list[tuple[int, int, bool, asyncio.Future[int]]] = field(default_factory=list)  # a heap
    _numbers: itertools.count[int] = field(default_factory=itertools.count)  # first come, first served

    def earn(self) -> None:
        """Add to the budget. Call this for the first call of each row."""
        self.budget.earn()
        self.serve()

    def close(self) -> None:
        """Record that every row has been started, so that no further one adds to the budget."""
        self.has_rows_to_start = False
        self.serve()

    def ask(self, tries: int, *, may_fail: bool) -> asyncio.Future[int]:
        """Ask for retries for a row that has had this many tries.

        Returns a future. Its result is the number of retries that the row gets, or 0 if the row is refused a retry.

        With `may_fail=False`, the row is never refused and gets one retry. While the row waits, call `serve` again
        after the seconds that it returns, because the budget also grows with time.
        """
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-tries, next(self._numbers), may_fail, turn))
        self.serve()
        return turn

    def use(self) -> None:
        """Record that a row uses one of the retries that it has got."""
        self.reserved -= 1
        self.serve()

    def give_back(self, retries: int) -> None:
        """Take back the retries that a row has got and does not need."""
        self.reserved -= retries
        self.budget.give_back(retries)
        self.serve()

    def serve(self) -> float:
        """Give the retries of the budget to the first rows.

        Returns the seconds after which the budget has grown enough for the first row that still waits; 0.0 if no row
        waits.
        """
        while self._waiting:
            negative_tries, _number, may_fail, turn = self._waiting[0]
            if not turn.done():
                retries = max(1, MAX_TRIES + negative_tries) if may_fail else 1
                if not self._can_grow:
                    retries = max(1, min(retries, self.budget.available))
                if seconds := self.budget.spend(retries):
                    if not self._can_grow:
                        self._refuse()
                    return seconds
                self.reserved += retries
                turn.set_result(retries)
            heapq.heappop(self._waiting)
        return 0.0

    def stop(self) -> None:
        """Wake all rows that wait. None of them gets a retry."""
        for *_, turn in self._waiting:
            turn.cancel()

    @property
    def _can_grow(self) -> bool:
        """Whether a row may still add to the budget: one that has not started, or one that gives retries back."""
        return self.has_rows_to_start or self.reserved > 0

    def _refuse(self) -> None:
        for *_, may_fail, turn in self._waiting:
            if may_fail and not turn.done():
                turn.set_result(0)
