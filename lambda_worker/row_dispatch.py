"""Calls the create endpoint once per row, many at a time, and lets every call settle.

A row that is refused does not disturb the others. What concerns the whole chunk (another worker has it,
nobody may create, the endpoint is away, the time is over) stops the taking of rows; the calls in flight
settle all the same.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lambda_worker.contract import Outcome
from lambda_worker.exceptions import ChunkClosed, ChunkReturned, StaleEpoch, Unreachable
from lambda_worker.failure_log import RowFailure, now
from lambda_worker.retries import BUSY, MAX_TRIES, Decision, backoff_seconds, decide, retry_after_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lambda_worker.concurrency import ConcurrencyLimit
    from lambda_worker.monolith_client import Answer

CALL_TIMEOUT_SECONDS = 30.0
"""For one create call, unless the invocation ends sooner."""

AWAY_AFTER_CALLS = 25
"""Calls in a row, over all rows, without an answer that passed the ledger, after which the endpoint counts as away."""

CANCELLED = [{"field": None, "code": "cancelled", "message": "The import was cancelled before this row's turn."}]


@dataclass(slots=True)
class RowDispatch:
    """Dispatches the rows of one chunk. `create` makes one call: index, row and time-out in, answer out."""

    create: Callable[[int, bytes, float], Awaitable[Answer]]
    limit: ConcurrencyLimit
    stop_at: float  # time.monotonic() after which no row is taken
    end_at: float  # time.monotonic() at which every call must have settled
    failures: list[RowFailure] = field(default_factory=list)
    cancelled: bool = False
    _stopped_by: ChunkReturned | ChunkClosed | None = None
    _answered: int = 0  # calls with an answer that passed the ledger
    _unanswered_in_a_row: int = 0

    async def run(self, rows: Iterable[tuple[int, bytes]]) -> list[RowFailure]:
        """Dispatch all rows; returns those that were not created. Raises what stopped it, if so: some stay open."""
        async with asyncio.TaskGroup() as calls:
            for index, row in rows:
                await self.limit.acquire()
                if self.cancelled:
                    self.limit.release()
                    self._fail(index, row, Outcome.UNPROCESSED, None, attempts=0)
                    continue
                if time.monotonic() >= self.stop_at:
                    self.stop(ChunkReturned("The time is over; the next delivery goes on."))
                if self._stopped_by:
                    self.limit.release()
                    break
                calls.create_task(self._settle(index, row))
        if self._stopped_by:
            raise self._stopped_by
        return self.failures

    def stop(self, reason: ChunkReturned | ChunkClosed) -> None:
        """Take no further row; the first reason counts."""
        self._stopped_by = self._stopped_by or reason

    async def _settle(self, index: int, row: bytes) -> None:
        """One row, until it has an outcome or the chunk is stopped. Never raises."""
        try:
            await self._attempt(index, row)
        finally:
            self.limit.release()

    async def _attempt(self, index: int, row: bytes) -> None:
        tries = 0
        answered_before = self._answered
        while not self._stopped_by:
            answer = await self._call(index, row)
            decision = decide(answer.status, answer.row_verdict) if answer else Decision.RETRY
            if decision == Decision.CREATED:
                return
            tries += decision == Decision.RETRY
            if tries >= MAX_TRIES and self._answered == answered_before:
                # Nobody got an answer meanwhile: it is not this row's fault.
                self._stop_for_absence(answer)
                return
            if decision == Decision.REJECTED or tries >= MAX_TRIES:
                outcome = Outcome.REJECTED if decision == Decision.REJECTED else Outcome.FAILED
                self._fail(index, row, outcome, answer, attempts=max(tries, 1))
            elif decision == Decision.STALE:
                self.stop(StaleEpoch("Another worker has the chunk."))
            elif decision == Decision.RETURN:
                self.stop(ChunkReturned(f"No row can be created now: {errors_of(answer)[0]['message']}"))
            else:
                await self._wait(answer, tries)
                continue
            return

    async def _call(self, index: int, row: bytes) -> Answer | None:
        """One create call; None when there was no answer."""
        seconds_left = max(self.end_at - time.monotonic(), 0.1)
        answer: Answer | None
        try:
            answer = await self.create(index, row, min(CALL_TIMEOUT_SECONDS, seconds_left))
        except Unreachable:
            answer = None
        if answer and answer.row_verdict:
            self._answered += 1
            self._unanswered_in_a_row = 0
        elif answer is None or answer.status not in BUSY:
            self._unanswered_in_a_row += 1
            if self._unanswered_in_a_row >= AWAY_AFTER_CALLS:
                self._stop_for_absence(answer)
        return answer

    def _stop_for_absence(self, answer: Answer | None) -> None:
        self.stop(ChunkReturned(f"The create endpoint is away: {errors_of(answer)[0]['message']}"))

    async def _wait(self, answer: Answer | None, tries: int) -> None:
        """Wait before the next try, as long as the endpoint asks for; not beyond the time there is."""
        asked = retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
        seconds = max(asked, backoff_seconds(tries + 1))
        if time.monotonic() + seconds >= self.stop_at:
            self.stop(ChunkReturned("The time is over; the next delivery goes on."))
        else:
            await asyncio.sleep(seconds)

    def _fail(self, index: int, row: bytes, outcome: Outcome, answer: Answer | None, *, attempts: int) -> None:
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


def errors_of(answer: Answer | None) -> list[dict[str, Any]]:
    """What the answer has against the row, `{"field", "code", "message"}` each; at least one."""
    if answer is None:
        return _error("no_answer", "The endpoint did not answer.")
    document = answer.json()
    if answer.row_verdict and isinstance(document, dict):
        listed = document.get("errors")  # as the ledger passes them on; an endpoint without DRF may say anything
        if isinstance(listed, list) and (errors := [known for error in listed if (known := _read_error(error))]):
            return errors
        if error := _read_error(document):
            return [error]
    text = f"The endpoint answered {answer.status}"
    if not answer.row_verdict:
        text += " without a word of the ledger; is ImportedRowMiddleware the last in MIDDLEWARE?"
    return _error(f"http_{answer.status}", text)


def _read_error(error: object) -> dict[str, Any] | None:
    """A `{"field", "code", "message"}` of the answer; None when it has no message."""
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None
    field, code = error.get("field"), error.get("code", "")
    return {
        "field": None if field is None else _storable(str(field)),
        "code": _storable(str(code)),
        "message": _storable(error["message"]),
    }


def _storable(text: str) -> str:
    """Without what UTF-8 or a PostgreSQL text cannot hold: lone surrogates and NUL."""
    return text.encode(errors="replace").decode().replace("\0", "?")


def _error(code: str, message: str) -> list[dict[str, Any]]:
    return [{"field": None, "code": code, "message": message}]
