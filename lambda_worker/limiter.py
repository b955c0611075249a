"""Limits how many create calls of one chunk are in flight at once, and finds out how many the endpoint can serve."""

from __future__ import annotations

import asyncio
import time
from copy import copy
from typing import TYPE_CHECKING

from bulk_import_wire.contract import UNUSED

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_WINDOW = 8
"""Minimum number of calls in a window, for a low limit. A single call may be slow by chance."""

BATCH_WINDOW = 2
"""How many times as many rows a window has if the calls are batches.

A wrong judgement lasts longer then: see HOLD_WINDOWS.
"""

WINDOW_ROUNDS = 2
"""Number of calls in a window, as a multiple of the limit. In a single round, the fastest calls would end first."""

SLOWEST_SHARE = 8
"""One of so many calls, the slowest, does not count in a window. For example, the garbage collector delayed it."""

WAITING_CALLS, WAITING_SHARE = 0.25, 0.125
"""How many calls in flight may wait: this number, plus this share of the limit.

The number decides at a low limit: a second call in flight must raise the throughput by half. The share decides at a
high limit, where it is larger than what the latencies of two windows differ by chance.
"""

LOWEST_IF_UNUSED = 2
"""Calls in flight that are never too many while nobody else uses the shop.

With one call at a time, the endpoint would be idle between an answer and the next call. To fill these gaps costs nobody
anything then.
"""

HOLD_WINDOWS = 4
"""Number of windows for which the limit does not grow after it was too high.

If the calls are batches, it is the windows of so many batches: a batch that is one too many goes on for a second, and
occupies one of the server's threads.
"""

IDLE_WEIGHT = 0.125
"""Weight of each new window in the moving average of the idle latency."""

MAX_IDLE_RISE = 0.5
"""A window counts in the idle latency as at most this share slower than it.

So the idle latency rises by at most a sixteenth per window. An endpoint that becomes ten times as slow gets one call at
a time for 30 windows, 240 calls, before the limiter considers it normal.
"""

REMEMBERED_SECONDS = 60
"""Time without a call after which a worker forgets what it knows about an endpoint. It may serve less by then."""


