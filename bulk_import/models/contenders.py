"""Reads the jobs that contend for the places of a window. Every upload and every chunk that ends needs them.

So the SQL of both queries is kept, as in `row`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connections

from bulk_import.conf import conf
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database
from bulk_import.models.fair_choice import Contender
from bulk_import.models.job import ImportJob
from bulk_import.models.status import OUTSTANDING_CHUNK_STATUSES, TERMINAL_STATUSES, ChunkStatus, JobStatus
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


def read_contenders(target: str) -> Iterator[Contender]:
    """Yield the target's jobs that have chunks in flight, got a place lately, or wait for one. Runs two queries.

    Yields nothing if no job waits. That is frequent, and then it runs only the first query.
    """
    jobs = _fetch(_waiting_query(database()), target)
    if not jobs:
        return
    window = conf().chunks_in_flight
    activity = {pk: numbers for pk, *numbers in _fetch(_activity_query(database()), target)}
    for pk, submitter_id, is_cancelled, created_at, rows, front_at, status in jobs:
        in_flight, outstanding, served_at, *_known = activity.pop(pk, (0, 0, None))
        # A job that a worker paused keeps one chunk on the queue, whose worker finds out whether rows can be created
        # again. Without it, the job would never resume, and never be given up.
        most = 1 if status == JobStatus.PAUSED else MAX_OUTSTANDING_WINDOWS * window
        yield Contender(
            UUID(str(pk)),  # SQLite has no UUID type and returns text
            submitter_id,
            _unix_time(created_at) + rows / ROWS_PER_SECOND,
            _unix_time(front_at),
            in_flight,
            _unix_time(served_at),
            room=most - outstanding,
            is_cancelled=bool(is_cancelled),
        )
    for pk, (in_flight, _outstanding, served_at, submitter_id, is_cancelled) in activity.items():
        served = _unix_time(served_at)
        yield Contender(UUID(str(pk)), submitter_id, 0, 0, in_flight, served, is_cancelled=bool(is_cancelled))


def _fetch(sql: str, target: str) -> list[Any]:
    with connections[database()].cursor() as cursor:
        cursor.execute(sql, [target])
        rows: list[Any] = cursor.fetchall()
    return rows


def _unix_time(value: datetime | str | None) -> float:
    """Return a time as a number; 0 for None. SQLite has no type for times, so theirs is text or has no time zone."""
    if value is None:
        return 0
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


@cache
def _waiting_query(using: str) -> str:
    """Return the SQL that selects the open jobs with a pending chunk, without those that staff have paused."""
    quote = connections[using].ops.quote_name
    is_open = f"status NOT IN ({_texts(TERMINAL_STATUSES)})"
    return (
        "SELECT id, submitter_id, cancel_requested_at IS NOT NULL, created_at, rows, front_at, status"  # noqa: S608 - our own names
        f" FROM {quote(ImportJob._meta.db_table)} job"
        f" WHERE target = %s AND {is_open} AND pause_code <> '{PauseCode.STAFF.value}'"
        f" AND EXISTS (SELECT 1 FROM {quote(ImportChunk._meta.db_table)} chunk"
        f" WHERE chunk.job_id = job.id AND chunk.status = '{ChunkStatus.PENDING.value}')"
    )


@cache
def _activity_query(using: str) -> str:
    """Return the SQL that selects the jobs with outstanding chunks, or with chunks that got a place lately.

    Each has the number of its chunks that have a place, of its outstanding chunks, and the time of its last place.
    """
    quote = connections[using].ops.quote_name
    # As Django writes `Now()` and `Now() - RECENT`. SQLite has no type for times and compares them as text.
    if connections[using].vendor == "postgresql":
        now, lately = "STATEMENT_TIMESTAMP()", f"STATEMENT_TIMESTAMP() - INTERVAL '{RECENT.total_seconds()} seconds'"
    else:
        now = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f', 'NOW')"
        lately = f"django_format_dtdelta('-', {now}, {RECENT // timedelta(microseconds=1)})"
    is_outstanding = f"chunk.status IN ({_texts(OUTSTANDING_CHUNK_STATUSES)})"
    has_place = (
        f"(chunk.status = '{ChunkStatus.RESERVED.value}'"
        f" OR chunk.status = '{ChunkStatus.QUEUED.value}' AND chunk.failed_deliveries = 0"
        f" OR chunk.status = '{ChunkStatus.PROCESSING.value}' AND chunk.lease_expires_at > {now})"
        f" AND job.status <> '{JobStatus.PAUSED.value}'"
    )
    return (
        f"SELECT chunk.job_id, COUNT(CASE WHEN {has_place} THEN 1 END), COUNT(CASE WHEN {is_outstanding} THEN 1 END),"  # noqa: S608 - our own names
        " MAX(chunk.queued_at), job.submitter_id, job.cancel_requested_at IS NOT NULL"
        f" FROM {quote(ImportChunk._meta.db_table)} chunk"
        f" JOIN {quote(ImportJob._meta.db_table)} job ON job.id = chunk.job_id"
        f" WHERE job.target = %s AND ({is_outstanding} OR chunk.queued_at > {lately})"
        " GROUP BY chunk.job_id, job.submitter_id, job.cancel_requested_at"
    )


def _texts(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
