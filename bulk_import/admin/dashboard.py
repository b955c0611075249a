"""The strip on top of the list of imports: how things stand, and whether a person is needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Min, Sum
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus

if TYPE_CHECKING:
    from datetime import datetime

NONE = "-"

WAITS_TOO_LONG = timedelta(minutes=15)
"""That a message rests on the queue while no worker takes it: longer than any delay that we ask for."""


@dataclass(frozen=True)
class Figure:
    """`query` is what the list of jobs is filtered by to see them; "" for nothing to see."""

    label: str
    value: str | int
    is_alarming: bool = False
    query: str = ""


def figures() -> list[Figure]:
    """A handful of queries, whatever the number of jobs: each has an index of the few that it counts."""
    open_jobs = ImportJob.objects.open()
    rows = open_jobs.aggregate(total=Sum("rows", default=0))["total"]
    settled = sum(
        ImportChunk.objects.filter(job__in=open_jobs)
        .aggregate(
            created=Sum("created", default=0),
            rejected=Sum("rejected", default=0),
            failed=Sum("failed", default=0),
            unprocessed=Sum("unprocessed", default=0),
        )
        .values()
    )
    paused = open_jobs.filter(status=JobStatus.PAUSED).count()
    dead = ImportChunk.objects.dead().count()
    waiting = ImportChunk.objects.filter(job__in=open_jobs.exclude(status=JobStatus.PAUSED))
    oldest: datetime | None = waiting.filter(status__in=[ChunkStatus.PENDING, ChunkStatus.QUEUED]).aggregate(
        oldest=Min("job__created_at")
    )["oldest"]
    now = timezone.now()
    return [
        Figure(_("open imports"), open_jobs.count()),
        Figure(_("rows to go"), rows - settled),
        Figure(_("paused"), paused, is_alarming=paused > 0, query="status__exact=paused"),
        Figure(_("dead letters"), dead, is_alarming=dead > 0, query="dead=1"),
        Figure(
            _("oldest waiting"),
            timesince(oldest, now, depth=1) if oldest else NONE,
            is_alarming=oldest is not None and now - oldest > WAITS_TOO_LONG,
        ),
    ]
