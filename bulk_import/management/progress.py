"""Follows a job for a management command, and writes its progress as text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections

from bulk_import.models import ImportJob
from bulk_import.reports.job import eta_seconds, rows_per_second
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

POLL_SECONDS = 1
"""Pause between two reads of the job."""

BAR_CHARACTERS = 30
"""Width of the progress bar."""


def read_job(job_id: UUID, **conditions: Any) -> ImportJob:
    """Return the job as it is now. Raises ImportJob.DoesNotExist, also if it does not meet the conditions."""
    job: ImportJob = ImportJob.objects.for_reports().get(pk=job_id, **conditions)
    return job


def follow(job_id: UUID) -> Iterator[ImportJob]:
    """Yield the job every POLL_SECONDS until it has ended. The last job that is yielded has ended."""
    while True:
        job = read_job(job_id)
        yield job
        if job.is_terminal:
            return
        # Django replaces broken connections between requests. A command has no requests, so it does this itself.
        close_old_connections()
        time.sleep(POLL_SECONDS)


def progress_line(job: ImportJob) -> str:
    """Return the status, a bar, the rows by outcome, the rate and the remaining time in one line."""
    bar = "#" * (BAR_CHARACTERS * job.finished_rows // job.rows)
    outcomes = ", ".join(f"{job.counts[outcome]} {outcome}" for outcome in Outcome if job.counts[outcome])
    parts = [f"{job.status:<12} [{bar:.<{BAR_CHARACTERS}}] {job.finished_rows}/{job.rows}", outcomes]
    if rate := rows_per_second(job):
        parts.append(f"{rate} rows/s")
    if seconds := eta_seconds(job):
        parts.append(f"{seconds} s left")
    return "  ".join(filter(None, parts))
