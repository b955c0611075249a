"""Makes the calls for the rows of one chunk, and records how they went."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambda_worker.batches import BatchSize
from lambda_worker.call_statistics import CallStatistics
from lambda_worker.deadlines import call_timeout_seconds
from lambda_worker.endpoint_health import EndpointHealth
from lambda_worker.exceptions import BatchRefused, Unreachable
from lambda_worker.retries import RetryBudget, is_busy, is_usable, retry_after_of
from lambda_worker.retry_queue import RetryQueue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from lambda_worker.limiter import ConcurrencyLimiter
    from lambda_worker.monolith_client import Answer
    from lambda_worker.row import Row

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RowCalls:
    """The calls of one dispatch.

    `create` makes one create call. It takes the index, the row and a timeout in seconds, and returns the response.
    `create_batch` makes one batch call, see `MonolithClient.create_batch`. Without it, there are no batches.
    """

    create: Callable[[int, bytes, float], Awaitable[Answer]]
    limit: ConcurrencyLimiter
    settle_by: float  # time.monotonic() by which every call must have ended
    retries: RetryQueue = field(default_factory=lambda: RetryQueue(RetryBudget()))
    create_batch: Callable[[Sequence[Row], float], AsyncGenerator[list[Answer]]] | None = None
    batch_size: BatchSize = field(default_factory=BatchSize)
    health: EndpointHealth = field(default_factory=EndpointHealth)
    statistics: CallStatistics = field(default_factory=CallStatistics)
    _started: int = 0

    def take(self, left: deque[Row]) -> list[Row]:
        """Remove the rows of the next call from the front of `left`, which must not be empty, and return them."""
        rows = self.batch_size.take(left, self.limit)
        for row in rows:
            row.signs_before = self.health.signs_of_life
        return rows

    async def make(self, rows: Sequence[Row]) -> AsyncGenerator[tuple[Row, Answer | None]]:
        """Make the first call of these rows, and yield each row with its answer. None means that there was no answer.

        The rows that are not yielded were not tried.
        """
        if len(rows) > 1 and self.create_batch:
            async with aclosing(self._make_batch(rows, self.create_batch(rows, self.settle_by))) as answered:
                async for row, answer in answered:
                    yield row, answer
        else:
            for row in rows:
                yield row, await self.make_one(row)

    async def make_one(self, row: Row) -> Answer | None:
        """Make one create call. Return None if there was no answer."""
        began_at = time.monotonic()
        self._number(row)
        answer: Answer | None
        try:
            with self.statistics.in_flight():
                answer = await self.create(row.index, row.body, call_timeout_seconds(self.settle_by - began_at))
        except Unreachable:
            answer = None
        self._record(row, answer, time.monotonic() - began_at)
        return answer

    async def _make_batch(
        self, rows: Sequence[Row], arriving: AsyncGenerator[list[Answer]]
    ) -> AsyncGenerator[tuple[Row, Answer | None]]:
        """Do the work of `make` for several rows.

        If the call breaks off, the first row without an answer may be the cause. So the rows after it are sent in calls
        of their own.
        """
        for row in rows:
            self._number(row)
        waiting, turn_at = deque(rows), time.monotonic()
        try:
            with self.statistics.in_flight():
                async with aclosing(arriving):
                    async for answers in arriving:
                        # Something between the endpoint and the worker may collect the answers of several rows.
                        seconds = (time.monotonic() - turn_at) / len(answers)
                        for answer in answers:
                            row = waiting.popleft()
                            self._record(row, answer, seconds, len(rows))
                            yield row, answer
                            if waiting:
                                waiting[0].signs_before = self.health.signs_of_life
                        turn_at = time.monotonic()
        except BatchRefused as refusal:
            logger.warning("The rows of the chunk are sent one by one: %s", refusal)
            self.batch_size.give_up()
        except Unreachable:
            self.batch_size.shrink(len(rows))
            for row in waiting:
                row.is_alone = True
            if waiting:
                row = waiting.popleft()
                self._record(row, None, time.monotonic() - turn_at)
                yield row, None

    def _number(self, row: Row) -> None:
        self._started += 1
        row.call_number = self._started

    def _record(self, row: Row, answer: Answer | None, seconds: float, rows: int = 1) -> None:
        """Record how a call of the row went. `seconds` is how long it took, and `rows` how many rows the call has."""
        if not row.calls:
            self.retries.earn()
        row.calls += 1
        self.statistics.count(answer, seconds)
        load = answer.shop_load if answer else None
        self.limit.record(seconds, overloaded=is_busy(answer), shop_load=load, rows=rows)
        if is_usable(answer):
            self.health.record_answered()
        else:
            now, wanted_seconds = time.monotonic(), retry_after_of(answer)
            self.health.record_unanswered(began_at=now - seconds, now=now, retry_after_seconds=wanted_seconds)
