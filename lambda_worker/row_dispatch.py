"""Calls the create endpoint once per row, many at a time, and lets every call settle.

A row that is refused does not disturb the others. What concerns the whole chunk (another worker has it,
nobody may create, the endpoint is away, the time is over) stops the taking of rows; the calls in flight
settle all the same.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulk_import_wire.contract import Outcome, PauseCode
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
"""For one create call, unless the invocation ends sooner."""

AWAY_AFTER_CALLS = 5
AWAY_AFTER_SECONDS = 20.0
"""So many calls in a row, over so long a time (or a third of the invocation's), that got no word of the ledger:
then the endpoint counts as away."""


@dataclass(slots=True)
class RowDispatch:
    """Dispatches the rows of one chunk. `create` makes one call: index, row and time-out in, answer out."""

    create: Callable[[int, bytes, float], Awaitable[Answer]]
    limit: ConcurrencyLimiter
    stop_at: float  # time.monotonic() after which no row is taken and no call begun
    settle_by: float  # time.monotonic() at which every call must have settled
    budget: RetryBudget = field(default_factory=RetryBudget)
    failures: list[RowFailure] = field(default_factory=list)
    settled: int = 0  # rows that were created or failed
    is_cancelled: bool = False
    heartbeats: int = 0  # that the monolith answered
    calls: int = 0
    calls_in_vain: int = 0  # without a word of the ledger, or told to come later
    stopped_by: ChunkReturned | ChunkClosed | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _is_left: bool = False  # there was no time for another call of some row
    _open: int = 0  # rows that were taken and are not settled
    _is_taken: bool = False  # all of them
    _answers: int = 0  # with a word of the ledger
    _vain_calls: int = 0  # in a row, without one
    _vain_since: float = 0.0
    _vain_signs: int = 0  # of life, when the first of these began
    _open_at: float = 0.0  # no call begins before: the endpoint asked for it, or is in trouble

    async def run(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """Dispatch all rows. If `stopped_by` says so afterwards, some of them have no outcome yet."""
        async with asyncio.TaskGroup() as calls:
            for index, row in rows:
                await self.limit.acquire()
                if self.is_cancelled:
                    self.limit.release()
                    self._fail(index, row, Outcome.UNPROCESSED, None, attempts=0)
                    continue
                self._is_left |= not self._is_time_for(0)
                if self._is_left or self.stopped_by:
                    self.limit.release()
                    break
                self._open += 1
                calls.create_task(self._settle(index, row))
            self._is_taken = True
        if self._is_left:
            self.stop(ChunkDeferred("The time is over; the next delivery goes on."))

    def stop(self, reason: ChunkReturned | ChunkClosed) -> None:
        """Take no further row, and begin no further call; the first reason counts."""
        self.stopped_by = self.stopped_by or reason
        self._stopping.set()

    def cancel(self) -> None:
        """Begin no further call: every row that has no outcome yet is unprocessed."""
        self.is_cancelled = True
        self._stopping.set()

    async def _settle(self, index: int, row: bytes) -> None:
        """One row, until it has an outcome or the chunk is stopped. Never raises."""
        try:
            await self._attempt(index, row)
        finally:
            self._open -= 1
            self.limit.release()

    @property
    def _signs_of_life(self) -> int:
        """While this number stays, the endpoint may be away and no row is to blame.

        Answers to rows are a sign. When a single row is left, heartbeats are the only other one there can be.
        """
        return self._answers + (self.heartbeats if self._is_taken and self._open == 1 else 0)

    async def _attempt(self, index: int, row: bytes) -> None:
        tries = calls = 0
        signs_before = self._signs_of_life
        self.budget.earn()
        while await (self._may_call_again(calls) if calls else self._may_call()):
            answer = await self._call(index, row)
            calls += 1
            decision = decide(answer.status, answer.row_verdict) if answer else Decision.RETRY
            tries += decision == Decision.RETRY and self._signs_of_life > signs_before
            signs_before = self._signs_of_life
            if decision == Decision.CREATED:
                self.settled += 1
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
        """Wait until the endpoint can be called; False when the chunk is stopped before that, or its time over."""
        while (seconds := self._open_at - time.monotonic()) > 0:
            if not await self._wait(seconds):
                return False
        return not self._stopping.is_set()

    async def _may_call_again(self, calls: int) -> bool:
        """The same for a retry, which also waits for its backoff and for the budget; meanwhile, other rows go on."""
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
        """Whether there is time to wait so long and then call, and nothing stopped the chunk meanwhile."""
        if not self._is_time_for(seconds):
            self._is_left = True
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    async def _call(self, index: int, row: bytes) -> Answer | None:
        """One create call; None when there was no answer."""
        started = time.monotonic()
        self.calls += 1
        answer: Answer | None
        try:
            answer = await self.create(index, row, min(CALL_TIMEOUT_SECONDS, max(self.settle_by - started, 0.1)))
        except Unreachable:
            answer = None
        is_busy = answer is None or answer.status in BUSY
        self.limit.record(time.monotonic() - started, overloaded=is_busy)
        if answer and answer.row_verdict and not is_busy:
            self._answers += 1
            self._vain_calls = 0
        else:
            self.calls_in_vain += 1
            self._hold_on(answer, began_at=started)
        return answer

    def _hold_on(self, answer: Answer | None, *, began_at: float) -> None:
        """The call was in vain: begin no other for a while, and none at all if that goes on for long."""
        if not self._vain_calls:
            self._vain_since = began_at
            self._vain_signs = self._signs_of_life
        self._vain_calls += 1
        asked = _asked_seconds(answer)
        now_ = time.monotonic()
        self._open_at = max(self._open_at, now_ + max(asked, backoff_seconds(self._vain_calls)))
        patience = min(AWAY_AFTER_SECONDS, (self.stop_at - self._vain_since) / 3)
        is_away = (
            self._vain_calls >= AWAY_AFTER_CALLS
            and now_ - self._vain_since >= patience
            and self._signs_of_life == self._vain_signs
        )
        if is_away or (asked and now_ + asked >= self.stop_at):
            self._pause(answer)

    def _pause(self, answer: Answer | None) -> None:
        """Nobody's row can be created now."""
        if answer and answer.status in FORBIDDEN:
            code = PauseCode.FORBIDDEN
        elif answer and answer.status in BUSY:
            code = PauseCode.ENDPOINT_BUSY
        else:
            code = PauseCode.ENDPOINT_AWAY
        reason = f"No row can be created now. {describe(answer)}"
        self.stop(ChunkDeferred(reason, delay_seconds=_asked_seconds(answer), pause=code))

    def _is_time_for(self, seconds: float) -> bool:
        """Whether a call can still begin after so many seconds."""
        return time.monotonic() + seconds < self.stop_at

    def _fail(self, index: int, row: bytes, outcome: Outcome, answer: Answer | None, *, attempts: int) -> None:
        self.settled += 1
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


def _asked_seconds(answer: Answer | None) -> float:
    """How long the endpoint asked to be left alone."""
    return retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
