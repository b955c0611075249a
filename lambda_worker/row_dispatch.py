"""Calls the create endpoint once per row, many rows at a time, and waits until every call has ended.

A row that is rejected does not affect the others. Some events concern the whole chunk: another worker has it, the
submitter may not create rows, the endpoint is unavailable, or the time is over. Then no further row is started. The
calls in flight are not interrupted, because each may still create its row, and only its response tells the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulk_import_wire.contract import Outcome, RowVerdict
from lambda_worker.deadlines import call_timeout_seconds
from lambda_worker.endpoint_health import EndpointHealth
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, StaleEpoch, Unreachable
from lambda_worker.refusals import CANCELLED, describe, errors_of
from lambda_worker.retries import (
    BUSY,
    MAX_TRIES,
    Decision,
    RetryBudget,
    backoff_seconds,
    decide,
    pause_code,
    retry_after_of,
)
from lambda_worker.retry_queue import RetryQueue
from lambda_worker.row import Row
from lambda_worker.set_aside_rows import SetAsideRows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lambda_worker.failure_file import RowFailure
    from lambda_worker.limiter import ConcurrencyLimiter
    from lambda_worker.monolith_client import Answer


@dataclass(slots=True)
class RowDispatch:
    """Dispatches the rows of one chunk.

    `create` makes one create call. It takes the index, the row and a timeout in seconds, and returns the response.
    """

    create: Callable[[int, bytes, float], Awaitable[Answer]]
    limit: ConcurrencyLimiter
    stop_at: float  # time.monotonic() after which no row and no call is started
    settle_by: float  # time.monotonic() by which every call must have ended
    retries: RetryQueue = field(default_factory=lambda: RetryQueue(RetryBudget()))
    health: EndpointHealth = field(default_factory=EndpointHealth)
    failures: list[RowFailure] = field(default_factory=list)
    unfinished: list[RowFailure] = field(default_factory=list)  # rows without an outcome whose tries are kept
    done: Counter[str] = field(default_factory=Counter)  # rows that are committed, by verdict
    has_created_before: bool = False  # whether an earlier delivery created rows of the chunk
    counted_tries: int = 0
    is_cancelled: bool = False
    stopped_by: ChunkReturned | ChunkClosed | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)  # wakes the rows that wait
    _is_time_over: bool = False  # a row could not be started or retried before stop_at
    _open_rows: int = 0  # rows that were started and have no outcome yet
    _all_started: bool = False
    _calls_started: int = 0
    _set_aside: SetAsideRows = field(default_factory=SetAsideRows)

    @property
    def finished_rows(self) -> int:
        """The number of rows that have an outcome."""
        return self.done.total() + len(self.failures)

    @property
    def has_created(self) -> bool:
        """Whether this delivery or an earlier one created a row of the chunk."""
        return self.has_created_before or bool(self.done)

    @property
    def made_progress(self) -> bool:
        """Whether this delivery brought the chunk closer to its end."""
        return bool(self.finished_rows or self.counted_tries)

    async def run(self, rows: Iterable[tuple[int, bytes]], unfinished: Iterable[RowFailure] = ()) -> None:
        """Dispatch all rows, each with its index. If `stopped_by` is set afterwards, some rows have no outcome.

        `unfinished` are the rows that an earlier delivery has tried already. If many rows had a wrong status and none
        was created, the last row is the control (see `with_control_row`): unless it is created, the job is paused.
        """
        left = deque(rows)
        async with asyncio.TaskGroup() as tasks:
            for tried in unfinished:
                self._open_rows += 1
                tasks.create_task(self._run_row(Row.tried_before(tried), has_slot=False))
            while left:
                await self.limit.acquire()
                needs_control = self._set_aside.has_many_wrong_statuses and not self.has_created
                index, body = left.pop() if needs_control else left.popleft()
                if self.is_cancelled:
                    self.limit.release()
                    self._fail(Row(index, body), Outcome.UNPROCESSED)
                    continue
                self._is_time_over |= not self._is_time_for(0)
                if self._is_time_over or self.stopped_by:
                    self.limit.release()
                    break
                self._open_rows += 1
                running = tasks.create_task(self._run_row(Row(index, body)))
                if needs_control:
                    await running
                    if not self.has_created:
                        break
            self._all_started = True
            self._update_health()
            self.retries.close()
        # Decide this only now. A row that is still retried may find out more, for example that the chunk is stale.
        self._decide_on_set_aside_rows()
        if self._is_time_over:
            self.stop(ChunkDeferred("The time is over. The next delivery continues."))

    def stop(self, reason: ChunkReturned | ChunkClosed) -> None:
        """Start no further row and no further call. The first reason is kept."""
        self.stopped_by = self.stopped_by or reason
        self._stopping.set()
        self.retries.stop()

    def cancel(self) -> None:
        """Start no further call. Every row without an outcome becomes unprocessed."""
        self.is_cancelled = True
        self._stopping.set()
        self.retries.stop()

    async def _run_row(self, row: Row, *, has_slot: bool = True) -> None:
        """Call the endpoint until the row has an outcome or the dispatch stops, then free the row's slot."""
        if not has_slot:
            await self.limit.acquire()
        try:
            await self._attempt(row)
        finally:
            self.retries.give_back(row.retries)
            self._open_rows -= 1
            self._update_health()
            self.limit.release()

    def _update_health(self) -> None:
        """Let heartbeats count as signs of life while only one row is left."""
        self.health.counts_heartbeats = self._all_started and self._open_rows == 1

    async def _attempt(self, row: Row) -> None:
        """Call the endpoint for one row, with retries, until it has an outcome or the dispatch stops. Never raises."""
        signs_before = self.health.signs_of_life
        if not row.calls:
            self.retries.earn()
        while await (self._may_retry(row) if row.calls else self._may_call()):
            answer = await self._call(row)
            decision = decide(answer.status, answer.row_verdict) if answer else Decision.RETRY
            # A try counts only if the endpoint works: otherwise an outage would fail all rows that are in flight. A
            # call that timed out because the invocation ends does not count either.
            is_alive = self.health.signs_of_life > signs_before and (answer is not None or self._is_time_for(0))
            row.may_fail = decision == Decision.RETRY and is_alive
            row.tries += row.may_fail
            self.counted_tries += row.may_fail
            signs_before = self.health.signs_of_life
            if not self._is_to_be_retried(row, answer, decision):
                return
        if self.is_cancelled:
            self._fail(row, Outcome.UNPROCESSED)
        elif row.is_refused_a_retry:
            self._fail(row, Outcome.FAILED)
        elif row.tries:
            self.unfinished.append(row.failure(Outcome.UNPROCESSED, attempts=row.tries))

    def _is_to_be_retried(self, row: Row, answer: Answer | None, decision: Decision) -> bool:
        """Act on the decision about an answer. Return whether the row needs another call or the dispatch stops."""
        if decision == Decision.CREATED:
            verdict = answer.row_verdict if answer else ""
            self.done[verdict] += 1
            # A row that is replayed was created before, perhaps when the submitter still had the permission.
            if verdict != RowVerdict.REPLAYED:
                self._set_aside.admit(row)
            return False
        row.status, row.errors = answer.status if answer else None, errors_of(answer)
        if decision == Decision.REJECTED:
            self._set_aside.admit(row)
            self._fail(row, Outcome.REJECTED)
        elif decision == Decision.STALE:
            self.stop(StaleEpoch("Another worker has the chunk."))
        elif decision in {Decision.FORBIDDEN, Decision.WRONG_STATUS} and answer:
            self._set_aside.add(row, answer, decision)
        elif decision == Decision.PAUSE:
            self._pause(answer)
            return True  # the loop ends, and the tries of the row are kept
        elif decision == Decision.CANCEL:
            self.cancel()
            return True
        elif row.may_fail and row.tries >= MAX_TRIES and not self.stopped_by:
            self._fail(row, Outcome.FAILED)
        else:
            return True
        return False

    def _decide_on_set_aside_rows(self) -> None:
        """Give the rows that were set aside an outcome, or pause the job. A row without an outcome keeps its tries."""
        for row, answer, outcome in self._set_aside.decide(has_created=self.has_created):
            if self.is_cancelled:
                self._fail(row, Outcome.UNPROCESSED)
            elif outcome:
                self._fail(row, outcome)
            else:
                self._pause(answer)
                if row.tries:
                    self.unfinished.append(row.failure(Outcome.UNPROCESSED, attempts=row.tries))

    async def _may_call(self) -> bool:
        """Wait until a call may start. Return False if the dispatch stops or the time is over before that."""
        # `open_at` may move while this row waits, because another call was unanswered.
        while (seconds := self.health.open_at - time.monotonic()) > 0:
            if not await self._wait(seconds):
                return False
        return not self._stopping.is_set()

    async def _may_retry(self, row: Row) -> bool:
        """Wait until the row may be retried; meanwhile, others can use its slot. Return False if it may not."""
        self.limit.release()
        try:
            if not (await self._gets_retry(row) and await self._wait(backoff_seconds(row.calls))):
                return False
        finally:
            await self.limit.acquire()
        return await self._may_call()

    async def _gets_retry(self, row: Row) -> bool:
        """Wait until the budget has a retry for the row, or has none any more, or the dispatch stops."""
        if row.retries:
            row.retries -= 1
            self.retries.use()
            return True
        turn = self.retries.ask(row.tries, may_fail=row.may_fail)
        while not turn.done() and not self._stopping.is_set():
            if not self._is_time_for(0):
                self._is_time_over = True
                return False
            await asyncio.wait([turn], timeout=min(self.retries.serve(), self.stop_at - time.monotonic()))
        if not turn.done() or turn.cancelled():
            return False
        row.retries = turn.result()
        row.is_refused_a_retry = not row.retries
        return not row.is_refused_a_retry and await self._gets_retry(row)

    async def _wait(self, seconds: float) -> bool:
        """Wait this long. Return False if the time is over by then, or once the dispatch stops."""
        if not self._is_time_for(seconds):
            self._is_time_over = True
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    async def _call(self, row: Row) -> Answer | None:
        """Make one create call and record how it went. Return None if there was no answer."""
        began_at = time.monotonic()
        row.calls += 1
        self._calls_started += 1
        row.call_number = self._calls_started
        timeout_seconds = call_timeout_seconds(self.settle_by - began_at)
        answer: Answer | None
        try:
            answer = await self.create(row.index, row.body, timeout_seconds)
        except Unreachable:
            answer = None
        ended_at = time.monotonic()
        is_busy = answer is None or answer.status in BUSY
        self.limit.record(ended_at - began_at, overloaded=is_busy, shop_load=answer.shop_load if answer else None)
        if answer and answer.row_verdict and not is_busy:
            self.health.record_answered()
            return answer
        wanted_seconds = retry_after_of(answer)
        self.health.record_unanswered(began_at=began_at, now=ended_at, retry_after_seconds=wanted_seconds)
        ends_before = wanted_seconds > 0 and ended_at + wanted_seconds >= self.stop_at
        if ends_before or self.health.is_away(now=ended_at, stop_at=self.stop_at):
            self._pause(answer)
        return answer

    def _pause(self, answer: Answer | None) -> None:
        """Stop, because no row of the job can be created now. `answer` shows why."""
        reason = f"No row can be created now. {describe(answer)}"
        self.stop(ChunkDeferred(reason, delay_seconds=retry_after_of(answer), pause=pause_code(answer)))

    def _is_time_for(self, seconds: float) -> bool:
        """Return whether a call can still start after this many seconds."""
        return time.monotonic() + seconds < self.stop_at

    def _fail(self, row: Row, outcome: Outcome) -> None:
        """Record that the row was not created."""
        if outcome == Outcome.UNPROCESSED:
            row.status, row.errors = None, CANCELLED
        self.failures.append(row.failure(outcome, attempts=row.calls))
