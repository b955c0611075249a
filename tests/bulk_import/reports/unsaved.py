"""Jobs for tests that need no database."""

from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from bulk_import.models import ImportJob, JobStatus
from bulk_import_wire.contract import Outcome, PauseCode


def unsaved_job(
    status: JobStatus = JobStatus.PROCESSING, rows: int = 1994, seconds: float | None = None, **counts: int
) -> ImportJob:
    """A job as `for_reports` loads it, which was started `seconds` seconds ago; None if it was not started."""
    now = timezone.now()
    job = ImportJob(target="products", status=status, rows=rows, created_at=now)
    job.imports_ahead = None
    job.worker_lost_at = job.lost_lease_ends_at = job.corrected_by = job.undone_by = None
    job.undone_at = job.run_by = None
    job.corrected_rows = 0
    if status == JobStatus.PAUSED:
        job.pause_code, job.paused_at, job.paused_until = PauseCode.ENDPOINT_AWAY, now, now + timedelta(seconds=30)
    if seconds is not None:
        job.started_at = now - timedelta(seconds=seconds)
    for outcome in Outcome:
        setattr(job, f"{outcome}_count", counts.get(outcome, 0))
    return job
