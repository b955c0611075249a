"""Limits how many create calls are in flight at once, and finds by trial how many the endpoint can serve."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

START = 4
"""The first limit.

A typical monolith serves four or eight times as many calls at once, which is two or three doublings away. If it serves
fewer than START, the first calls already wait for each other, and the baseline includes this wait. Even then the limit
stays below about twice START.
"""

WINDOW_ROUNDS = 2
"""Number of calls in a window, as a multiple of the limit.

A window is a group of calls whose mean latency is judged. With one round only, the fast calls would dominate the first
window after a change of the limit, because they are the first to end.
"""

MIN_WINDOW = 8
"""Minimum number of calls in a window, for a low limit. A single call may be slow by chance."""

SLOW_FACTOR = 2.0
"""A window is slow if its mean latency is more than this multiple of the baseline.

By Little's law, twice the latency of an idle endpoint means that half of the calls in flight wait. Halving the limit
then removes the wait, and the endpoint stays busy. So the limit moves between one and two times the number of calls
that the endpoint serves at once.
"""

DECREASE_FACTOR = 0.5
"""Factor by which the limit decreases after a slow window or an overloaded call."""

BASELINE_WEIGHT = 0.1
"""Weight of each new window in the moving baseline, after the start.

We do not use the fastest window so far as the baseline, because it depends on chance. In a long chunk, some window is
very fast by chance, and then every other window would seem slow.
"""

MAX_BASELINE_RISE = 0.05
"""Maximum rise of the baseline per window, as a share of the baseline.

An endpoint that stays ten times as slow becomes the new normal after about 33 windows: ln(10 / SLOW_FACTOR) / ln 1.05.
"""


class ConcurrencyLimiter:
    """A semaphore whose limit adapts to the latency of the calls. The limit is always between 1 and `cap`.

    The algorithm is additive increase, multiplicative decrease (AIMD). The limiter compares the mean latency of a
    window of calls with a baseline, the latency of a call that does not wait for other calls of this worker:

    - A window that is not slow: the limit grows by one. At the start it doubles instead, until the first slow window.
    - A slow window, or a call that is overloaded (429, 503, timeout or no response): the limit is halved.

    For example, an endpoint serves 10 calls at once, each in 100 ms. The limit is 4, then 8, then 16. With 16 calls in
    flight, 6 of them wait, and a call takes 160 ms on average: not slow. At a limit of 32 it takes 320 ms, which is
    slow, so the limit falls to 16. From there it grows by one per window. At 22 a call takes 220 ms, which is slow
    again, so the limit falls to 11, and so on. The endpoint is always busy, and the queue in front of it stays short.

    AIMD also shares fairly: workers that know nothing of each other reach equal shares of an endpoint. A gradient
    limiter would set the limit from the measurement itself, and follow each random change of the latency.
    """

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = max(1, cap)
        self._limit = min(START, self._cap)
        self._clock = clock
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._doubling = True  # until the first slow window or overloaded call, or until the limit reaches the cap
        self._moved_at = clock()  # when the limit last doubled or decreased
        self._window: list[float] = []  # seconds of the calls that have not been judged yet
        self._baseline = math.inf  # seconds of a call that does not wait for other calls of this worker
        self._was_slow = False  # whether the last window was slow

    @property
    def limit(self) -> int:
        """The number of calls that may be in flight now."""
        return self._limit

    def set_cap(self, cap: int) -> None:
        """Set the maximum of the limit. A lower cap reduces the limit at once. A higher cap lets it grow."""
        self._cap = max(1, cap)
        self._set_limit(self._limit)

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

    def record(self, seconds: float, *, overloaded: bool) -> None:
        """Record a call that has just ended and took this many seconds.

        `overloaded` means that it got a 429 or 503, timed out or got no response.
        """
        now = self._clock()
        # Ignore a call that started before the limit last changed. For example, if 16 calls are in flight together and
        # all get a 503, only the first one halves the limit.
        if now - seconds < self._moved_at:
            return
        if overloaded:
            self._decrease(now)
            return
        self._window.append(seconds)
        if len(self._window) >= max(WINDOW_ROUNDS * self._limit, MIN_WINDOW):
            self._judge(sum(self._window) / len(self._window), now)

    def _judge(self, mean: float, now: float) -> None:
        """Adapt the baseline and the limit to the mean latency of a full window."""
        is_slow = mean > SLOW_FACTOR * self._baseline
        self._update_baseline(mean)
        self._was_slow = is_slow
        if is_slow:
            self._decrease(now)
        elif self._doubling and self._limit < self._cap:
            self._move(now, self._limit * 2)
        else:
            self._doubling = False
            self._window.clear()
            self._set_limit(self._limit + 1)

    def _update_baseline(self, mean: float) -> None:
        """Move the baseline towards the mean latency of a window.

        A window that is faster than the baseline always lowers it. A window that is slower raises it only if the
        previous window was slow, because the limit has been halved since then. Otherwise, the reason may be that the
        limit is too high, and a higher baseline would keep it too high.
        """
        if mean < self._baseline:
            self._baseline = mean if self._doubling else self._baseline + BASELINE_WEIGHT * (mean - self._baseline)
        elif self._was_slow:
            rise = min(BASELINE_WEIGHT * (mean - self._baseline), MAX_BASELINE_RISE * self._baseline)
            self._baseline += rise

    def _decrease(self, now: float) -> None:
        self._doubling = False
        self._move(now, int(self._limit * DECREASE_FACTOR))

    def _move(self, now: float, limit: int) -> None:
        """Set the limit and discard the window, whose calls ran under the old one."""
        self._moved_at = now
        self._window.clear()
        self._set_limit(limit)

    def _set_limit(self, limit: int) -> None:
        self._limit = min(max(1, limit), self._cap)
        self._changed.set()
