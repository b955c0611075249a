"""Counts the calls for the rows of one delivery, so that staff can see how the endpoint answers its workers."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from bulk_import_wire.calls import MAX_ANSWERS, NO_ANSWER, NO_VERDICT, Calls
from bulk_import_wire.contract import RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lambda_worker.monolith_client import Answer


class CallStatistics:
    """The calls of one delivery. A batch call is one call in flight, and has an answer for each of its rows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: Counter[str] = Counter()
        self._seconds = 0.0
        self._started: dict[int, float] = {}  # when each call in flight began, the oldest first
        self._number = 0

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """A call is in flight during this block."""
        self._number += 1
        number = self._number
        self._started[number] = self._clock()
        try:
            yield
        finally:
            del self._started[number]

    def count(self, answer: Answer | None, seconds: float) -> None:
        """Count the answer for a row, which took so long. None means that there was no answer."""
        self._answers[kind_of(answer) if answer else NO_ANSWER] += 1
        self._seconds += seconds

    def report(self) -> Calls:
        """Return the numbers so far."""
        oldest = next(iter(self._started.values()), None)
        return Calls(
            in_flight=len(self._started),
            oldest_ms=0 if oldest is None else round(1000 * (self._clock() - oldest)),
            total_ms=round(1000 * self._seconds),
            answers=dict(self._answers.most_common(MAX_ANSWERS)),
        )


def kind_of(answer: Answer) -> str:
    """Return the key of an answer in `Calls.answers`."""
    if answer.row_verdict not in {"", RowVerdict.NOT_CREATED}:
        return str(answer.row_verdict)
    # A 503 of a proxy means the same to staff as a 503 of the endpoint. A 200 of a login page is no success.
    is_error = answer.status >= HTTPStatus.BAD_REQUEST
    return str(answer.status) if answer.row_verdict or is_error else NO_VERDICT
