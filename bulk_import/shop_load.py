"""How fast this process serves its other requests while it also creates imported rows.

Each response to a create call tells the worker this load (LOAD_HEADER), and the worker makes fewer calls while it is
high. So an import slows down for the people who use the shop, and not only when its own calls become slow.

Each create call also gives way: it waits until no process of the site on this machine serves another request, for at
most MAX_WAIT_SECONDS. So a person who opens a page competes with the row that is being created now, but not with the
next rows. The processes know of each other by a file lock: a process shares it while it serves a request, and a create
call finds out whether anybody has it. No request waits for this lock. The lock is on the file of this module. So
processes know of each other if they have the same copy of it, and those in other containers do not.

The load is a comparison with quiet times, when the process creates no rows. The process remembers the average duration
of the requests to each URL pattern in quiet times. Later it divides the duration of each request by this average.

Example: a page takes 5 ms in quiet times. While an import runs, it takes 6 ms, 7 ms, 8 ms and so on. On average it is
40 % slower, so the load is 0.40. When all requests take twice as long or longer, the load is 1.00. When there are no
other requests, the load is -1.00: an import may then use all of the process.

A process that starts during an import knows no quiet times yet. It reports 0.00 until no create call has reached it for
QUIET_SECONDS. The time that a request waits before this process accepts it is not part of its duration.
"""

from __future__ import annotations

import math
import time
from threading import Lock
from typing import TYPE_CHECKING

from bulk_import.file_lock import FileLock
from bulk_import_wire.contract import UNUSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

QUIET_SECONDS = 1.0
"""A request belongs to quiet times if no create call was in flight during it, or in this time before it."""

RECENT_SECONDS = 2.0
"""Without any other request for this time, nobody uses the shop."""

MAX_SLOWDOWN = 2.0
"""Longest duration of a request that counts, as a multiple of the average in quiet times.

The limit applies to the average in quiet times as well. So a few very slow requests, which are slow in quiet times too,
cause no load.
"""

MAX_WAIT_SECONDS = 0.02
"""Longest time for which a create call waits for other requests.

Most pages take less time.
"""

MAX_CALLS_PER_WAIT = 64
"""Of the create calls that find a request in flight, at least every 64th waits for it.

At first, each of them waits. After a wait in vain, every second one waits, then every fourth, and so on, until a wait
is not in vain. So an import hardly waits in a shop whose requests take long, for example because they wait for a slow
database, and during a request that takes minutes. Soon after such a request, each create call waits again.
"""

PAUSE_SECONDS = 0.0005
"""How long a create call sleeps before it looks for the first time, and again, whether another request is in flight.

It always sleeps once, so that the other threads of the process can run. Otherwise, the rows of a batch follow each
other without a pause, and the server accepts new requests late. docs/performance.md shows what that is worth.
"""

WEIGHT = 0.1
"""Weight of each request in the moving averages, so that they cover about the last ten requests."""

COMPARED_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
"""Methods whose durations are compared. A client can send any other word as its method, and we must not store them."""


class ShopLoad:
    """The load of one process. Its methods can be called from any thread. Only `begin_create` may wait.

    Call `begin_request` and `end_request` for each request that is not a worker's, and `begin_create` and `end_create`
    for each create call. `clock` returns seconds. `shared_file` is a file that all processes of the site can read.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
        shared_file: str = __file__,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._serving = FileLock(shared_file)  # shared while this process serves another request
        self._probe = FileLock(shared_file)  # another owner, which finds out whether any process serves one
        self._lock = Lock()  # protects all fields; it is never held while a request is served
        self._creates = 0  # create calls in flight
        self._created_at = -math.inf  # when a create call last began or ended
        self._calls_per_wait = 1  # of the create calls that find a request in flight, every n-th waits
        self._calls_since_wait = 0  # create calls that have found a request in flight since one of them waited
        self._requests = 0  # other requests in flight
        self._requested_at = -math.inf  # when another request last ended
        self._slowdown = 1.0  # moving average of the recent requests, as a multiple of quiet times
        self._quiet_seconds: dict[tuple[str, str], float] = {}  # average duration in quiet times, by method and route

    def begin_create(self) -> None:
        """Wait until no process serves another request, for at most MAX_WAIT_SECONDS."""
        now = self._clock()
        self._sleep(PAUSE_SECONDS)
        if self._is_shop_serving():
            self._give_way(until=now + MAX_WAIT_SECONDS)
        with self._lock:
            self._creates += 1
            self._created_at = self._clock()

    def _give_way(self, until: float) -> None:
        """Wait until no process serves another request, or until this time. Do not wait if that was in vain before."""
        with self._lock:
            self._calls_since_wait += 1
            calls_per_wait = self._calls_per_wait
            if self._calls_since_wait < calls_per_wait:
                return
            self._calls_since_wait = 0
        while (is_in_vain := self._is_shop_serving()) and self._clock() < until:
            self._sleep(PAUSE_SECONDS)
        with self._lock:
            self._calls_per_wait = min(2 * calls_per_wait, MAX_CALLS_PER_WAIT) if is_in_vain else 1

    def _is_shop_serving(self) -> bool:
        """Return whether this process or another one serves a request that is not a worker's."""
        with self._lock:
            if self._requests or not self._probe.acquire():
                return True
            self._probe.release()
            return False

    def end_create(self) -> float:
        """Return the load for the response: from 0.0 (as fast as in quiet times) to 1.0, or UNUSED."""
        with self._lock:
            self._creates -= 1
            self._created_at = now = self._clock()
            is_used = self._requests > 0 or now - self._requested_at < RECENT_SECONDS
            return min(max(0.0, self._slowdown - 1), 1.0) if is_used else UNUSED

    def begin_request(self) -> float:
        """Return the time at which the request began, for `end_request`."""
        with self._lock:
            now = self._clock()
            if not self._requests and now - self._requested_at >= RECENT_SECONDS:
                self._slowdown = 1.0
            self._requests += 1
            self._serving.acquire(shared=True)  # in vain if a create call looks at this moment; nobody waits for that
            return now

    def end_request(self, request: HttpRequest, began_at: float) -> None:
        match = request.resolver_match  # None if the URL does not exist, or if the request ended with an exception
        key = (str(request.method), match.route) if match and request.method in COMPARED_METHODS else None
        with self._lock:
            self._requests -= 1
            if not self._requests:
                self._serving.release()
            self._requested_at = now = self._clock()
            if key:
                self._compare(key, now - began_at, began_at)

    def _compare(self, key: tuple[str, str], seconds: float, began_at: float) -> None:
        """Update the average in quiet times, or the average of the recent requests, with the duration of one request.

        The first request of each route only registers it, because it is slow: it compiles templates and opens
        connections.
        """
        quiet_seconds = self._quiet_seconds.get(key)
        if not self._creates and began_at - self._created_at > QUIET_SECONDS:
            if quiet_seconds is None:
                self._quiet_seconds[key] = math.inf
            elif quiet_seconds == math.inf:
                self._quiet_seconds[key] = seconds
            else:
                counted = min(seconds, MAX_SLOWDOWN * quiet_seconds)
                self._quiet_seconds[key] += WEIGHT * (counted - quiet_seconds)
        if quiet_seconds is not None and 0 < quiet_seconds < math.inf:
            self._slowdown += WEIGHT * (min(seconds / quiet_seconds, MAX_SLOWDOWN) - self._slowdown)
