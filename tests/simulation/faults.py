"""The base of all faults, and how a run finds out which fault affects a request.

A fault is a small class. `draw` chooses its parameters from the seed, and `arm` prepares it before the run starts. To
add one, write a subclass in one of the `faults_*` modules; the class is registered by its definition.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

from tests.simulation.network import Fate
from tests.simulation.virtual_time import clock

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Job, Plan
    from tests.simulation.queue import Message
    from tests.simulation.virtual_time import Process
    from tests.simulation.world import World

FAULTS: list[type[Fault]] = []
"""Every kind of fault, in the order of definition."""


def draw_duration(random: Random) -> float:
    """Return seconds: mostly seconds or minutes, rarely hours."""
    ranges = [(0.1, 5), (5, 60), (60, 600), (3600, 7200)]
    return random.uniform(*random.choices(ranges, [20, 20, 5, 1])[0])


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong in a run, or that a person does at a moment of the worst kind."""

    weight: ClassVar[int] = 0  # how often this kind is drawn, relative to the others; 0 for a base class
    loses_messages: ClassVar[bool] = False  # whether it removes messages from the queue
    hits: int = field(default=0, init=False)  # how often it has had an effect

    def __init_subclass__(cls) -> None:
        if cls.weight:
            FAULTS.append(cls)

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        """Return a fault of this kind with drawn parameters."""
        raise NotImplementedError

    def arm(self, world: World) -> None:
        """Prepare the fault before the run starts."""
        raise NotImplementedError

    def concerns(self, job: Job) -> bool:  # noqa: ARG002 - subclasses use it
        """Return whether the fault may change what happens to this job."""
        return True

    def cancels(self, job: Job) -> bool:  # noqa: ARG002 - subclasses use it
        """Return whether somebody cancels this job."""
        return False

    def ends_at(self) -> float:
        """Return the virtual time at which the fault is over by itself; 0.0 if it does not last."""
        return 0.0


class Fates:
    """Tells which fault affects a request, a call of a service or an invocation.

    A *point* is what can go wrong: a verb of the worker API, an operation of AWS, or a name that a fault defines. Its
    occurrences are numbered from 1. A fault affects one occurrence, or all of them during a window of time.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._armed: dict[tuple[str, int], Fault] = {}
        self._windows: list[tuple[float, float, tuple[str, ...], Fault]] = []

    def arm(self, point: str, number: int, fault: Fault) -> None:
        """Let the fault affect one occurrence of the point."""
        self._armed.setdefault((point, number), fault)

    def arm_window(self, start: float, end: float, points: tuple[str, ...], fault: Fault) -> None:
        """Let the fault affect all occurrences of these points in a window of virtual time."""
        self._windows.append((start, end, points, fault))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._armed, self._windows = {}, []

    def next(self, point: str) -> Fault | None:
        """Count an occurrence, and return the fault that affects it."""
        self._counts[point] += 1
        fault = self._armed.get((point, self._counts[point]))
        for start, end, points, other in self._windows:
            if fault is None and start <= clock.now < end and point in points:
                fault = other
        if fault:
            fault.hits += 1
        return fault

    def of_request(self, point: str) -> Fate:
        """Return what happens to the next request for this purpose."""
        fault = self.next(point)
        return fault.fate() if isinstance(fault, RequestFault) else Fate()

    def of_service(self, operation: str) -> str:
        """Return what goes wrong with the next call of an operation of AWS, or another service; "" for nothing."""
        fault = self.next(operation)
        return fault.failure if isinstance(fault, ServiceFault) else ""

    def of_invocation(self, process: Process) -> None:
        """Let the fault of the next invocation affect its process."""
        fault = self.next(process.name)
        if isinstance(fault, InvocationFault):
            fault.affect(process)


class RequestFault(Fault):
    """Affects requests to the monolith."""

    def fate(self) -> Fate:
        raise NotImplementedError


@dataclass(eq=False)
class ServiceFault(Fault):
    """Affects calls of S3, SQS, the mail server or the webhook receiver."""

    failure: str  # see `tests.simulation.aws.fail`


class MessageFault(Fault):
    """Affects a message that was sent to the import queue."""

    def affect(self, message: Message) -> None:
        raise NotImplementedError


class InvocationFault(Fault):
    """Affects an invocation of a Lambda function."""

    def affect(self, process: Process) -> None:
        raise NotImplementedError
