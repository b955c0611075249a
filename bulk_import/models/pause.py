"""Pauses of a job: who may begin one, who may end one, and which claim tries again in between.

A worker pauses a job when no row can be created, for example because the endpoint does not respond. After the pause one
claim is admitted as a probe (`check_may_claim`). The first row that is created ends the pause (`mark_progress`). Staff
can pause a job as well; then only staff can resume it. The circuit breaker (see `circuit_breaker`) pauses a job in
which nearly every row fails; then staff or the submitter can resume it.

This is a module of its own because a pause is a small state machine within the job: it has its own columns and timing,
and the other state changes only clear them.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F
from django.db.models.functions import Now

from bulk_import.exceptions import JobPaused
from bulk_import.models.event import EventKind
from bulk_import.models.job_columns import JobColumns
from bulk_import.models.status import PAUSES_UNTIL_RESUMED, JobStatus
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from bulk_import.models.job import ImportJob

MAX_PAUSE_SECONDS = 300
"""Longest pause before the next attempt. It must stay below 900 s, the longest delay of an SQS message."""

PAUSE_MAIL_AFTER = timedelta(minutes=10)
"""How long a pause must last before the submitter gets an email. Most pauses end sooner without any action."""

COUNTS_SINCE_RESUME = ("tried_since_resume", "failed_since_resume")
"""The columns that the circuit breaker counts in. They start from zero when a pause ends."""

PAUSE_COLUMNS = ("status", "pause_code", "paused_at", "paused_until", *COUNTS_SINCE_RESUME)
"""The columns that change when a pause begins or ends."""


class PausableJob(JobColumns):
    """Abstract base model of a job: the methods that begin and end its pauses."""

    class Meta(JobColumns.Meta):
        abstract = True

    def pause_by_worker(self, code: PauseCode, asked_seconds: int, first_seconds: int) -> int:
        """Pause the job because no row can be created now. Call inside a transaction.

        The first pause lasts `first_seconds`. If the job still cannot create rows after it, the next one is as long as
        the job has been paused in total, so that the attempts become rarer. A pause is at least `asked_seconds` long,
        which is what the endpoint asked for, and at most MAX_PAUSE_SECONDS.

        Returns the seconds until the next attempt. Has no effect on a job that has ended, that is being cancelled, or
        that is paused until somebody resumes it.
        """
        job = type(self).objects.locked(self.pk)
        if job.is_paused_until_resumed:
            return MAX_PAUSE_SECONDS
        # A worker sends the code STAFF after it has learned from a heartbeat that the job is paused until somebody
        # resumes it. If it is not paused so now, it was resumed since then, and the worker must not pause it again.
        if job.is_terminal or job.cancel_requested_at or code in PAUSES_UNTIL_RESUMED:
            return 0
        lasted = job.paused_for or timedelta(0)
        seconds = math.ceil(min(max(first_seconds, lasted.total_seconds(), asked_seconds), MAX_PAUSE_SECONDS))
        if job.status != JobStatus.PAUSED:
            job.status = JobStatus.PAUSED
            job.paused_at = Now()
            job.record(EventKind.PAUSED, note=code, mail_after=PAUSE_MAIL_AFTER)
        job.pause_code = code
        job.paused_until = Now() + timedelta(seconds=seconds)
        job.save(update_fields=PAUSE_COLUMNS)
        return seconds

    def pause_by_staff(self, actor: Any) -> bool:
        """Pause the job until staff resume it, and return whether this changed anything. Call inside a transaction.

        Running workers learn of the pause from the response to their next heartbeat.
        """
        job = type(self).objects.locked(self.pk)
        if not job.can_be_cancelled or job.is_paused_by_staff:
            return False
        job.status, job.pause_code = JobStatus.PAUSED, PauseCode.STAFF
        job.paused_at, job.paused_until = job.paused_at or Now(), None
        job.save(update_fields=PAUSE_COLUMNS)
        job.cancel_pending_mail(EventKind.PAUSED)
        job.record(EventKind.PAUSED, note=PauseCode.STAFF, actor=actor)
        return True

    def resume_by_staff(self, actor: Any) -> bool:
        """End a pause, no matter who began it, and return whether this changed anything.

        Call inside a transaction. Afterwards, send the messages of the chunks again (`return_to_pending`), because the
        workers have delayed the existing messages until the end of the pause.
        """
        job = type(self).objects.locked(self.pk)
        if job.is_paused:
            end_pause(job, actor)
            return True
        return False

    def resume_by_submitter(self, actor: Any) -> bool:
        """End a pause by the circuit breaker, and return whether this changed anything. See `resume_by_staff`."""
        job = type(self).objects.locked(self.pk)
        if job.can_be_resumed:
            end_pause(job, actor)
            return True
        return False

    def has_been_paused_for(self, duration: timedelta) -> bool:
        """Return whether a worker or the circuit breaker paused the job, and the pause has lasted for longer than this.

        A pause by staff does not count, because it lasts for as long as they want.
        """
        if not self.is_paused or self.is_paused_by_staff:
            return False
        return type(self).objects.filter(pk=self.pk, paused_at__lt=Now() - duration).exists()

    def clear_pause(self) -> None:
        """Reset the columns that describe a pause. Does not change the status, and does not save the job."""
        self.pause_code, self.paused_at, self.paused_until = "", None, None
        self.tried_since_resume = self.failed_since_resume = 0

    def check_may_claim(self, probe_seconds: int) -> None:
        """Raise JobPaused if the job is paused, except for one claim as a probe when the pause is over.

        The probe shows whether rows can be created again: the first row that it creates ends the pause. The other
        claims have to wait for `probe_seconds` more. If the worker of the probe dies, the first claim after that time
        becomes the next probe.
        """
        if not self.is_paused:
            return
        paused = type(self).objects.filter(pk=self.pk, status=JobStatus.PAUSED)
        # One UPDATE checks the time and moves it, so only one of several simultaneous claims finds the pause over. For
        # example, six claims arrive when a pause ends: one changes the row and is the probe, the other five wait for
        # its transaction, then find `paused_until` in the future and change nothing.
        is_over = paused.filter(paused_until__lte=Now())
        if is_over.update(paused_until=Now() + timedelta(seconds=probe_seconds)):
            return
        pause = paused.annotate(left=F("paused_until") - Now()).values("pause_code", "left").first()
        if pause is None:
            return
        if pause["pause_code"] in PAUSES_UNTIL_RESUMED:
            raise JobPaused(MAX_PAUSE_SECONDS)
        raise JobPaused(max(1, math.ceil(pause["left"].total_seconds())))

    def mark_progress(self) -> None:
        """End a pause that a worker began, because a row was created. Call inside a transaction.

        The chunks without a worker then take their turn again, with a new message. Has no effect on a job that is not
        paused, or that is paused until somebody resumes it.
        """
        # Check the status before locking the job. This method runs with almost every heartbeat, and the job is almost
        # never paused. If every heartbeat took the lock, all workers of the job would wait for each other here.
        if not self.is_paused:
            return
        job = type(self).objects.locked(self.pk)
        if job.is_paused and not job.is_paused_until_resumed:
            end_pause(job)
            # The messages of the other chunks are delayed until the next attempt. Meanwhile, they must not occupy the
            # places that other imports could use. This takes locks of chunks after that of the job, but it skips chunks
            # that are locked, so it waits for nobody.
            job.chunks.return_to_pending()


def end_pause(job: ImportJob, actor: Any = None) -> None:
    """End the pause of a job that is paused and `locked`. `actor` is the user who resumes it, or None for a worker."""
    job.status = JobStatus.PROCESSING if job.started_at else JobStatus.PENDING
    job.clear_pause()
    job.save(update_fields=PAUSE_COLUMNS)
    job.cancel_pending_mail(EventKind.PAUSED)
    job.record(EventKind.RESUMED, actor=actor)
