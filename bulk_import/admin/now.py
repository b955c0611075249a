"""What the page "Imports now" shows besides the endpoints: rate, waiting rows, chunks in flight, and what is stuck.

Each function runs a fixed number of queries. They read jobs and chunks with indexes, and never the ledger, so they stay
fast however many rows were imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.db.models import BooleanField, Case, Count, F, Q, Sum, When
from django.db.models.functions import TruncMinute
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from bulk_import.admin.advice import PAUSES
from bulk_import.admin.charts import bar_chart
from bulk_import.admin.timeline import duration
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.models.chunk_columns import DONE, IS_LOST
from bulk_import.reports.messages import clock_time, grouped

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.functional import _StrPromise
    from django.utils.safestring import SafeString

MINUTES = 60
"""Length of the chart."""

SPAN_MINUTES = 10
"""Length of one line of the table beside the chart."""

SHOWN = 20
"""Maximum number of lines of each list. The list of imports shows the others."""

RELAY_INTERVAL = timedelta(seconds=60)
"""Longest usual time between two runs of the relay: cron runs it once a minute."""

MAX_NORMAL_WAIT = timedelta(seconds=60)
"""Time after which a message that no worker has taken is a problem. Usually it takes seconds: see `window`."""


@dataclass(frozen=True)
class Rate:
    """The rows that got an outcome in the last hour. They count in the minute in which their chunk ended."""

    chart: SafeString
    spans: list[tuple[str, str, str]]  # begin and end, rows, and rows per second


def rate() -> Rate:
    """Return how many rows were imported in each minute of the last hour. Runs one query."""
    now = timezone.now()
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)
    rows = F("row_count") - F("rows_before") - F("unprocessed")
    ended = ImportChunk.objects.filter(ended_at__gte=first).annotate(minute=TruncMinute("ended_at"))
    by_minute = dict(ended.order_by().values_list("minute").annotate(total=Sum(rows)))
    minutes = [first + timedelta(minutes=number) for number in range(MINUTES)]
    bars = [by_minute.get(minute, 0) for minute in minutes]
    tooltips = [
        _("%(time)s: %(rows)s rows") % {"time": clock_time(minute)[:5], "rows": grouped(count)}
        for minute, count in zip(minutes, bars, strict=True)
    ]
    label = _("%(rows)s rows in the last hour, up to %(most)s in one minute") % {
        "rows": grouped(sum(bars)),
        "most": grouped(max(bars)),
    }
    spans = [span(minutes[begin], bars[begin : begin + SPAN_MINUTES]) for begin in range(0, MINUTES, SPAN_MINUTES)]
    return Rate(bar_chart(bars, tooltips, label), spans[::-1])


def span(begin: datetime, rows: list[int]) -> tuple[str, str, str]:
    """Return one line of the table beside the chart."""
    end = begin + timedelta(minutes=len(rows))
    return (
        f"{clock_time(begin)[:5]} - {clock_time(end)[:5]}",
        grouped(sum(rows)),
        number_format(sum(rows) / (60 * len(rows)), 1),
    )


def waiting() -> list[dict[str, Any]]:
    """Return the submitters with the most rows that wait for a worker. Runs one query.

    The rows of paused imports do not wait for a worker.
    """
    name = f"job__submitter__{get_user_model().USERNAME_FIELD}"
    chunks = ImportChunk.objects.filter(
        # The condition on the jobs lets PostgreSQL start from the index of open jobs.
        job__in=ImportJob.objects.open().exclude(status=JobStatus.PAUSED),
        status__in=[ChunkStatus.PENDING, ChunkStatus.RESERVED, ChunkStatus.QUEUED],
    )
    groups = (
        chunks.order_by()
        .values("job__submitter", submitter=F(name))
        .annotate(rows=Sum(F("row_count") - DONE), imports=Count("job", distinct=True))
    )
    return [{**group, "rows": grouped(group["rows"])} for group in groups.order_by("-rows")[:SHOWN]]


@dataclass(frozen=True)
class Line:
    """A chunk of a job in one of the lists."""

    chunk: ImportChunk
    state: str
    is_alarming: bool = False
    since: str = ""  # how long ago the last heartbeat came, or the message was sent
    is_overdue: bool = False  # the relay should have sent the chunk of a lost worker already


def in_flight() -> tuple[list[Line], dict[str, int]]:
    """Return the chunks that workers have, those of lost workers first, and how many there are: `all` and `lost`.

    Runs two queries.
    """
    claimed = ImportChunk.objects.filter(status=ChunkStatus.PROCESSING)
    is_lost = Case(When(IS_LOST, then=True), default=False, output_field=BooleanField())
    chunks = claimed.annotate(is_lost=is_lost).select_related("job").order_by("-is_lost", "heartbeat_at")
    now = timezone.now()
    shown: Any = chunks[:SHOWN]  # with the annotation `is_lost`
    lines = [describe_claimed(chunk, now, is_lost=chunk.is_lost) for chunk in shown]
    return lines, claimed.aggregate(all=Count("pk"), lost=Count("pk", filter=IS_LOST))


def describe_claimed(chunk: ImportChunk, now: datetime, *, is_lost: bool) -> Line:
    """Return what the worker of a chunk does, or when another one continues."""
    is_overdue = False
    if not is_lost:
        state = _("being cancelled") if chunk.job.is_being_cancelled else _("works")
    elif chunk.job.is_paused or not chunk.resumes_at:
        state = _("worker lost, waits for the next one")
    else:
        is_overdue = now > chunk.resumes_at + RELAY_INTERVAL
        text = _("worker lost, overdue since %(time)s") if is_overdue else _("worker lost, resumes at %(time)s")
        state = text % {"time": clock_time(chunk.resumes_at)}
    return Line(chunk, state, is_lost, ago(now, chunk.heartbeat_at), is_overdue)


def oldest_queued() -> Line | None:
    """Return the chunk that has been waiting for a worker for the longest time since its message. Runs one query.

    Messages of paused jobs and of chunks whose last delivery failed are delayed on purpose, so they do not count.
    """
    sent = ImportChunk.objects.filter(status__in=[ChunkStatus.RESERVED, ChunkStatus.QUEUED], failed_deliveries=0)
    chunk = sent.exclude(job__status=JobStatus.PAUSED).select_related("job").order_by("queued_at").first()
    if chunk is None or chunk.queued_at is None:
        return None
    now = timezone.now()
    is_late = now - chunk.queued_at > MAX_NORMAL_WAIT
    return Line(chunk, str(ChunkStatus(chunk.status).label), is_late, ago(now, chunk.queued_at))


def dead() -> tuple[list[ImportJob], int]:
    """Return the newest jobs with dead chunks, each with `dead_chunks`, and how many there are. Runs two queries."""
    chunks = ImportChunk.objects.dead().order_by()
    jobs = ImportJob.objects.filter(pk__in=chunks.values("job")).select_related("submitter")
    counted = jobs.annotate(dead_chunks=Count("chunks", filter=Q(chunks__status=ChunkStatus.DEAD)))
    return list(counted.order_by("-created_at")[:SHOWN]), chunks.count()


def paused() -> tuple[list[tuple[ImportJob, str, _StrPromise | str]], int]:
    """Return the paused jobs, how long each is paused, and what staff can do; and the number of all paused jobs.

    The longest pause is the first one. Runs two queries.
    """
    jobs = ImportJob.objects.filter(status=JobStatus.PAUSED).select_related("submitter").order_by("paused_at")
    now = timezone.now()
    lines = [(job, ago(now, job.paused_at), PAUSES.get(job.pause_code, "")) for job in jobs[:SHOWN]]
    return lines, jobs.count()


def ago(now: datetime, moment: datetime | None) -> str:
    """Return how long ago something happened; "" if it never did."""
    return duration(max(0.0, (now - moment).total_seconds())) if moment else ""
