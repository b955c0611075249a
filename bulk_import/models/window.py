"""The window: how many chunks of a target are in flight, and which pending chunk gets the next place.

At most CHUNKS_IN_FLIGHT chunks of a target have a place at the same time. The other chunks of all accepted imports are
pending: they have no message yet. Whenever a place becomes free, `reserve_chunks` gives it to the job whose turn it is
(see `fair_choice`). So a new import waits for a few chunks, however many rows the imports before it have, and a cancel
or a pause finds only a few messages on the queue.

A chunk has a place

- from its reservation until its worker claims it, unless its last delivery failed. The message of such a chunk may be
  delayed for minutes, and meanwhile other imports can use the place.
- while a worker has a valid lease on it.

Chunks of paused jobs have no place. When such a job resumes, its chunks without a worker take their turn again, and
those with a worker count again. So there may be more chunks in flight than the window allows, as when a worker claims a
chunk that had no place. No place is given away until there are fewer again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING

from django.db import connections
from django.db.models.functions import Now

from bulk_import.conf import conf
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.chunk_columns import LOST_WORKER_DELAY
from bulk_import.models.contenders import read_contenders
from bulk_import.models.database import database
from bulk_import.models.fair_choice import Turns, count_imports_ahead
from bulk_import.models.job import ImportJob
from bulk_import.models.status import ChunkStatus, JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

logger = logging.getLogger(__name__)

LOCK_SECONDS = 2
"""Longest wait for another process that reserves chunks, which takes milliseconds. If that process hangs, the chunks
stay pending until the next call or the relay's sweep, and the caller does not hang as well."""

LOCK_POLL_SECONDS = 0.02
"""Pause between two attempts to get the lock."""


def reserve_chunks(target: str, new: ImportJob | None = None) -> list[UUID]:
    """Give the free places in the target's window to pending chunks, and return the IDs of these chunks.

    Also sets `imports_ahead` of the job `new`, as `note_imports_ahead` would, because all jobs are known here.

    Call it at the end of a transaction, and send the messages after the commit: nothing else may wait for the window's
    lock for longer than necessary.
    """
    # The lock makes the processes that reserve chunks take turns. Without it, two of them would count the same free
    # place and fill it twice. It is taken before anything is read, so the second one sees what the first one committed.
    #
    # This cannot deadlock. Whoever has the lock waits for no other lock: chunks that are locked are skipped, and rows
    # of jobs are not locked at all.
    if not _lock_window(target):
        logger.warning("Another process is reserving chunks of %s; the relay reserves the rest later", target)
        return []
    jobs = list(read_contenders(target))
    free = conf().chunks_in_flight - sum(job.in_flight for job in jobs)
    reserved: list[UUID] = []
    turns = Turns(jobs)
    pending: dict[UUID, list[UUID]] = {}
    while len(reserved) < free and (job := turns.next_job()):
        if job.job_id not in pending:
            pending[job.job_id] = _lock_pending_chunks(job.job_id, min(free - len(reserved), job.room))
        if pending[job.job_id]:
            reserved.append(pending[job.job_id].pop())
            turns.serve(job)
        else:
            turns.drop(job)
    if new:
        new.imports_ahead = count_imports_ahead(jobs, {new.pk}).get(new.pk)
    if reserved:
        ImportChunk.objects.filter(pk__in=reserved).update(status=ChunkStatus.RESERVED, queued_at=Now())
    return reserved


def return_lost_chunks(target: str) -> None:
    """Make chunks pending again whose worker was lost, so that they take their turn and get a new message.

    A worker that was killed sends no heartbeats, so its lease ends. SQS would deliver its message again only after the
    visibility timeout of the queue, which is half an hour. That second message is harmless. Call inside a transaction.
    """
    # The jobs are in a subquery and not in a join, because a join would lock the rows of the jobs as well.
    jobs = ImportJob.objects.open().filter(target=target)
    ended_at = Now() - LOST_WORKER_DELAY
    ImportChunk.objects.filter(
        job__in=jobs.values("pk"), status=ChunkStatus.PROCESSING, lease_expires_at__lt=ended_at
    ).return_to_pending()


def note_imports_ahead(jobs: Iterable[ImportJob]) -> None:
    """Set `imports_ahead` of each job: the number of other imports before it if it waits for its turn, else None.

    A job waits for its turn if it is pending and none of its chunks has a place in the window.
    """
    waiting: dict[str, list[ImportJob]] = {}
    for job in jobs:
        job.imports_ahead = None
        if job.status == JobStatus.PENDING:
            waiting.setdefault(job.target, []).append(job)
    for target, jobs_of_target in waiting.items():
        counts = count_imports_ahead(read_contenders(target), {job.pk for job in jobs_of_target})
        for job in jobs_of_target:
            job.imports_ahead = counts.get(job.pk)


def _lock_window(target: str) -> bool:
    """Lock the window until the transaction ends, and return whether that succeeded within LOCK_SECONDS.

    On SQLite no lock is needed, because only one transaction can write at a time.
    """
    connection = connections[database()]
    if connection.vendor != "postgresql":
        return True
    key = int.from_bytes(hashlib.sha256(f"bulk_import window {target}".encode()).digest()[:8], signed=True)
    give_up_at = time.monotonic() + LOCK_SECONDS
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key])
            if cursor.fetchone()[0]:
                return True
            if time.monotonic() > give_up_at:
                return False
            time.sleep(LOCK_POLL_SECONDS)


def _lock_pending_chunks(job_id: UUID, most: int) -> list[UUID]:
    """Lock the first pending chunks of a job, and return their IDs in reverse order.

    A chunk that is locked already is skipped: it is being claimed or reopened.
    """
    chunks = ImportChunk.objects.filter(job_id=job_id, status=ChunkStatus.PENDING).order_by("number")
    locked = chunks.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
    return list(locked[:most])[::-1]
