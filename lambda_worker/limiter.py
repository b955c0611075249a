"""How many create calls may be in flight at once: as many as the endpoint bears, found by trying.

Additive increase, multiplicative decrease (AIMD), after a start that doubles. A gradient limiter would set
the limit to its measure of each moment, noise and all; AIMD only asks of some calls together whether they
were slow. And workers that share an endpoint and do not know of each other come to equal shares by it.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

START = 4
"""The first limit, two or three doublings from what a monolith bears. With one that works on fewer calls at
once, the first baseline is of calls that wait already: the limit stays below about twice START all the same."""

ROUNDS = 2
"""Answers in a window, the calls that are judged together, as a multiple of the limit. In a single round the
fast calls would stand for all: after a change they are the first to answer."""

MIN_WINDOW = 8
"""Answers in a window, whatever the limit: one call alone is slow by chance."""

SLOW = 2.0
"""Times the baseline that the mean latency of a window must exceed to be slow. By Little's law, at twice the
latency of an idle endpoint as many calls wait as are worked on. So halving takes the waiting away and leaves
the endpoint busy: the limit goes to and fro between one and two times the calls it works on at once."""

FALL = 0.5

BASELINE_WEIGHT = 0.1
"""Of a window in the baseline, once the doubling is over. The best window ever seen would be a matter of
chance: the longer the chunk, the better it gets."""

MAX_BASELINE_RISE = 0.05
"""Of the baseline, in a window. An endpoint that is ten times as slow for good has become the new normal
after some 30 windows: ln(10 / SLOW) / ln 1.05."""


class ConcurrencyLimiter:
    """A semaphore whose limit follows the latency of the calls it lets through, between 1 and `cap`."""

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = max(1, cap)
        self._limit = min(START, self._cap)
        self._clock = clock
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._doubling = True  # until the first sign of overload, or the cap
        self._moved_at = clock()  # when the limit last doubled or fell
        self._window: list[float] = []  # seconds of the calls not yet judged
        self._baseline = math.inf  # seconds of a call that does not wait for others of ours
        self._after_fall = False

    @property
    def limit(self) -> int:
        """The calls that may be in flight now."""
        return self._limit

    def set_cap(self, cap: int) -> None:
        """A lower cap counts at once; to a higher one the limit has to grow."""
        self._cap = max(1, cap)
        self._set_limit(self._limit)

    async def acquire(self) -> None:
        while self._in_flight >= self._limit:
            self._changed.clear()
            await self._changed.wait()
        self._in_flight += 1

    def release(self) -> None:
        self._in_flight -= 1
        self._changed.set()

    def record(self, seconds: float, *, overloaded: bool) -> None:
        """Take in a call that has just settled; `overloaded` is a 429, a 503, a time-out or no answer."""
        now = self._clock()
        if now - seconds < self._moved_at:
            return  # it began under another limit: calls in flight together make the limit fall only once
        if overloaded:
            self._fall(now)
            return
        self._window.append(seconds)
        if len(self._window) >= max(ROUNDS * self._limit, MIN_WINDOW):
            self._judge(sum(self._window) / len(self._window), now)

    def _judge(self, mean: float, now: float) -> None:
        """Draw the conclusion from the mean latency of a full window."""
        is_slow = mean > SLOW * self._baseline
        self._learn(mean)
        self._after_fall = is_slow
        if is_slow:
            self._fall(now)
        elif self._doubling and self._limit < self._cap:
            self._move(now, self._limit * 2)
        else:
            self._doubling = False
            self._window.clear()
            self._set_limit(self._limit + 1)

    def _learn(self, mean: float) -> None:
        """Let the baseline follow a window: down always, up slowly and only by one that a fall has relieved.

        Any other window may be slow because of the limit, which must not become its own excuse.
        """
        if mean < self._baseline:
            self._baseline = mean if self._doubling else self._baseline + BASELINE_WEIGHT * (mean - self._baseline)
        elif self._after_fall:
            rise = min(BASELINE_WEIGHT * (mean - self._baseline), MAX_BASELINE_RISE * self._baseline)
            self._baseline += rise

    def _fall(self, now: float) -> None:
        self._doubling = False
        self._move(now, int(self._limit * FALL))

    def _move(self, now: float, limit: int) -> None:
        self._moved_at = now
        self._window.clear()
        self._set_limit(limit)

    def _set_limit(self, limit: int) -> None:
        self._limit = min(max(1, limit), self._cap)
        self._changed.set()
