"""The plan of a run: the imports, the surroundings and the faults. The seed determines all of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.faults import FAULTS

if TYPE_CHECKING:
    from tests.simulation.faults import Fault

USERS = ("ana", "ben")
"""The users who import. Faults that concern a user affect only one of them."""

SEEDS_PER_SPARED_JOB = 10
"""One of so many seeds has faults that concern only some of its jobs."""

SEEDS_PER_SHARED_OBJECTS = 4
"""One of so many seeds has jobs that update and upsert the same few objects."""

OBJECTS = 8
"""Number of objects that these jobs share. Some of them exist before."""

VALUES = ("a", "b", "c")
"""The values that these jobs write. There are few, so that some rows change nothing."""

ROWS = (5, 10)
"""Fewest and most rows of a usual import. Most imports have few, so that many runs take little time."""

SEEDS_PER_LARGE_JOB = 100
"""One of so many seeds has a large import, of products."""

LARGE_ROWS = (40, 120)
"""Fewest and most rows of a large import."""


@dataclass(frozen=True)
class Row:
    name: str
    body: dict[str, Any]

    def encoded(self) -> bytes:
        """Return the row as the client sends it, and as every later document must contain it."""
        return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass
class Job:
    """An import that a user sends."""

    number: int
    user: str
    target: str
    at: float  # virtual time
    rows: list[Row]
    mode: str = "create"
    rehearse: bool = False

    @property
    def key(self) -> str:
        return f"job-{self.number}"


@dataclass
class Plan:
    """What is decided before a run starts. `faults` can be reduced, and the rest of the run stays comparable."""

    seed: int
    jobs: list[Job] = field(default_factory=list)
    objects: dict[str, str] = field(default_factory=dict)  # the categories that exist already: names and values
    faults: list[Fault] = field(default_factory=list)
    pollers: int = 2
    batch_size: int = 1
    function_seconds: float = 60.0
    lease_seconds: int = 10
    concurrency: int = 4
    batch_rows: int = 1
    chunk_rows: int = 5
    chunks_in_flight: int = 2
    max_failed_share: float | None = None
    max_receives: int = 5
    clock_skews: list[float] = field(default_factory=list)  # seconds; of the web servers
    latency_factor: float = 1.0

    @classmethod
    def of_seed(cls, seed: int) -> Plan:
        random = Random(f"plan {seed}")
        plan = cls(
            seed,
            pollers=random.randint(1, 3),
            batch_size=random.choice([1, 1, 1, 3]),
            function_seconds=random.choice([8.0, 8.0, 8.0, 20.0, 20.0, 60.0]),
            lease_seconds=random.choice([3, 10, 10, 30]),
            concurrency=random.choice([1, 3, 4, 8]),
            batch_rows=Random(f"batches {seed}").choice([1, 1, 3, 20]),
            chunks_in_flight=random.choice([1, 2, 2, 3, 8]),
            max_failed_share=random.choice([None, 0.1, 0.1, 0.1, 0.1, 0.5, 0.9]),
            max_receives=random.choice([3, 5, 5]),
            latency_factor=random.choice([1.0, 1.0, 1.0, 30.0]),
            clock_skews=[0.0, random.uniform(-2, 2), random.choice([0.0, 0.0, 300.0])],
        )
        if seed % SEEDS_PER_LARGE_JOB == 0:
            plan.jobs = [_draw_job(random, plan, 0, "products", random.randint(*LARGE_ROWS))]
        elif plan.shares_objects:
            names = [f"{seed}-{number}" for number in range(OBJECTS)]
            plan.chunk_rows = random.choice([1, 2, 2, 3, 3])  # so that several chunks of each job wait for a place
            plan.objects = {name: random.choice(VALUES) for name in names if random.random() < 0.6}
            count = random.choice([2, 2, 2, 2, 3, 4])
            plan.jobs = [_draw_job_of_objects(random, n, names) for n in range(count)]
            if random.random() < 0.3:  # so that two users wait for places at the same time
                for job in plan.jobs:
                    job.user, job.at = USERS[job.number % 2], 0.0
        else:
            count = 2 if plan.spares_a_job else random.choices([1, 2, 3], [10, 1, 1])[0]
            sizes = [int(random.triangular(ROWS[0], ROWS[1] + 1, ROWS[0])) for _ in range(count)]
            plan.jobs = [_draw_job(random, plan, n, "categories", size) for n, size in enumerate(sizes)]
        weights = [kind.weight for kind in FAULTS]
        count = int(random.triangular(0, 40, 11))
        plan.faults = [kind.draw(random, plan) for kind in random.choices(FAULTS, weights, k=count)]
        if plan.spares_a_job:
            plan.faults = [fault for fault in plan.faults if not fault.concerns(plan.jobs[0])]
        return plan

    @property
    def shares_objects(self) -> bool:
        """Whether the jobs of the plan update and upsert the same objects."""
        return self.seed % SEEDS_PER_SHARED_OBJECTS == 2

    @property
    def spares_a_job(self) -> bool:
        """Whether no fault of the plan concerns the first job. It must then end as if nothing had happened."""
        return self.seed % SEEDS_PER_SPARED_JOB == 1 and not self.shares_objects

    @property
    def faults_end_at(self) -> float:
        """The virtual time at which the last fault is over."""
        return max([fault.ends_at() for fault in self.faults], default=0.0)

    def draw_time(self, random: Random) -> float:
        """Return a virtual time at which something may happen: mostly while the imports run, rarely long after."""
        return random.uniform(0, random.choice([0.3, 1, 30, 300]))


def _draw_job(random: Random, plan: Plan, number: int, target: str, count: int) -> Job:
    names = [f"{plan.seed}-{number}-{index}" for index in range(count)]
    if target == "categories":
        rows = [Row(name, {"name": name, "slug": f"v{number}"}) for number, name in enumerate(names)]
    else:
        rest = {"price": "12.50", "currency": "EUR", "category": "tents", "stock": 3}
        rows = [Row(name, {"sku": name, "name": name, **rest}) for name in names]
    rehearse = target == "categories" and not plan.spares_a_job and random.random() < 0.05
    return Job(number, random.choice(USERS), target, random.uniform(0, 2) * number, rows, rehearse=rehearse)


def _draw_job_of_objects(random: Random, number: int, names: list[str]) -> Job:
    rows = [Row(name, {"name": name, "slug": random.choice(VALUES)}) for name in random.sample(names, ROWS[0])]
    mode, at = random.choice(["update", "upsert", "upsert"]), random.uniform(0, 1) * number
    return Job(number, random.choice(USERS), "categories", at, rows, mode, rehearse=random.random() < 0.1)
