"""How the create endpoint behaves: what it answers for some rows, or for all rows for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from rest_framework.exceptions import APIException, PermissionDenied, Throttled, ValidationError

from tests.simulation.faults import Fault, draw_duration
from tests.simulation.monolith import Died
from tests.simulation.virtual_time import clock

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Job, Plan
    from tests.simulation.world import World

DEAD_PROCESS = 0
"""In place of a status: the process dies while it creates the row."""

STATUSES_OF_ROWS = [400, 403, 429, 500, 500, 503, 504, 200, DEAD_PROCESS]
STATUSES_OF_ALL = [403, 429, *[500] * 6, 503, 503, *[504] * 3, 200]
"""Statuses that all rows get for a while. Most of them make rows fail, so that the circuit breaker pauses some jobs."""


class Unavailable(APIException):
    status_code = 503


class GatewayTimeout(APIException):
    status_code = 504


@dataclass(eq=False)
class EndpointFault(Fault):
    """The endpoint answers a status other than 201: for one row a few times or always, or for all rows for a while."""

    weight = 14

    status: int
    name: str  # of the row; "" for all rows of all jobs
    times: int  # number of calls that are affected
    start: float
    seconds: float
    retry_after: int | None
    is_late: bool  # whether the row has been written already, so that it must be rolled back

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        retry_after, is_late = random.choice([None, 0, 1, 30, 400]), random.random() < 0.5
        if random.random() < 0.35:
            start, seconds = plan.draw_time(random), draw_duration(random)
            status = random.choice(STATUSES_OF_ALL)
            return cls(status, "", 10**9, start, seconds, retry_after, is_late)
        job = random.randrange(len(plan.jobs))
        row = random.randrange(len(plan.jobs[job].rows))
        name = plan.jobs[job].rows[row].name
        times = random.choice([1, 2, 4, 10**9, 10**9])
        return cls(random.choice(STATUSES_OF_ROWS), name, times, 0.0, 1e9, retry_after, is_late)

    def arm(self, world: World) -> None:
        world.endpoint.faults.append(self)

    def concerns(self, job: Job) -> bool:
        return not self.name or self.name in {row.name for row in job.rows}

    def ends_at(self) -> float:
        return self.start + self.seconds if not self.name else 0.0

    def affects(self, name: str) -> bool:
        is_now = self.start <= clock.now < self.start + self.seconds
        return is_now and self.hits < self.times and self.name in {"", name}

    def raise_error(self) -> None:
        """Raise the exception that makes DRF answer the status."""
        if self.status == DEAD_PROCESS:
            raise Died("in the view")
        if self.status == 400:
            raise ValidationError({"name": "This name is refused."})
        if self.status == 403:
            raise PermissionDenied
        if self.status == 429:
            raise Throttled(self.retry_after)
        if self.status == 503:
            raise Unavailable
        if self.status == 504:
            raise GatewayTimeout
        if self.status == 500:
            raise RuntimeError("a bug in the view")


@dataclass
class Endpoint:
    """The create endpoint of the categories."""

    faults: list[EndpointFault] = field(default_factory=list)

    def before_write(self, name: str) -> None:
        """Raise if the endpoint fails before it writes the row."""
        self._meet(name, is_late=False)

    def after_write(self, name: str) -> None:
        """Raise if the endpoint fails after it wrote the row."""
        self._meet(name, is_late=True)

    def success_status(self, name: str) -> int:
        """Return the status of a creation: 201, or 200 if a fault wants it."""
        for fault in self.faults:
            if fault.status == 200 and fault.affects(name):
                fault.hits += 1
                return 200
        return 201

    def _meet(self, name: str, *, is_late: bool) -> None:
        for fault in self.faults:
            if fault.status != 200 and fault.is_late == is_late and fault.affects(name):
                fault.hits += 1
                fault.raise_error()
