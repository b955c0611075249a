"""Reads the jobs that contend for the places of a window. Every upload and every chunk that ends needs them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, Max, OuterRef, Q
from django.db.models.functions import Now

from bulk_import.conf import conf
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.fair_choice import Contender
from bulk_import.models.job import ImportJob
from bulk_import.models.kept_query import Parameter, kept_query
from bulk_import.models.status import OUTSTANDING_CHUNK_STATUSES, ChunkStatus, JobStatus
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from collections.abc import Iterator

RECENT = timedelta(minutes=5)
"""How long we remember who got a place. A submitter that got none for this time comes first if there is a tie."""

ROWS_PER_SECOND = 100
"""Usual rate of one worker. It only decides how much later than a large job a small one may come to overtake it."""

MAX_OUTSTANDING_WINDOWS = 2
"""Most chunks of a job that have a message, as a multiple of the window.

A chunk whose delivery failed has no place, so that it does not block the others. Without this limit, all chunks of a
job could fail one after the other, for example while S3 is unavailable. Their messages would all come back at the same
time, and other imports would wait behind them.
"""


TARGET = Parameter("target", ImportJob._meta.get_field("target"))


def read_contenders(target: str) -> Iterator[Contender]:
    """Yield the target's jobs that have chunks in flight, got a place lately, or wait for one. Runs two queries.

    Yields nothing if no job waits. That is frequent, and then it runs only the first query.
    """
    jobs = _waiting_jobs(target=target)
    if not jobs:
        return
    window = conf().chunks_in_flight
    activity = {pk: numbers for pk, *numbers in _activity(target=target)}
    for pk, submitter_id, created_at, rows, front_at, status, cancelled_at in jobs:
        in_flight, outstanding, served_at, *_known = activity.pop(pk, (0, 0, None))
        # A job that a worker paused keeps one chunk on the queue, whose worker finds out whether rows can be created
        # again. Without it, the job would never resume, and never be given up.
        most = 1 if status == JobStatus.PAUSED else MAX_OUTSTANDING_WINDOWS * window
        yield Contender(
            pk,
            submitter_id,
            created_at.timestamp() + rows / ROWS_PER_SECOND,
            front_at.timestamp() if front_at else 0,
            in_flight,
            served_at.timestamp() if served_at else 0,
            room=most - outstanding,
            is_cancelled=cancelled_at is not None,
        )
    for pk, (in_flight, _outstanding, served_at, submitter_id, cancelled_at) in activity.items():
        served = served_at.timestamp() if served_at else 0
        yield Contender(pk, submitter_id, 0, 0, in_flight, served, is_cancelled=cancelled_at is not None)


@kept_query
def _waiting_jobs() -> Any:
    """Return the open jobs with a pending chunk, without those that staff have paused: they get no place."""
    pending = ImportChunk.objects.filter(job=OuterRef("pk"), status=ChunkStatus.PENDING)
    waiting = ImportJob.objects.open().filter(Exists(pending), target=TARGET).exclude(pause_code=PauseCode.STAFF)
    return waiting.order_by().values_list(
        "pk", "submitter_id", "created_at", "rows", "front_at", "status", "cancel_requested_at"
    )


@kept_query
def _activity() -> Any:
    """Return the jobs with outstanding chunks, or with chunks that got a place lately.

    Each has the number of its chunks that have a place, of its outstanding chunks, and the time of its last place.
    """
    is_outstanding = Q(status__in=OUTSTANDING_CHUNK_STATUSES)
    waits_for_worker = Q(status=ChunkStatus.RESERVED) | Q(status=ChunkStatus.QUEUED, failed_deliveries=0)
    is_leased = Q(status=ChunkStatus.PROCESSING, lease_expires_at__gt=Now())
    has_place = (waits_for_worker | is_leased) & ~Q(job__status=JobStatus.PAUSED)
    chunks = ImportChunk.objects.filter(is_outstanding | Q(queued_at__gt=Now() - RECENT), job__target=TARGET)
    return (
        chunks.order_by()
        .values("job_id")
        .annotate(
            in_flight=Count("pk", filter=has_place),
            outstanding=Count("pk", filter=is_outstanding),
            served_at=Max("queued_at"),
        )
        .values_list("job_id", "in_flight", "outstanding", "served_at", "job__submitter_id", "job__cancel_requested_at")
    )
