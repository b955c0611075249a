"""Deletes the data of ended jobs when its retention period is over.

| kept | for | without it |
| --- | --- | --- |
| payload | PAYLOAD_RETENTION_DAYS | the job cannot run again |
| failures | FAILURES_RETENTION_DAYS | they cannot be downloaded, and the job cannot run again |
| ledger | LEDGER_RETENTION_DAYS | the job must not run again, because it would create every row twice |
| the job: counts, problems, events, Idempotency-Key | JOB_RETENTION_DAYS | |

Expiry has two phases. First, `ImportJob.expire` marks the job under its lock: the job records what has expired, and
from then on it refuses to run again. Second, the data is deleted: the objects in S3, then the ledger records, and
finally `ImportJob.mark_deleted` clears the mark. If a run is killed, the next run finds the mark and resumes it. Two
runs at the same time are harmless, because deleting something twice has no effect.

The lifecycle rule of each bucket deletes objects that belong to no job; see docs/guarantees.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from bulk_import.exceptions import StorageUnavailable
from bulk_import.models import RETAINED_DATA, ImportJob, durable_transaction
from bulk_import.reports.job import days_kept
from bulk_import.storage.failures import delete_failures, stored_failures
from bulk_import.storage.payloads import delete_payload
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

logger = logging.getLogger(__name__)

BATCH_JOBS = 100
"""Number of jobs that are read from the database at a time."""

BATCH_RECORDS = 1000
"""Number of ledger records that one statement deletes. Each statement is a transaction of its own and takes a few
milliseconds, so other transactions do not wait long for it."""

MAX_POSTPONED_IN_A_ROW = 5
"""Number of consecutive jobs that fail in S3 before a run stops. One failing job may have a problem of its own, such as
a deleted bucket, and is skipped. After several in a row, S3 itself is probably unavailable."""


@dataclass
class Deleted:
    """How much a run has deleted, or would delete."""

    payloads: int = 0
    failure_files: int = 0
    ledger_records: int = 0
    jobs: int = 0
    postponed: int = 0  # jobs that failed in S3; the next run resumes them


def expire_jobs(*, dry_run: bool = False) -> Deleted:
    """Delete what has expired, one job at a time, in constant memory. With `dry_run`, only count it."""
    days, now = days_kept(), timezone.now()
    deadlines = {kind: now - timedelta(days=count) for kind, count in days.items()}
    deleted, failures_in_a_row = Deleted(), 0
    handle_job = _count_job if dry_run else _expire_job
    for job in _due_jobs(deadlines):
        due = {kind for kind, deadline in deadlines.items() if job.finished_at and job.finished_at < deadline}
        try:
            handle_job(job, due, deleted)
        except StorageUnavailable as error:
            with log_context(job_id=str(job.pk)):
                logger.error("Job %s could not be expired: %s", job.pk, error)  # noqa: TRY400 - no need for a traceback
            deleted.postponed += 1
            failures_in_a_row += 1
            if failures_in_a_row == MAX_POSTPONED_IN_A_ROW:
                break
        else:
            failures_in_a_row = 0
    return deleted


def _due_jobs(deadlines: dict[str, datetime]) -> Iterator[ImportJob]:
    """Yield the jobs that have something to delete: because it has expired now, or because a run was interrupted."""
    due = Q(is_expiring=True)
    for kind, deadline in deadlines.items():
        is_kept = Q() if kind == "job" else Q((f"{kind}_expired_at", None))
        due |= is_kept & Q(finished_at__lt=deadline)
    jobs = ImportJob.objects.filter(due).defer("problems").order_by("pk")
    last = UUID(int=0)
    while batch := list(jobs.filter(pk__gt=last)[:BATCH_JOBS]):
        yield from batch
        last = batch[-1].pk


def _expire_job(job: ImportJob, due: set[str], deleted: Deleted) -> None:
    """Delete what is due, and what an interrupted run has left. Add the numbers to `deleted`.

    Raises StorageUnavailable. The job stays marked, and the next run resumes it.
    """
    if not _mark_expired(job, due & set(RETAINED_DATA)):
        return
    if "payload" in job.expired:
        if not _is_payload_needed(job):
            delete_payload(job)
            deleted.payloads += 1
        job.chunks.update(row_hashes=b"")
    if "failures" in job.expired:
        for keys in stored_failures(job):
            delete_failures(keys)
            deleted.failure_files += len(keys)
    if "ledger" in job.expired:
        for first in range(0, job.rows, BATCH_RECORDS):
            records = job.imported_rows.filter(index__range=(first, first + BATCH_RECORDS - 1))
            deleted.ledger_records += records.delete()[0]
    job.mark_deleted()
    if "job" in due:
        ImportJob.objects.filter(pk=job.pk, is_expiring=False).delete()
        deleted.jobs += 1


def _is_payload_needed(job: ImportJob) -> bool:
    """Return whether another job needs the payload of this job: a rehearsal and the import of its rows share one.

    Both mark the payload as expired before they ask. So the one that asks last deletes it.
    """
    others = ImportJob.objects.filter(Q(runs=job.pk) | Q(pk=job.runs_id), payload_key=job.payload_key)
    return others.filter(payload_expired_at=None).exists()


def _count_job(job: ImportJob, due: set[str], deleted: Deleted) -> None:
    """Count what `_expire_job` would delete, and add the numbers to `deleted`. Raises StorageUnavailable."""
    kinds = due | job.expired.keys()
    deleted.payloads += "payload" in kinds and not _is_payload_needed(job)
    if "failures" in kinds:
        deleted.failure_files += sum(map(len, stored_failures(job)))
    if "ledger" in kinds:
        deleted.ledger_records += job.imported_rows.count()
    deleted.jobs += "job" in due


def _mark_expired(job: ImportJob, kinds: set[str]) -> bool:
    """Mark these kinds as expired. Return whether everything that the job lists as expired may be deleted now."""
    try:
        with durable_transaction():
            return job.expire(kinds)
    except ImportJob.DoesNotExist:  # another run has deleted the job
        return False
