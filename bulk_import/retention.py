"""What is kept of a job that has ended, and for how long: then it is deleted here.

| kept | for | without it |
| --- | --- | --- |
| payload | PAYLOAD_RETENTION_DAYS | it cannot run again |
| failures | FAILURES_RETENTION_DAYS | they cannot be downloaded; it cannot run again |
| ledger | LEDGER_RETENTION_DAYS | it must not run again: every row would be created twice |
| the job: counts, problems, events, Idempotency-Key | JOB_RETENTION_DAYS | |

The job is told first that something of it has expired (`ImportJob.expire`), under its lock: from then on nothing
reopens it. Then it is deleted, objects before records, and then the job is told that nothing is left to be done. So a
run that was killed is gone on with by the next, and two at the same time are harmless.

An object that no job names is left to the bucket's lifecycle rule; see docs/guarantees.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from bulk_import.exceptions import StorageUnavailable
from bulk_import.models import RETAINED_DATA, ImportJob, database
from bulk_import.reports.job import days_kept
from bulk_import.storage.failures import delete_failures, stored_failures
from bulk_import.storage.payloads import delete_payload
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

logger = logging.getLogger(__name__)

BATCH_JOBS = 100
"""Read at a time."""

BATCH_RECORDS = 1000
"""Of the ledger, deleted in one statement and one transaction: some milliseconds."""

MAX_POSTPONED_IN_A_ROW = 5
"""Jobs whose objects S3 does not delete: one is passed over, after so many S3 is taken to be away."""


@dataclass
class Deleted:
    """How much a run deleted, or would delete."""

    payloads: int = 0
    failure_files: int = 0
    ledger_records: int = 0
    jobs: int = 0
    postponed: int = 0  # jobs that S3 was not there for; the next run goes on with them


def expire_jobs(*, dry_run: bool = False) -> Deleted:
    """Delete what has expired, job by job, in constant memory; with `dry_run` only count it."""
    days, now = days_kept(), timezone.now()
    deadlines = {kind: now - timedelta(days=count) for kind, count in days.items()}
    deleted, in_a_row = Deleted(), 0
    handle_job = _count_job if dry_run else _expire_job
    for job in _due_jobs(deadlines):
        due = {kind for kind, deadline in deadlines.items() if job.finished_at and job.finished_at < deadline}
        try:
            handle_job(job, due, deleted)
        except StorageUnavailable as error:
            with log_context(job_id=str(job.pk)):
                logger.error("Job %s is not expired yet. %s", job.pk, error)  # noqa: TRY400 - the trace would say no more
            deleted.postponed += 1
            in_a_row += 1
            if in_a_row == MAX_POSTPONED_IN_A_ROW:
                break
        else:
            in_a_row = 0
    return deleted


def _due_jobs(deadlines: dict[str, datetime]) -> Iterator[ImportJob]:
    """The jobs of which something has expired, or is still to be deleted, or that are to be deleted themselves."""
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
    """Delete what is due, and what a run before did not come to.

    Raises StorageUnavailable; then the job is the next run's to go on with.
    """
    if not _give_up(job, due & set(RETAINED_DATA)):
        return
    if "payload" in job.expired:
        delete_payload(job)
        deleted.payloads += 1
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


def _count_job(job: ImportJob, due: set[str], deleted: Deleted) -> None:
    """What `_expire_job` would delete. Raises StorageUnavailable."""
    kinds = due | job.expired.keys()
    deleted.payloads += "payload" in kinds
    if "failures" in kinds:
        deleted.failure_files += sum(map(len, stored_failures(job)))
    if "ledger" in kinds:
        deleted.ledger_records += job.imported_rows.count()
    deleted.jobs += "job" in due


def _give_up(job: ImportJob, kinds: set[str]) -> bool:
    try:
        with transaction.atomic(using=database(), durable=True):
            return job.expire(kinds)
    except ImportJob.DoesNotExist:  # deleted by another run
        return False
