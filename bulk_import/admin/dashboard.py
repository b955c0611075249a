"""The figures above the list of imports: the current load, and whether staff have to act."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Min, Sum
from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.reports.messages import grouped

if TYPE_CHECKING:
    from datetime import datetime

NO_WAIT = "-"
"""Value of the longest wait if no import waits for a worker."""

MAX_NORMAL_WAIT = timedelta(minutes=15)
"""Wait for a worker above which the figure turns red. SQS delays a message for at most 15 minutes."""


@dataclass(frozen=True)
class Figure:
    """One figure. It links to the list of jobs with the filter `query`, or to "Imports now" if `query` is ""."""

    label: str
    value: str | int
    is_alarming: bool = False
    query: str = ""


def figures() -> list[Figure]:
    """Return all figures. They cost the same few queries for any number of jobs, and each query uses an index."""
    open_jobs = ImportJob.objects.open()
    rows = open_jobs.aggregate(total=Sum("rows", default=0))["total"]
    finished_rows = sum(
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
    waiting = ImportChunk.objects.filter(
        job__in=open_jobs.exclude(status=JobStatus.PAUSED),
        status__in=[ChunkStatus.PENDING, ChunkStatus.RESERVED, ChunkStatus.QUEUED],
    )
    oldest: datetime | None = waiting.aggregate(oldest=Min("job__created_at"))["oldest"]
    now = timezone.now()
    return [
        Figure(_("open imports"), open_jobs.count()),
        Figure(_("rows left"), grouped(rows - finished_rows)),
        Figure(_("paused"), paused, is_alarming=paused > 0, query="status__exact=paused"),
        Figure(_("dead chunks"), dead, is_alarming=dead > 0, query="dead=1"),
        Figure(
            _("longest wait"),
            timesince(oldest, now, depth=1) if oldest else NO_WAIT,
            is_alarming=oldest is not None and now - oldest > MAX_NORMAL_WAIT,
        ),
    ]