class ConcurrencyLimiter:
    """A semaphore whose limit holds the knee: the fewest calls in flight that give nearly the highest throughput.

    Beyond the knee, more calls in flight only wait for each other. By Little's law, the number of calls that the
    endpoint really serves is the throughput times the idle latency, which is the latency of a call that does not wait:

        served = limit / latency * idle latency        waiting = limit - served

    The limiter judges the calls in windows. If few calls wait, the limit may grow: by 1, then by 2, 4 and so on. If too
    many wait, the limit falls to the number of calls that are served, and stays there for HOLD_WINDOWS windows before
    it grows by 1 again. It starts at 1, where no call waits for another one of this worker, so the first window
    measures the idle latency.

    For example, an endpoint serves 4 calls at once, each in 100 ms. The limit grows from 1 to 2, 4 and 8. With 8 calls
    in flight a call takes 200 ms, so 8 / 200 * 100 = 4 calls are served and 4 wait. The limit falls to 4, where a call
    takes 100 ms again. After four windows the limiter tries 5 calls: one of them waits, more than the 0.9 that it
    accepts there. So the limit falls to 4 again, and so on.

    Two workers that know nothing of each other get fair shares, because each accepts about the same number of waiting
    calls: the one with more calls in flight sees more of its own calls wait, and falls first.

    While nobody else uses the shop, the limit is at least LOWEST_IF_UNUSED, except in the window after it was too high.
    That window measures the idle latency.

    A call that is overloaded (429, 503, timeout or no response) halves the limit. The load of the shop counts like
    waiting calls: see `record`. The limit is always between 1 and `cap`.
    """

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = max(1, cap)
        self._limit = 1
        self._clock = clock
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._moved_at = clock()  # when the limit last changed
        self._recorded_at = clock()  # when a call last ended
        self._window: list[float] = []  # seconds of the calls that have not been judged yet
        self._most_in_flight = 0  # during these calls
        self._shop_load = 0.0  # sum of the loads that these calls reported
        self._is_unused = True  # whether all of these calls reported that nobody else uses the shop
        self._call_seconds = 0.0  # the latency in the last window
        self._window_load = 0.0  # the load that it reported
        self._idle_seconds = 0.0  # the idle latency, after the first window
        self._windows = 0  # number of windows in the idle latency
        self._step = 1  # by how much the limit grows next
        self._hold_windows = 0  # number of windows before the limit may grow again
        self._call_rows = 1  # number of rows of the last call

    @property
    def limit(self) -> int:
        """The number of calls that may be in flight now."""
        return self._limit

    @property
    def call_seconds(self) -> float:
        """The mean latency of the last window. It is 0.0 before the first window has been judged."""
        return self._call_seconds

    @property
    def shop_load(self) -> float:
        """The mean load of the shop in the last window, see `record`."""
        return self._window_load

    @property
    def is_forgotten(self) -> bool:
        """Whether what the limiter knows about the endpoint is too old to be of use."""
        return self._clock() - self._recorded_at > REMEMBERED_SECONDS

    def next(self, cap: int) -> ConcurrencyLimiter:
        """Return a limiter for another chunk that starts with what this one knows about the endpoint.

        It has no calls in flight, and belongs to the event loop in which it is used first.
        """
        following = copy(self)
        following._in_flight, following._changed = 0, asyncio.Event()  # noqa: SLF001 - an instance of this class
        following._most_in_flight = 0  # noqa: SLF001
        following._window, following._moved_at = [], self._clock()  # noqa: SLF001
        following._shop_load, following._is_unused = 0.0, True  # noqa: SLF001
        following.set_cap(cap)
        return following

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
        self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def release(self) -> None:
        """Stop counting a call as in flight."""
        self._in_flight -= 1
        self._changed.set()

    def record(self, seconds: float, *, overloaded: bool, shop_load: float | None = None, rows: int = 1) -> None:
        """Record a call that has just ended, or one row of a batch call that goes on and has so many `rows`.

        `seconds` is how long it took. `overloaded` means that it got a 429 or 503, timed out or got no response.

        `shop_load` is what the response says about the monolith's other requests: from 0.0 (they are as fast as in
        quiet times) to 1.0 (they are being slowed down), or UNUSED (there are none). None means that the response does
        not say, and counts as 0.0. A load of 0.5 means that only half of the calls in flight are welcome. So the limit
        falls to half in the next window, and again in each window while the load stays, until it is 1. If nobody else
        uses the shop during a whole window, LOWEST_IF_UNUSED calls in flight are never too many.
        """
        self._recorded_at, self._call_rows = self._clock(), rows
        # Ignore a call that started before the limit last changed. For example, if 16 calls are in flight together and
        # all get a 503, only the first one halves the limit.
        if self._recorded_at - seconds < self._moved_at:
            return
        if overloaded:
            self._reduce(self._limit // 2)
            return
        self._window.append(seconds)
        self._is_unused &= shop_load == UNUSED
        self._shop_load += max(0.0, shop_load or 0.0)
        if len(self._window) >= max(WINDOW_ROUNDS * self._limit, MIN_WINDOW) * (BATCH_WINDOW if rows > 1 else 1):
            fastest = sorted(self._window)[: -(len(self._window) // SLOWEST_SHARE)]
            lowest = LOWEST_IF_UNUSED if self._is_unused else 1
            self._judge(sum(fastest) / len(fastest), self._shop_load / len(self._window), lowest)

    def _judge(self, seconds: float, shop_load: float, lowest: int) -> None:
        """Adapt the limit to the mean latency and the mean load of a full window. `lowest` is never too high."""
        if self._call_rows > 1 and self._most_in_flight > self._limit:
            self._start_window()  # a batch from before the limit fell still goes on, and slows down these calls
            return
        if not self._windows:
            self._idle_seconds = seconds
        self._call_seconds, self._window_load = seconds, shop_load
        # When few rows are left, or they are in few batches, there are fewer calls in flight than the limit allows.
        calls = min(self._limit, self._most_in_flight)
        served = calls * self._idle_seconds / seconds if seconds > self._idle_seconds else calls
        welcome = served * (1 - shop_load)
        is_too_high = calls - welcome > WAITING_CALLS + WAITING_SHARE * calls
        if self._limit == 1 or not is_too_high or (self._hold_windows and lowest == 1):
            self._update_idle_seconds(seconds)
        if is_too_high and not 1 < self._limit <= lowest:
            self._reduce(round(welcome))
        elif self._hold_windows:
            self._hold_windows -= 1
            self._move(max(self._limit, lowest))
        elif calls < self._limit:
            self._start_window()  # these calls do not show whether the endpoint can serve more than the limit
        else:
            self._move(self._limit + self._step)
            self._step = 1 if self._limit == self._cap else self._step * 2

    def _update_idle_seconds(self, seconds: float) -> None:
        """Move the idle latency towards the mean latency of a window in which hardly any call waited.

        A latency below half of it is no chance. For example, the first calls found a cold endpoint.
        """
        self._windows += 1
        if seconds < self._idle_seconds / 2:
            self._idle_seconds = seconds
            return
        difference = min(seconds - self._idle_seconds, MAX_IDLE_RISE * self._idle_seconds)
        self._idle_seconds += max(1 / self._windows, IDLE_WEIGHT) * difference

    def _reduce(self, limit: int) -> None:
        self._step = 1
        self._hold_windows = HOLD_WINDOWS * max(1, self._call_rows // (BATCH_WINDOW * MIN_WINDOW))
        self._move(limit)

    def _move(self, limit: int) -> None:
        """Set the limit, within its bounds, and start a new window."""
        limit = min(max(1, limit), self._cap)
        if limit != self._limit:
            self._limit = limit
            self._moved_at = self._clock()
            self._changed.set()
        self._start_window()

    def _start_window(self) -> None:
        self._window.clear()
        self._most_in_flight = self._in_flight
        self._shop_load, self._is_unused = 0.0, True


class Limiters:
    """The limiters of one process: each chunk starts with what the last one found out about the same create endpoint.

    Without this, each chunk would start with one call at a time, and a chunk of 200 rows ends before the limiter has
    found the knee of an endpoint that serves 32 calls at once. A new process starts with one call.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, ConcurrencyLimiter] = {}  # by create path

    def limiter(self, create_path: str, cap: int) -> ConcurrencyLimiter:
        """Return a limiter for a chunk that is created at this path."""
        last = self._last.get(create_path)
        is_known = last is not None and not last.is_forgotten
        limiter = last.next(cap) if last and is_known else ConcurrencyLimiter(cap, self._clock)
        self._last[create_path] = limiter
        return limiter
