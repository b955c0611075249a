"""Counts the create calls of one delivery, so that staff can see how the endpoint answers its workers."""

from __future__ import annotations

import time
from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING

from bulk_import_wire.contract import MAX_ANSWERS, NO_ANSWER, NO_VERDICT, Calls, RowVerdict
from lambda_worker.exceptions import Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lambda_worker.monolith_client import Answer


class CallStatistics:
    """The create calls of one delivery."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: Counter[str] = Counter()
        self._seconds = 0.0
        self._started: dict[int, float] = {}  # when each call in flight began, the oldest first
        self._number = 0

    async def measure(self, call: Awaitable[Answer]) -> Answer:
        """Make the call, count its answer and its duration, and return the answer. Raises what the call raises."""
        self._number += 1
        number, began_at = self._number, self._clock()
        self._started[number] = began_at
        try:
            answer = await call
        except Unreachable:
            self._count(NO_ANSWER, began_at)
            raise
        finally:
            del self._started[number]
        self._count(kind_of(answer), began_at)
        return answer

    def report(self) -> Calls:
        """Return the numbers so far."""
        oldest = next(iter(self._started.values()), None)
        return Calls(
            in_flight=len(self._started),
            oldest_ms=0 if oldest is None else round(1000 * (self._clock() - oldest)),
            total_ms=round(1000 * self._seconds),
            answers=dict(self._answers.most_common(MAX_ANSWERS)),
        )

    def _count(self, kind: str, began_at: float) -> None:
        self._answers[kind] += 1
        self._seconds += self._clock() - began_at


def kind_of(answer: Answer) -> str:
    """Return the key of an answer in `Calls.answers`."""
    if answer.row_verdict not in {"", RowVerdict.NOT_CREATED}:
        return str(answer.row_verdict)
    # A 503 of a proxy means the same to staff as a 503 of the endpoint. A 200 of a login page is no success.
    is_error = answer.status >= HTTPStatus.BAD_REQUEST
    return str(answer.status) if answer.row_verdict or is_error else NO_VERDICT
