"""What users do with an import that has ended, and what people do to the objects of an import."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Self

from products.models import Category
from tests.shop_client import TERMINAL
from tests.simulation.faults_of_people import JobAction
from tests.simulation.writes import EDIT

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Plan
    from tests.simulation.world import World

POLL_SECONDS = 20.0
MAX_POLLS = 300
"""How often, and how many times, a user looks whether the import has ended."""


@dataclass(eq=False)
class AfterTheEnd(JobAction):
    """The submitter waits until the job has ended, and then uses the API."""

    suffix: ClassVar[str]

    async def _act_at(self, world: World) -> None:
        if world.plan.jobs[self.job].target != "categories":
            return  # the target of the products has no `detail_url`
        await world.sleep_until(self.at)
        for _poll in range(MAX_POLLS):
            found = world.sql("SELECT status FROM bulk_import_importjob WHERE id = ?", world.people.job_id(self.job))
            if found and found[0][0] in TERMINAL:
                self.hits += 1
                self.prepare(world)
                # Somebody may have opened the job again, or there is nothing to run or to undo. The target `products`
                # has no detail_url, so its imports cannot be undone.
                refused = (HTTPStatus.CONFLICT, HTTPStatus.BAD_REQUEST)
                await world.people.act_as_user(self.job, "POST", self.suffix, *refused)
                return
            await asyncio.sleep(POLL_SECONDS)

    def prepare(self, world: World) -> None:
        """Do what happens right before the call."""


class Run(AfterTheEnd):
    """Imports the rows of a rehearsal."""

    weight = 3
    suffix = "/run"

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        """Mostly choose a rehearsal: if there is none, a job becomes one."""
        run = super().draw(random, plan)
        rehearsed = [job.number for job in plan.jobs if job.rehearse]
        if rehearsed:
            run.job = random.choice(rehearsed)
        elif random.random() < 0.8 and plan.jobs[run.job].target == "categories" and not plan.spares_a_job:
            plan.jobs[run.job].rehearse = True
        return run


@dataclass(eq=False)
class Undo(AfterTheEnd):
    """Deletes what the job has created. Mostly, somebody has changed one of these objects before."""

    weight = 3
    suffix = "/undo"

    row: int | None

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        job = random.randrange(len(plan.jobs))
        row = random.randrange(len(plan.jobs[job].rows)) if random.random() < 0.6 else None
        return cls(plan.draw_time(random), job, row)

    def prepare(self, world: World) -> None:
        if self.row is not None:
            edit(world, self.job, self.row)


@dataclass(eq=False)
class Edit(JobAction):
    """Somebody changes the object of a row without an import."""

    weight = 4

    row: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        job = random.randrange(len(plan.jobs))
        return cls(plan.draw_time(random), job, random.randrange(len(plan.jobs[job].rows)))

    async def act(self, world: World) -> None:
        edit(world, self.job, self.row)


def edit(world: World, job: int, row: int) -> None:
    """Change the object of a row, as a person would in the admin."""
    name = world.plan.jobs[job].rows[row].name
    world.run_in_monolith(f"edit {name}", lambda: Category.objects.filter(name=name).update(slug=f"{EDIT}{row}"))
