"""The circuit breaker: it pauses a job in which nearly every row fails.

Such a job helps nobody. Each row costs the endpoint several tries, and the submitter has to send it again anyway. So
the job is paused until somebody has found the cause and resumes it.

Example: MAX_FAILED_SHARE is 0.9. A job of 100,000 rows has chunks of 200 rows. The first chunk ends with 8 rows
created and 192 failed, which is a share of 0.96, so the job is paused. The workers of the other chunks in flight stop
as well. Workers report their rows with each release and finish, so some rows of these chunks were tried in vain too.

Only rows with the outcome `failed` count: the endpoint gave no usable response to them. A `rejected` row got a response
that says what to correct, so a file of many wrong rows runs to its end. An endpoint that does not respond at all
fails no row: the worker pauses the job, and resumes it by itself (see `pause`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from bulk_import.conf import conf
from bulk_import.models.event import EventKind
from bulk_import.models.pause import COUNTS_SINCE_RESUME, PAUSE_COLUMNS, PausableJob
from bulk_import.models.status import JobStatus
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from bulk_import.models.job import ImportJob

MIN_ROWS = 100
"""Number of rows that must have an outcome before their share of failed rows says anything about the others."""


class BreakableJob(PausableJob):
    """Abstract base model of a job with a circuit breaker."""

    class Meta(PausableJob.Meta):
        abstract = True

    def count_tried_rows(self, tried: int, failed: int) -> bool:
        """Add the outcomes of one delivery, and pause the job if too many rows failed since the last pause ended.

        `tried` is the number of rows that got an outcome, and `failed` is how many of them failed. The job must be
        `locked`, in the transaction of the report. Returns whether the job was paused now, which happens at most once
        for each job: the person who resumes it has decided to try all rows. Has no effect on a job that has ended, that
        is being cancelled, or that is paused.
        """
        if self.is_terminal or self.is_paused or self.cancel_requested_at:
            return False
        self.tried_since_resume += tried
        self.failed_since_resume += failed
        self.save(update_fields=COUNTS_SINCE_RESUME)
        job: Any = self  # an ImportJob, which has the events
        if not too_many_rows_failed(job):
            return False
        self.status, self.pause_code = JobStatus.PAUSED, PauseCode.MOST_ROWS_FAILED
        self.paused_at, self.paused_until = Now(), None
        self.save(update_fields=PAUSE_COLUMNS)
        job.record(EventKind.PAUSED, note=PauseCode.MOST_ROWS_FAILED, mail_after=timedelta(0))
        return True


def too_many_rows_failed(job: ImportJob) -> bool:
    """Return whether the circuit breaker has to pause the job, which it has never done before."""
    max_share = conf().max_failed_share
    if max_share is None or job.tried_since_resume < MIN_ROWS:
        return False
    if job.failed_since_resume <= max_share * job.tried_since_resume:
        return False
    return not job.events.filter(kind=EventKind.PAUSED, note=PauseCode.MOST_ROWS_FAILED).exists()
