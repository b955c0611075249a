"""Virtual time, seeded randomness and inline threads for the whole process.

Import this module before any other module of the project, and before Django: some modules keep a reference to a clock,
to `uuid4` or to `ThreadPoolExecutor` from the moment at which they are imported.

Each simulated process has a clock of its own, which may differ from the others. Which process is running follows from
the context of the running task, see `Process`.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
import uuid
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

START_OF_TIME = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""Unix time at which every run begins."""

MONOTONIC_START = 1000.0
"""Value of `time.monotonic()` at which every run begins."""

real_monotonic = time.monotonic
"""The clock of the machine, in seconds. It measures how long the simulation itself takes."""


class Clock:
    """The virtual time since the run began, in seconds."""

    now = 0.0


clock = Clock()


@dataclass(eq=False)
class Process:
    """A simulated process: a worker's invocation, or one request to the monolith.

    A process that was killed runs no further callback, as after SIGKILL: none of its `finally` blocks is executed. A
    process that is frozen runs its callbacks only when it wakes up, as after SIGSTOP.
    """

    name: str
    clock_skew: float = 0.0  # seconds by which its wall clock is ahead
    is_alive: bool = True
    frozen_until: float = 0.0  # virtual time
    steps: int = 0  # callbacks that it has run
    dies_after: int = -1  # number of steps after which it is killed; -1 for never
    started_at: float = field(default_factory=lambda: clock.now)
    on_death: Callable[[], object] = lambda: None

    def kill(self) -> None:
        """Kill the process. It never runs again."""
        self.is_alive = False
        self.on_death()

    def context(self) -> Context:
        """Return a context in which this process runs."""
        context = copy_context()
        context.run(current_process.set, self)
        return context


current_process: ContextVar[Process | None] = ContextVar("current_process", default=None)


class WallClock:
    """Replaces `time.time`. It is no function: as an attribute of a class, a function would become a method."""

    def __call__(self) -> float:
        """Return the Unix time on the clock of the running process."""
        process = current_process.get()
        return START_OF_TIME + clock.now + (process.clock_skew if process else 0.0)


wall_time = WallClock()


def database_time(seconds: float = 0.0) -> str:
    """Return the time on the database's clock plus `seconds`, as SQLite's STRFTIME formats it for Django's `Now()`."""
    return _format_time(START_OF_TIME + clock.now + seconds)


@lru_cache(maxsize=16)  # many statements ask for the same moment
def _format_time(unix_time: float) -> str:
    return datetime.fromtimestamp(unix_time, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


class InlineExecutor(concurrent.futures.Executor):
    """Runs each job at once, in the thread that submits it."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        """Take the arguments of ThreadPoolExecutor."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - as ThreadPoolExecutor does
            future.set_exception(error)
        return future


def random_uuid4() -> uuid.UUID:
    return uuid.UUID(int=random.getrandbits(128), version=4)


def install() -> None:
    """Replace the clocks, `uuid4` and the thread pools of this process. There is no way back."""
    time.time = wall_time
    time.monotonic = lambda: MONOTONIC_START + clock.now
    time.sleep = lambda _seconds: None
    uuid.uuid4 = random_uuid4
    concurrent.futures.ThreadPoolExecutor = InlineExecutor  # type: ignore[misc,assignment]


def now_of_django(*_args: Any) -> datetime:
    """Return the current time for `django.utils.timezone.now`."""
    return datetime.fromtimestamp(wall_time(), UTC)


install()
