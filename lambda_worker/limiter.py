"""Limits how many create calls of one chunk are in flight at once, and finds out how many the endpoint can serve."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_WINDOW = 8
"""Minimum number of calls in a window, for a low limit. A single call may be slow by chance."""

WINDOW_ROUNDS = 2
"""Number of calls in a window, as a multiple of the limit. In a single round, the fastest calls end first."""

WAITING_CALLS, WAITING_SHARE = 0.25, 0.125
"""How many calls in flight may wait: this number, plus this share of the limit.

The number decides at a low limit: a second call in flight must be at least half as useful as the first one. The share
decides at a high limit, where the latencies of a window differ by chance.
"""

HOLD_WINDOWS = 8
"""Number of windows for which the limit does not grow after it was too high."""

IDLE_WEIGHT = 0.25
"""Weight of each new window in the moving average of the idle latency."""

MAX_IDLE_RISE = 0.05
"""Maximum rise of the idle latency per window, as a share, while the endpoint is slow although the limit is 1."""


class ConcurrencyLimiter:
    """A semaphore whose limit holds the knee: the fewest calls in flight that give nearly the highest throughput."""

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = max(1, cap)
        self._limit = 1
        self._clock = clock
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._moved_at = clock()  # when the limit last changed
        self._window: list[float] = []  # seconds of the calls that have not been judged yet
        self._shop_load = 0.0  # highest load that an answer of this window reported
        self._idle_seconds: float | None = None  # seconds of a call that does not wait for other calls
        self._is_searching = True  # until the limit is too high for the first time
        self._hold_windows = 0  # windows until the limit may grow again

    @property
    def limit(self) -> int:
        """The number of calls that may be in flight now."""
        return self._limit

    def set_cap(self, cap: int) -> None:
        """Set the maximum of the limit. A lower cap reduces the limit at once. A higher cap lets it grow."""
        self._cap = max(1, cap)
        if self._limit > self._cap:
            self._move(self._cap)

    async def acquire(self) -> None:
        """Wait until another call may start, and count it as in flight."""
        while self._in_flight >= self._limit:
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1

    def release(self) -> None:
        """Stop counting a call as in flight."""
        self._in_flight -= 1
        self._changed.set()

    def record(self, seconds: float, *, overloaded: bool, shop_load: float | None = None) -> None:
        """Record a call that has just ended.

        `seconds` is how long it took. `overloaded` means that it got a 429 or 503, timed out or got no response.
        `shop_load` is what the response says about the monolith's other requests: from 0.0 (they are as fast as in
        quiet times, or there are none) to 1.0 (they are being slowed down). None means that the response does not say.

        `RowDispatch._call` is the only caller. For example, after an answer whose header says 0.4:

            self.limit.record(0.012, overloaded=False, shop_load=0.4)
        """
        # Ignore a call that started before the limit last changed. For example, if 16 calls are in flight together and
        # all get a 503, only the first one halves the limit.
        if self._clock() - seconds < self._moved_at:
            return
        if overloaded:
            self._reduce(self._limit // 2)
            return
        self._window.append(seconds)
        self._shop_load = max(self._shop_load, shop_load or 0.0)
        if len(self._window) >= max(WINDOW_ROUNDS * self._limit, MIN_WINDOW):
            self._judge(median(self._window), self._shop_load)

    def _judge(self, seconds: float, shop_load: float) -> None:
        """Adapt the limit to a full window of calls."""
        idle = self._idle_seconds = self._idle_seconds or seconds
        served = self._limit * idle / seconds if seconds else self._limit
        useful = served * (1 - shop_load)
        if self._limit - useful > WAITING_CALLS + WAITING_SHARE * self._limit:
            if self._limit == 1:
                self._idle_seconds = min(seconds, idle * (1 + MAX_IDLE_RISE))
            self._reduce(round(useful))
            return
        self._idle_seconds = idle + IDLE_WEIGHT * (seconds - idle)
        if self._is_searching:
            self._move(self._limit * 2)
        elif self._hold_windows:
            self._hold_windows -= 1
            self._start_window()
        else:
            self._move(self._limit + 1)

    def _reduce(self, limit: int) -> None:
        self._is_searching = False
        self._hold_windows = HOLD_WINDOWS
        self._move(limit)

    def _move(self, limit: int) -> None:
        """Set the limit and discard the window, whose calls ran under the old one."""
        self._limit = min(max(1, limit), self._cap)
        self._moved_at = self._clock()
        self._start_window()
        self._changed.set()

    def _start_window(self) -> None:
        self._window.clear()
        self._shop_load = 0.0
