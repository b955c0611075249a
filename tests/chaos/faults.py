"""The fate of each request during a run: it passes, or one of the faults of the plan meets it."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.chaos.plan import API, API_FATES, CREATE, OUTAGE, PUBLISH_FATES
from tests.chaos.proxy import Fate, Kind

if TYPE_CHECKING:
    from tests.chaos.plan import Plan

MONOLITH_STATUSES = (429, 500, 502, 503)
AWS_STATUSES = (500, 503)
RETRY_AFTERS = ("", "", "1", "0", "-5", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")

PUBLISH = "AmazonSQS.SendMessageBatch"
"""Label of the requests with which the monolith and the relay send the messages of chunks."""

AWAY = {
    OUTAGE: ("create",),
    "monolith away": ("create", *API),
    "s3 away": ("GET ", "PUT "),
    "payloads away": ("GET bulk-import-payloads",),
    "sqs away": ("AmazonSQS",),
    "sqs away at first": ("AmazonSQS.Send",),
}


HANGING: dict[str, tuple[str, ...]] = {"s3 hangs": ("GET ", "PUT "), "s3 hangs at first": ("GET ", "PUT ")}
"""Events during which no request with one of these labels is ever answered."""


class Faults:
    """Decides the fate of each request during a run, and counts the faults in `injected`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen: Counter[str] = Counter()
        self._began_at = time.monotonic()
        self.injected: Counter[str] = Counter()

    def monolith_fate(self, label: str) -> Fate:
        """Return the fate of a request to the monolith. The label is `create <index>` or a verb of the worker API."""
        random = self._random(label)
        profile = self._plan.profile
        if self._happens(AWAY, label):
            return self._count(Fate(Kind.ERROR, status=random.choice([502, 503])))
        if label == "finish" and random.random() < profile.kill_finisher:
            return self._count(Fate(Kind.KILL_AFTER))
        if label.startswith(CREATE):
            rate, fates = profile.create_rate, profile.create_fates
            usual = Fate(seconds=random.uniform(0, 2 * profile.create_seconds))
        elif label in API:
            rate, fates, usual = profile.api_rate, API_FATES, Fate()
        else:
            return Fate()
        return self._draw(random, rate, fates, MONOLITH_STATUSES) or usual

    def aws_fate(self, label: str) -> Fate:
        """Return the fate of a request to S3 or SQS. The label is method and bucket, or SQS's name of the operation."""
        random = self._random(label)
        profile = self._plan.profile
        if self._happens(HANGING, label):
            return self._count(Fate(Kind.HANG))
        if self._happens(AWAY, label):
            return self._count(Fate(Kind.ERROR, status=random.choice(AWS_STATUSES)))
        if label == PUBLISH and (fate := self._draw(random, profile.publish_rate, PUBLISH_FATES, AWS_STATUSES)):
            return fate
        return self._draw(random, profile.aws_rate, profile.aws_fates, AWS_STATUSES) or Fate()

    def _random(self, label: str) -> Random:
        self._seen[label] += 1
        return Random(f"{self._plan.seed} {label} {self._seen[label]}")  # noqa: S311 - a seed must be repeatable

    def outage_fate(self, label: str) -> Fate:
        """Return the fate of a request to the monolith after the other faults have ended: an outage lasts."""
        if label.startswith(CREATE) and OUTAGE in self._plan.kinds:
            return self._count(Fate(Kind.ERROR))
        return Fate()

    def _happens(self, kinds: dict[str, tuple[str, ...]], label: str) -> bool:
        """Return whether an event of these kinds happens now, and applies to a request with this label."""
        now = time.monotonic() - self._began_at
        events = [event for event in self._plan.events if event.kind in kinds and label.startswith(kinds[event.kind])]
        return any(event.at <= now < event.at + event.seconds for event in events)

    def _draw(self, random: Random, rate: float, fates: dict[Kind, int], statuses: tuple[int, ...]) -> Fate | None:
        if random.random() >= rate:
            return None
        return self._count(
            Fate(
                kind=random.choices(list(fates), list(fates.values()))[0],
                seconds=random.uniform(0.3, 3.0),
                status=random.choice(statuses),
                retry_after=random.choice(RETRY_AFTERS),
            )
        )

    def _count(self, fate: Fate) -> Fate:
        name = f"answer {fate.status}" if fate.kind == Kind.ERROR else str(fate.kind)
        self.injected[name] += 1
        return fate
