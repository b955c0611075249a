"""Faults of the network and of the monolith's processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.simulation.faults import RequestFault, draw_duration
from tests.simulation.monolith import AFTER_COMMIT, Death, draw_step
from tests.simulation.network import Fate

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Plan
    from tests.simulation.world import World

POINTS = {"create": 10, "claim": 3, "finish": 3, "heartbeat": 2, "release": 2, "dead": 1, "submit": 2, "action": 1}
"""Purposes of requests to the monolith, each with the largest number of the occurrence that a fault affects."""

POINT_WEIGHTS = [12, 4, 4, 2, 2, 1, 2, 1]

ALL_POINTS = tuple(POINTS)

PAGES = [200, 201, 400, 403, 404, 410, 413, 429, 431, 500, 502, 503, 504]
"""Statuses of the pages with which a proxy answers."""


def draw_point(random: Random) -> tuple[str, int]:
    """Return a purpose of a request, and the number of the occurrence."""
    point = random.choices(list(POINTS), POINT_WEIGHTS)[0]
    return point, random.randint(1, POINTS[point])


@dataclass(eq=False)
class NetworkFault(RequestFault):
    """A request or its answer is lost, late, doubled, truncated, or replaced by a page of a proxy.

    Or the worker dies, and its request arrives when another worker has claimed the chunk.
    """

    weight = 30
    KINDS = ("lost", "no answer", "hangs", "late", "twice", "cut", "page", "page afterwards", "overtaken")

    point: str
    number: int
    kind: str
    seconds: float
    status: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        kind, status = random.choice(cls.KINDS), random.choice(PAGES)
        return cls(*draw_point(random), kind, random.choice([0.5, 5.0, 35.0, 120.0]) * random.uniform(0.5, 1), status)

    def arm(self, world: World) -> None:
        world.fates.arm(self.point, self.number, self)

    def fate(self) -> Fate:
        return {
            "lost": Fate(arrives=False, answer_arrives=False),
            "no answer": Fate(answer_arrives=False),
            "hangs": Fate(answer_arrives=False, hangs=True),
            "late": Fate(delay_seconds=self.seconds),
            "twice": Fate(arrives_twice=True),
            "cut": Fate(is_cut=True),
            "page": Fate(arrives=False, page=self.status),
            "page afterwards": Fate(page=self.status),
            "overtaken": Fate(is_overtaken=True),
        }[self.kind]


@dataclass(eq=False)
class MonolithDies(RequestFault):
    """A web process dies at a statement or around a commit, or its database reports an error there.

    A process that dies after its commit does not send the messages of the chunks to which it has given a place.
    """

    weight = 20

    point: str
    number: int
    step: int
    with_error: bool
    page: int  # what a proxy answers for the dead process; 0 if the connection breaks

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        point, page = draw_point(random), random.choice([0, 502])
        if random.random() < 0.25:
            return cls(*point, AFTER_COMMIT, False, page)
        return cls(*point, draw_step(random), random.random() < 0.25, page)

    def arm(self, world: World) -> None:
        world.fates.arm(self.point, self.number, self)

    def fate(self) -> Fate:
        return Fate(death=Death(self.step, self.with_error), page=0 if self.with_error else self.page)


@dataclass(eq=False)
class MonolithAway(RequestFault):
    """The site, or only its worker API or its create endpoint, does not answer for a while."""

    weight = 3

    points: tuple[str, ...]
    start: float
    seconds: float
    page: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        points = random.choice([ALL_POINTS, ("create",), ("claim", "heartbeat", "release", "finish", "dead")])
        return cls(points, plan.draw_time(random), draw_duration(random), random.choice([0, 0, 502, 503]))

    def arm(self, world: World) -> None:
        world.fates.arm_window(self.start, self.ends_at(), self.points, self)

    def fate(self) -> Fate:
        return Fate(arrives=False, answer_arrives=bool(self.page), page=self.page)

    def ends_at(self) -> float:
        return self.start + self.seconds
