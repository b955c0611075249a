"""An asyncio event loop with virtual time.

Nothing in it waits. When no callback is ready, the clock jumps to the next timer. If several callbacks are ready, the
seed decides which one runs first, so that a run explores one of the orders that are possible.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.virtual_time import Clock, Process, clock, current_process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

MAX_STEPS = 400_000
"""Callbacks after which a run counts as stuck. The longest healthy runs need a tenth."""

JOB_SECONDS = (0.0005, 0.02)
"""Shortest and longest duration of a job that a thread would run, such as a read from S3."""


class Stuck(Exception):
    """No callback is ready and no timer is set, or the run takes too many steps."""


class VirtualTask(asyncio.Task[Any]):
    """A task whose hash is its number. By default, the hash is its address in memory, which differs between runs.

    A task group has a set of its tasks, and cancels them in the order of this set, which depends on their hashes.
    """

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs the whole simulated world in one thread."""

    def __init__(self, clock: Clock, random: Random) -> None:
        super().__init__()
        self._clock, self._random = clock, random
        self._ready: list[asyncio.Handle] = []  # a list, to take any of its entries
        self._scheduled: list[asyncio.TimerHandle]
        self._dropped: list[asyncio.Handle] = []  # keeps the tasks of dead processes, so that nothing closes them
        self.steps = 0
        self._numbers = count()
        self.set_task_factory(self._new_task)

    def _new_task(self, _loop: Any, coroutine: Any, **options: Any) -> VirtualTask:
        return VirtualTask(next(self._numbers), coroutine, loop=self, **options)

    def time(self) -> float:
        return self._clock.now

    # The next two do what those of the base class do, without its checks for threads and for the debug mode.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # noqa: ARG002 - asyncio's signature
        """Run the function in the loop's own thread, after a short virtual time."""
        future = self.create_future()
        self.call_later(self._random.uniform(*JOB_SECONDS), _run_job, future, func, args)
        return future

    def _run_once(self) -> None:
        """Run one callback. The base class calls this until the loop is stopped."""
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not self._ready:
            if not self._scheduled:
                raise Stuck("Nothing is left to do.")
            self._clock.now = max(self._clock.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        while self._scheduled and self._scheduled[0]._when <= self._clock.now:  # type: ignore[attr-defined]
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(timer)
        ready, place = self._ready, int(self._random.random() * len(self._ready))
        handle, ready[place] = ready[place], ready[-1]
        ready.pop()
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Stuck("The run takes too many steps.")
        if not handle._cancelled and self._may_run(handle):
            handle._run()

    def _may_run(self, handle: asyncio.Handle) -> bool:
        """Return whether the process of the callback can run it now."""
        process: Process | None = handle._context.get(current_process)  # type: ignore[attr-defined]
        if process is None:
            return True
        if process.frozen_until > self._clock.now:
            self.call_at(process.frozen_until, self._ready.append, handle)
            return False
        process.steps += 1
        if process.steps == process.dies_after:
            process.kill()
        if not process.is_alive:
            self._dropped.append(handle)
        return process.is_alive

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: `_run_once` removes cancelled timers when their time has come."""

    def _write_to_self(self) -> None:
        """Do nothing: there is no other thread that could wake up this one."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Raise the errors of callbacks. Ignore tasks that were killed with their process."""
        if error := context.get("exception"):
            raise error


def install() -> None:
    """Let code that makes an event loop of its own, such as the relay for webhooks, get a virtual one."""
    asyncio.events.new_event_loop = lambda: VirtualLoop(clock, Random(0))


def _run_job(future: asyncio.Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if future.cancelled():
        return
    try:
        future.set_result(function(*args))
    except Exception as error:  # noqa: BLE001 - the caller gets it, as from a thread
        future.set_exception(error)
