"""Sends each row of a chunk to the create endpoint, many rows at a time, and waits until every call has ended.

The first call of a row is a create call of its own, or a batch call that it shares with the next rows (see `batches`).
Each retry is a create call.

A row that is rejected does not affect the others. Some events concern the whole chunk: another worker has it, the
submitter may not create rows, the endpoint is unavailable, or the time is over. Then no further row is started. The
calls in flight are not interrupted, because each may still create its row, and only its response tells the worker.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import aclosing
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING

from bulk_import_wire.contract import SUBMITTER_DISABLED, Outcome, RowVerdict
from lambda_worker.call_gate import CallGate
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, StaleEpoch
from lambda_worker.refusals import CANCELLED, describe, errors_of
from lambda_worker.retries import MAX_TRIES, Decision, decide, is_usable, pause_code, retry_after_of
from lambda_worker.row import Row
from lambda_worker.set_aside_rows import SetAsideRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lambda_worker.failure_file import RowFailure
    from lambda_worker.monolith_client import Answer
    from lambda_worker.row_calls import RowCalls


@dataclass(slots=True)
class RowDispatch:
    """Dispatches the rows of one chunk."""

    calls: RowCalls
    stop_at: InitVar[float]  # time.monotonic() after which no row and no call is started
    gate: CallGate = field(init=False)
    failures: list[RowFailure] = field(default_factory=list)
    unfinished: list[RowFailure] = field(default_factory=list)  # rows without an outcome whose tries are kept
    done: Counter[str] = field(default_factory=Counter)  # rows that are committed, by verdict
    has_created_before: bool = False  # whether an earlier delivery created rows of the chunk
    counted_tries: int = 0
    is_cancelled: bool = False
    stopped_by: ChunkReturned | ChunkClosed | None = None
    _left: deque[Row] = field(default_factory=deque)  # rows that have not been called
    _batches: set[asyncio.Task[None]] = field(default_factory=set)  # batch calls in flight, which may put rows back
    _tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _open_rows: int = 0  # rows that were started and have no outcome yet
    _all_started: bool = False
    _set_aside: SetAsideRows = field(default_factory=SetAsideRows)

    def __post_init__(self, stop_at: float) -> None:
        self.gate = CallGate(stop_at, self.calls.health, self.calls.retries)

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
        self._left.extend(Row(index, body) for index, body in rows)
        tried_before = [Row.tried_before(failure) for failure in unfinished]
        # If all rows of the delivery were tried before, they take turns. No other row can show that the endpoint works,
        # so if several of them got no answer at the same time, none of them would ever fail.
        take_turns = not self._left
        async with self._tasks:
            if not take_turns:
                for row in tried_before:
                    self._open_rows += 1
                    self._tasks.create_task(self._retry(row))
            await self._start_rows()
            self._all_started = True
            self._update_health()
            self.calls.retries.close()
            if take_turns:
                for row in tried_before:
                    self._open_rows += 1
                    self._update_health()
                    await self._retry(row)
        # Decide this only now. A row that is still retried may find out more, for example that the chunk is stale.
        self._decide_on_set_aside_rows()
        if self.is_cancelled:
            for row in self._left:
                self._fail(row, Outcome.UNPROCESSED)
            self._left.clear()
        if self._left or self.gate.is_time_over:
            self.stop(ChunkDeferred("The time is over. The next delivery continues."))

    def stop(self, reason: ChunkReturned | ChunkClosed) -> None:
        """Start no further row and no further call. The first reason is kept."""
        self.stopped_by = self.stopped_by or reason
        self.gate.close()

    def cancel(self) -> None:
        """Start no further call. Every row without an outcome becomes unprocessed."""
        self.is_cancelled = True
        self.gate.close()

    async def _start_rows(self) -> None:
        """Start the first call of each row as soon as a slot is free, until the gate is closed."""
        while await self._has_rows_left():
            await self.calls.limit.acquire()
            if not self.gate.is_open:
                self.calls.limit.release()
                return
            if self._set_aside.has_many_wrong_statuses and not self.has_created:
                await self._send_control(self._left.pop())
                if not self.has_created:
                    return
                continue
            rows = self.calls.take(self._left)
            self._open_rows += len(rows)
            task = self._tasks.create_task(self._send(rows))
            if len(rows) > 1:
                self._batches.add(task)
                task.add_done_callback(self._batches.discard)

    async def _has_rows_left(self) -> bool:
        """Return whether a row has not been called yet. While batch calls are in flight, they may put rows back."""
        while self._batches and not self._left:
            await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)
        return bool(self._left)

    async def _send_control(self, row: Row) -> None:
        """Send one row, also its retries, while no other row is started."""
        self._open_rows += 1
        for unsettled in await self._make_first_call([row]):
            await self._retry(unsettled)

    async def _send(self, rows: list[Row]) -> None:
        """Make the first call of these rows, and start their retries."""
        for row in await self._make_first_call(rows):
            self._tasks.create_task(self._retry(row))

    async def _make_first_call(self, rows: list[Row]) -> list[Row]:
        """Make the first call of these rows, which have a slot, and free the slot. Return the rows to retry.

        Rows that had no turn are put back.
        """
        left, unsettled = deque(rows), []
        try:
            if await self.gate.wait_for_endpoint():
                async with aclosing(self.calls.make(rows)) as answered:
                    async for row, answer in answered:
                        left.popleft()
                        if not self._is_settled(row, answer):
                            unsettled.append(row)
        finally:
            self.calls.limit.release()
        self._put_back(left)
        return unsettled

    async def _retry(self, row: Row) -> None:
        """Call the endpoint for one row that was called before, until it has an outcome or the gate is closed."""
        while await self.gate.wait_for_retry(row):
            await self.calls.limit.acquire()
            try:
                if not await self.gate.wait_for_endpoint():
                    break
                answer = await self.calls.make_one(row)
            finally:
                self.calls.limit.release()
            if self._is_settled(row, answer):
                return
        if self.is_cancelled:
            self._fail(row, Outcome.UNPROCESSED)
        elif row.is_refused_a_retry:
            self._fail(row, Outcome.FAILED)
        elif row.tries:
            self.unfinished.append(row.failure(Outcome.UNPROCESSED, attempts=row.tries))
        self._close(row)

    def _put_back(self, rows: Sequence[Row]) -> None:
        """Return rows that were not called to the front of the queue."""
        self._left.extendleft(reversed(rows))
        self._open_rows -= len(rows)
        self._update_health()

    def _close(self, row: Row) -> None:
        """Note that a row makes no further call."""
        self.calls.retries.give_back(row.retries)
        self._open_rows -= 1
        self._update_health()

    def _update_health(self) -> None:
        """Let heartbeats count as signs of life while only one row is left."""
        self.calls.health.counts_heartbeats = self._all_started and self._open_rows == 1

    def _is_settled(self, row: Row, answer: Answer | None) -> bool:
        """Act on the answer to a call of the row. Return whether the row needs no further call."""
        if not is_usable(answer) and self.gate.is_blocked(retry_after_of(answer)):
            self._pause(answer)
        decision = decide(answer.status, answer.row_verdict) if answer else Decision.RETRY
        # A try counts only if the endpoint works: otherwise an outage would fail all rows that are in flight. A call
        # that timed out because the invocation ends does not count either.
        is_alive = self.calls.health.signs_of_life > row.signs_before and (answer is not None or self.gate.has_time())
        row.may_fail = decision == Decision.RETRY and is_alive
        row.tries += row.may_fail
        self.counted_tries += row.may_fail
        row.signs_before = self.calls.health.signs_of_life
        if self._is_to_be_retried(row, answer, decision):
            return False
        self._close(row)
        return True

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
        elif decision == Decision.PAUSE or row.errors[0]["code"] == SUBMITTER_DISABLED:
            self._pause(answer)
            return True  # the loop ends, and the tries of the row are kept
        elif decision in {Decision.FORBIDDEN, Decision.WRONG_STATUS} and answer:
            self._set_aside.add(row, answer, decision)
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

    def _pause(self, answer: Answer | None) -> None:
        """Stop, because no row of the job can be created now. `answer` shows why."""
        reason = f"No row can be created now. {describe(answer)}"
        self.stop(ChunkDeferred(reason, delay_seconds=retry_after_of(answer), pause=pause_code(answer)))

    def _fail(self, row: Row, outcome: Outcome) -> None:
        """Record that the row was not created."""
        if outcome == Outcome.UNPROCESSED:
            row.status, row.errors = None, CANCELLED
        self.failures.append(row.failure(outcome, attempts=row.calls))
