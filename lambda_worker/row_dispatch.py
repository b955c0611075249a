"""Calls the create endpoint once per row, many rows at a time, and waits until every call has ended.

A row that is rejected does not affect the others. Some events concern the whole chunk: another worker has it, the
submitter may not create rows, the endpoint is unavailable, or the time is over. Then no further row is started. The
calls in flight are not interrupted, because each may still create its row, and only its response tells the worker.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulk_import_wire.contract import Outcome, PauseCode
from lambda_worker.endpoint_health import EndpointHealth
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, StaleEpoch, Unreachable
from lambda_worker.failure_file import RowFailure, now
from lambda_worker.refusals import CANCELLED, describe, errors_of
from lambda_worker.retries import (
    BUSY,
    FORBIDDEN,
    MAX_TRIES,
    Decision,
    RetryBudget,
    backoff_seconds,
    decide,
    retry_after_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lambda_worker.limiter import ConcurrencyLimiter
    from lambda_worker.monolith_client import Answer

CALL_TIMEOUT_SECONDS = 30.0
"""Timeout of one create call, unless the invocation ends sooner."""

MIN_CALL_TIMEOUT_SECONDS = 0.1
"""Timeout of a call that starts when the time is already over. It must be positive."""


@dataclass(slots=True)
class RowDispatch:
    """Dispatches the rows of one chunk.

    `create` makes one create call. It takes the index, the row and a timeout in seconds, and returns the response.
    """

    create: Callable[[int, bytes, float], Awaitable[Answer]]
    limit: ConcurrencyLimiter
    stop_at: float  # time.monotonic() after which no row and no call is started
    settle_by: float  # time.monotonic() by which every call must have ended
    budget: RetryBudget = field(default_factory=RetryBudget)
    health: EndpointHealth = field(default_factory=EndpointHealth)
    failures: list[RowFailure] = field(default_factory=list)
    created: int = 0
    is_cancelled: bool = False
    stopped_by: ChunkReturned | ChunkClosed | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)  # wakes the rows that wait
    _is_time_over: bool = False  # a row could not be started or retried before stop_at
    _open_rows: int = 0  # rows that were started and have no outcome yet
    _all_started: bool = False

    @property
    def finished_rows(self) -> int:
        """The number of rows that have an outcome."""
        return self.created + len(self.failures)

    async def run(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Dispatch all rows, each with its index. If `stopped_by` is set afterwards, some rows have no outcome."""
        async with asyncio.TaskGroup() as tasks:
            for index, row in rows:
                await self.limit.acquire()
                if self.is_cancelled:
                    self.limit.release()
                    self._fail(index, row, Outcome.UNPROCESSED, None, attempts=0)
                    continue
                self._is_time_over |= not self._is_time_for(0)
                if self._is_time_over or self.stopped_by:
                    self.limit.release()
                    break
                self._open_rows += 1
                tasks.create_task(self._run_row(index, row))
            self._all_started = True
            self._update_health()
        # Stop for this reason only after all rows have ended. One of them may have found a more important reason, for
        # example that the chunk is stale.
        if self._is_time_over:
            self.stop(ChunkDeferred("The time is over. The next delivery continues."))

    def stop(self, reason: ChunkReturned | ChunkClosed) -> None:
        """Start no further row and no further call. The first reason is kept."""
        self.stopped_by = self.stopped_by or reason
        self._stopping.set()

    def cancel(self) -> None:
        """Start no further call. Every row without an outcome becomes unprocessed."""
        self.is_cancelled = True
        self._stopping.set()

    async def _run_row(self, index: int, row: bytes) -> None:
        """Call the endpoint until the row has an outcome or the dispatch stops, then free the row's slot."""
        try:
            await self._attempt(index, row)
        finally:
            self._open_rows -= 1
            self._update_health()
            self.limit.release()

    def _update_health(self) -> None:
        """Let heartbeats count as signs of life while only one row is left."""
        self.health.counts_heartbeats = self._all_started and self._open_rows == 1

    async def _attempt(self, index: int, row: bytes) -> None:
        """Call the endpoint for one row, with retries, until it has an outcome or the dispatch stops. Never raises."""
        tries = calls = 0
        signs_before = self.health.signs_of_life
        self.budget.earn()
        while await (self._may_retry(calls) if calls else self._may_call()):
            answer = await self._call(index, row)
            calls += 1
            decision = decide(answer.status, answer.row_verdict) if answer else Decision.RETRY
            # A try counts only if the endpoint works: otherwise an outage would fail all rows that are in flight.
            tries += decision == Decision.RETRY and self.health.signs_of_life > signs_before
            signs_before = self.health.signs_of_life
            if decision == Decision.CREATED:
                self.created += 1
            elif decision == Decision.REJECTED:
                self._fail(index, row, Outcome.REJECTED, answer, attempts=calls)
            elif decision == Decision.STALE:
                self.stop(StaleEpoch("Another worker has the chunk."))
            elif decision == Decision.CANCEL:
                self.cancel()
                continue
            elif decision == Decision.PAUSE:
                self._pause(answer)
            elif tries >= MAX_TRIES and not self.stopped_by:
                self._fail(index, row, Outcome.FAILED, answer, attempts=calls)
            else:
                continue
            return
        if self.is_cancelled:
            self._fail(index, row, Outcome.UNPROCESSED, None, attempts=calls)

    async def _may_call(self) -> bool:
        """Wait until a call may start. Return False if the dispatch stops or the time is over before that.

        `open_at` may move while this row waits, because another call was unanswered.
        """
        while (seconds := self.health.open_at - time.monotonic()) > 0:
            if not await self._wait(seconds):
                return False
        return not self._stopping.is_set()

    async def _may_retry(self, calls: int) -> bool:
        """Wait for the backoff, then for the retry budget. Then wait and return as `_may_call` does.

        `calls` is the number of calls so far. While the row waits, other rows can use its slot.
        """
        self.limit.release()
        try:
            seconds = backoff_seconds(calls)
            while seconds > 0:
                if not await self._wait(seconds):
                    return False
                seconds = self.budget.spend()
        finally:
            await self.limit.acquire()
        return await self._may_call()

    async def _wait(self, seconds: float) -> bool:
        """Wait this long, and return whether a call may start then.

        Returns False without waiting if the time is over by then, and as soon as the dispatch stops.
        """
        if not self._is_time_for(seconds):
            self._is_time_over = True
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    async def _call(self, index: int, row: bytes) -> Answer | None:
        """Make one create call and record how it went. Return None if there was no response."""
        began_at = time.monotonic()
        timeout_seconds = min(CALL_TIMEOUT_SECONDS, max(self.settle_by - began_at, MIN_CALL_TIMEOUT_SECONDS))
        answer: Answer | None
        try:
            answer = await self.create(index, row, timeout_seconds)
        except Unreachable:
            answer = None
        ended_at = time.monotonic()
        is_busy = answer is None or answer.status in BUSY
        self.limit.record(ended_at - began_at, overloaded=is_busy)
        if answer and answer.row_verdict and not is_busy:
            self.health.record_answered()
            return answer
        wanted_seconds = _retry_after(answer)
        self.health.record_unanswered(began_at=began_at, now=ended_at, retry_after_seconds=wanted_seconds)
        ends_before = wanted_seconds > 0 and ended_at + wanted_seconds >= self.stop_at
        if ends_before or self.health.is_away(now=ended_at, stop_at=self.stop_at):
            self._pause(answer)
        return answer

    def _pause(self, answer: Answer | None) -> None:
        """Stop, because no row of the job can be created now. `answer` shows why."""
        if answer and answer.status in FORBIDDEN:
            code = PauseCode.FORBIDDEN
        elif answer and answer.status in BUSY:
            code = PauseCode.ENDPOINT_BUSY
        else:
            code = PauseCode.ENDPOINT_AWAY
        reason = f"No row can be created now. {describe(answer)}"
        self.stop(ChunkDeferred(reason, delay_seconds=_retry_after(answer), pause=code))

    def _is_time_for(self, seconds: float) -> bool:
        """Return whether a call can still start after this many seconds."""
        return time.monotonic() + seconds < self.stop_at

    def _fail(self, index: int, row: bytes, outcome: Outcome, answer: Answer | None, *, attempts: int) -> None:
        """Record that the row was not created. `answer` is the last response, which contains the reasons."""
        self.failures.append(
            RowFailure(
                index=index,
                row=row,
                outcome=outcome,
                status=answer.status if answer else None,
                errors=CANCELLED if outcome == Outcome.UNPROCESSED else errors_of(answer),
                attempts=attempts,
                at=now(),
            )
        )


def _retry_after(answer: Answer | None) -> float:
    """Return the seconds of the response's Retry-After header; 0 if there is none."""
    return retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
