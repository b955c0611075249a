"""What users and staff do at any moment: cancel, pause, resume, retry, redrive, expire, and change users."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from bulk_import.retention import expire_jobs
from tests.simulation.faults import Fault, draw_duration
from tests.simulation.monolith import Death, draw_step
from tests.simulation.virtual_time import clock

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Job, Plan
    from tests.simulation.world import World

EXPIRED_AFTER_SECONDS = 31 * 24 * 3600.0
"""Time after which all data of an ended job expires, by the defaults of the settings."""


@dataclass(eq=False)
class JobAction(Fault):
    """Somebody does something with a job, once or several times."""

    at: float
    job: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(plan.draw_time(random), random.randrange(len(plan.jobs)))

    def arm(self, world: World) -> None:
        world.people.start(self._act_at(world))

    def concerns(self, job: Job) -> bool:
        return job.number == self.job

    async def _act_at(self, world: World) -> None:
        await world.sleep_until(self.at)
        if world.people.job_id(self.job):
            self.hits += 1
            await self.act(world)

    async def act(self, world: World) -> None:
        raise NotImplementedError


@dataclass(eq=False)
class UserAction(JobAction):
    """The submitter uses the API."""

    method: ClassVar[str] = "POST"
    suffix: ClassVar[str] = ""

    async def act(self, world: World) -> None:
        await world.people.act_as_user(self.job, self.method, self.suffix)


class Cancel(UserAction):
    weight = 3
    method = "DELETE"

    def cancels(self, job: Job) -> bool:
        return job.number == self.job


class Retry(UserAction):
    weight = 3
    suffix = "/retry"


class Redrive(UserAction):
    weight = 3
    suffix = "/redrive"


@dataclass(eq=False)
class Pause(JobAction):
    """Staff pause a job, and resume it later."""

    weight = 4

    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(plan.draw_time(random), random.randrange(len(plan.jobs)), draw_duration(random))

    async def act(self, world: World) -> None:
        await world.people.act_as_staff("pause", self.job)
        await world.sleep_until(self.at + self.seconds)
        await world.people.act_as_staff("resume", self.job)

    def ends_at(self) -> float:
        return self.at + self.seconds


class Resume(JobAction):
    """Staff resume a job, whether or not it is paused."""

    weight = 3

    async def act(self, world: World) -> None:
        await world.people.act_as_staff("resume", self.job)


class MoveToFront(JobAction):
    """Staff move a job to the front."""

    weight = 3

    async def act(self, world: World) -> None:
        await world.people.act_as_staff("move_to_front", self.job)


class ResumeBySubmitter(UserAction):
    """The submitter resumes a job, whether or not the circuit breaker has paused it."""

    weight = 2
    suffix = "/resume"


@dataclass(eq=False)
class Concurrency(JobAction):
    """Staff change the number of concurrent calls of a job."""

    weight = 2

    limit: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(plan.draw_time(random), random.randrange(len(plan.jobs)), random.choice([1, 2, 8]))

    async def act(self, world: World) -> None:
        world.people.set_concurrency(self.job, self.limit)


@dataclass(eq=False)
class UserChange(Fault):
    """A user loses the permission, is disabled or is deleted. Mostly, the change is undone later."""

    weight = 3

    user: str
    kind: str
    at: float
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        kind = random.choice(["permission", "permission", "active", "deleted"])
        return cls(plan.jobs[0].user, kind, plan.draw_time(random), draw_duration(random))

    def arm(self, world: World) -> None:
        world.people.start(self._change(world))

    def concerns(self, job: Job) -> bool:
        return job.user == self.user

    async def _change(self, world: World) -> None:
        await world.sleep_until(self.at)
        self.hits += 1
        world.people.change_user(self.user, self.kind, undo=False)
        await world.sleep_until(self.ends_at())
        world.people.change_user(self.user, self.kind, undo=True)

    def ends_at(self) -> float:
        return self.at + self.seconds


@dataclass(eq=False)
class Expiry(Fault):
    """A month after the jobs have ended, their data expires. Old messages arrive, and users try to run the jobs again.

    The deletion may die at a statement or around a commit, and is then repeated.
    """

    weight = 2

    step: int
    wait: float  # seconds between the attempts of the users and the deletion

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(draw_step(random), random.choice([0.0, 0.02, 0.1]))

    def arm(self, world: World) -> None:
        world.epilogues.append(self._expire)

    async def _expire(self, world: World) -> None:
        self.hits += 1
        clock.now += EXPIRED_AFTER_SECONDS
        world.queue.send_all_again()
        for death in (Death(self.step), None):
            for job in world.plan.jobs:
                if world.people.job_id(job.number):
                    world.people.start(world.people.act_as_user(job.number, "POST", "/retry"))
            await asyncio.sleep(self.wait)
            world.run_in_monolith("expire", expire_jobs, death)
            await world.until_quiet()
