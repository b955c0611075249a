"""Decides when a create call may start."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lambda_worker.retries import backoff_seconds

if TYPE_CHECKING:
    from lambda_worker.endpoint_health import EndpointHealth
    from lambda_worker.retry_queue import RetryQueue
    from lambda_worker.row import Row


@dataclass(slots=True)
class CallGate:
    """Lets a call start when the endpoint may be called, a retry is available for it, and time is left.

    After `close`, no further call starts, and every row that waits here wakes up.
    """

    stop_at: float  # time.monotonic() after which no call starts
    health: EndpointHealth
    retries: RetryQueue
    is_time_over: bool = False  # a row could not be started or retried before stop_at
    _closed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_open(self) -> bool:
        """Whether further calls may start."""
        if self._closed.is_set():
            return False
        self.is_time_over |= not self.has_time()
        return not self.is_time_over

    def close(self) -> None:
        """Let no further call start."""
        self._closed.set()
        self.retries.stop()

    def has_time(self, seconds: float = 0.0) -> bool:
        """Return whether a call can still start after this many seconds."""
        return time.monotonic() + seconds < self.stop_at

    def is_blocked(self, retry_after_seconds: float) -> bool:
        """Return whether no row can be created before the time is over, after a call without a usable answer.

        The endpoint is away, or it wants the next call too late.
        """
        wants_too_late = retry_after_seconds > 0 and not self.has_time(retry_after_seconds)
        return wants_too_late or self.health.is_away(now=time.monotonic(), stop_at=self.stop_at)

    async def wait_for_endpoint(self) -> bool:
        """Wait until the endpoint may be called. Return False if no call may start any more."""
        # `open_at` may move while this call waits, because another call was unanswered.
        while (seconds := self.health.open_at - time.monotonic()) > 0:
            if not await self._wait(seconds):
                return False
        return not self._closed.is_set()

    async def wait_for_retry(self, row: Row) -> bool:
        """Wait until the row may be retried. Return False if it may not."""
        return await self._gets_retry(row) and await self._wait(backoff_seconds(row.calls))

    async def _gets_retry(self, row: Row) -> bool:
        """Wait until the budget has a retry for the row, or has none any more, or the gate is closed."""
        if row.retries:
            row.retries -= 1
            self.retries.use()
            return True
        turn = self.retries.ask(row.tries, may_fail=row.may_fail)
        while not turn.done() and not self._closed.is_set():
            if not self.has_time():
                self.is_time_over = True
                return False
            await asyncio.wait([turn], timeout=min(self.retries.serve(), self.stop_at - time.monotonic()))
        if not turn.done() or turn.cancelled():
            return False
        row.retries = turn.result()
        row.is_refused_a_retry = not row.retries
        return not row.is_refused_a_retry and await self._gets_retry(row)

    async def _wait(self, seconds: float) -> bool:
        """Wait this long. Return False if the time is over by then, or once the gate is closed."""
        if not self.has_time(seconds):
            self.is_time_over = True
            return False
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)
        return not self._closed.is_set()
