"""Jobs: how they progress and end, and how they are cancelled, retried, redriven and expired.

Each state change is a method that checks whether the change is allowed. A method that checks the status first locks the
job with `ImportJob.objects.locked` and changes that fresh copy, so `self` may be out of date afterwards. Where a method
says "call inside a transaction", the lock would otherwise end before the change is written.

Lock order: a transaction that needs both locks the chunk first and the job second, as a claim does. `reopen` is the one
exception and says why. If one transaction locked the job first and then a chunk that a worker is claiming, each of the
two could wait for the other one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import Expired
from bulk_import.models.chunk_columns import DONE
from bulk_import.models.circuit_breaker import count_tried_rows
from bulk_import.models.delivery import Channel, Delivery
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.existing_objects import existing_count
from bulk_import.models.job_columns import RETAINED_DATA
from bulk_import.models.pause import PAUSE_COLUMNS, PausableJob
from bulk_import.models.sent_again import check_not_sent_again
from bulk_import.models.status import TERMINAL_CHUNK_STATUSES, ChunkStatus, JobStatus, status_at_end
from bulk_import_wire.problems import merge_problems

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import QuerySet

    from bulk_import.models.chunk import ImportChunk


class ImportJob(PausableJob):
    """An import job. Its columns and properties are in `JobColumns`, and its pauses in `PausableJob`."""

    class Meta(PausableJob.Meta):
        abstract = False
        permissions = [("download_rows", _("Can download the rows of import jobs"))]

    # --- progress

    count_tried_rows = count_tried_rows

    def mark_queued(self) -> None:
        """Record that a message of the job is on the queue. Has no effect if a worker has already claimed a chunk."""
        ImportJob.objects.filter(pk=self.pk, status=JobStatus.PENDING).update(status=JobStatus.QUEUED)

    def mark_processing(self) -> None:
        """Record that a worker has claimed a chunk."""
        if self.status == JobStatus.PROCESSING:
            return
        ImportJob.objects.filter(pk=self.pk, status__in=[JobStatus.PENDING, JobStatus.QUEUED]).update(
            status=JobStatus.PROCESSING,
            started_at=Coalesce("started_at", Now()),
        )

    def handle_finished_chunk(self, chunk: ImportChunk) -> ImportJob:
        """Add the problems of a chunk that has ended to the job, and end the job if it was the last open chunk.

        Returns the job as it is now, `locked`.

        Call inside the transaction that ended the chunk. The last two chunks may end at the same moment, and the job's
        lock makes them take turns. The second one then sees that no chunk is open any more, and ends the job.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.is_terminal:
            return job
        job.problems = merge_problems([job.problems, chunk.problems])
        other_dead_chunks = job.chunks.dead().exclude(pk=chunk.pk)
        if chunk.status == ChunkStatus.DEAD and not other_dead_chunks.exists():  # one email for all dead chunks
            job.record(EventKind.DEAD_LETTERED, note=str(chunk.number), mail_after=timedelta(0))
        if not job.chunks.exclude(status__in=TERMINAL_CHUNK_STATUSES).exists():
            # A redrive of a cancelled job runs only the dead chunks. The others keep the rows that the cancel left.
            left_by_cancel = Count("pk", filter=Q(status=ChunkStatus.DONE, unprocessed__gt=0))
            totals = job.chunks.aggregate(left=left_by_cancel, done=Sum(DONE), unprocessed=Sum("unprocessed"))
            is_cancelled = totals.pop("left") > 0 or job.cancel_requested_at is not None
            existing = existing_count(job)
            job.status = status_at_end(rows=job.rows, **totals, existing=existing, is_cancelled=is_cancelled)
            job.finished_at = Now()
            job.clear_pause()
            job.cancel_pending_mail()  # the email about the end replaces every earlier one
            job.record(EventKind.ENDED, note=job.status, mail_after=timedelta(0))
        job.save(update_fields=["problems", "finished_at", *PAUSE_COLUMNS])
        return job

    # --- cancel, retry, redrive

    def cancel(self, actor: Any) -> bool:
        """Stop creating rows, and return whether this changed anything. Call inside a transaction.

        Create calls that are in flight complete. The workers report the remaining rows as unprocessed, and the job ends
        with its last chunk. After the transaction, send the messages of the chunks again (`return_to_pending`): those
        of a paused job may be delayed.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.can_be_cancelled:
            return False
        job.cancel_requested_at = Now()
        if job.status == JobStatus.PAUSED:
            job.status = JobStatus.PROCESSING
        job.clear_pause()
        job.save(update_fields=["cancel_requested_at", *PAUSE_COLUMNS])
        job.cancel_pending_mail(EventKind.PAUSED)
        job.record(EventKind.CANCELLED, actor=actor)
        return True

    def redrive(self, actor: Any = None) -> int:
        """Open the dead chunks and the job again. Returns the number of chunks.

        Idempotent: a second call finds no dead chunk. Rows that were rejected or failed are not tried again. Call
        inside a transaction, and send the messages of the chunks after it. Raises Expired and SentAgain as `reopen`
        does.
        """
        job = ImportJob.objects.locked(self.pk)
        return job.reopen(job.chunks.dead(), EventKind.REDRIVEN, actor)

    def retry(self, actor: Any = None) -> int:
        """Reopen the job and every chunk that has rows without a ledger record. Returns the number of chunks.

        Idempotent: it has no effect on a job that has not ended. Call inside a transaction, and send the messages of
        the chunks after it. Raises Expired and SentAgain as `reopen` does.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.is_terminal:
            return 0
        # `failures_key` names the file with the outcomes of the last run, and the next worker skips the rows in it.
        # Without it, the worker tries every row that is not in the ledger, including those that were rejected before.
        return job.reopen(job.chunks.filter(row_count__gt=DONE), EventKind.RETRIED, actor, failures_key="")

    def reopen(self, chunks: QuerySet[ImportChunk], kind: EventKind, actor: Any, **fields: Any) -> int:
        """Open these chunks and the job again. The job must be `locked`. Returns the number of chunks.

        Raises Expired if some data of the job has expired. Without its ledger the job would create every row a second
        time, and without its payload there is nothing to send. Raises SentAgain if another import has its rows.
        """
        if self.rehearsal and ImportJob.objects.filter(runs=self.pk).exists():
            return 0  # its rows have been imported, and the forecast must stay as it was then
        if self.expired:
            raise Expired(gettext("The rows of this import are no longer kept. Send them as a new import."))
        check_not_sent_again(self)
        # Here the chunks are locked after the job. This cannot deadlock, because these chunks have ended. A call of a
        # worker that locks an ended chunk stops before it locks the job, so it never waits for our lock.
        none: dict[str, Any] = {"rejected": 0, "failed": 0, "unprocessed": 0, "failed_deliveries": 0}
        none |= {"problems": [], "ended_at": None, "retry_at": None, "rows_before": DONE}
        rows = chunks.aggregate(left=Sum(F("row_count") - DONE, default=0))["left"]
        reopened = chunks.update(status=ChunkStatus.PENDING, **none, **fields)
        if reopened:
            if self.is_paused and not self.is_paused_by_staff:  # other chunks are open: they try again as well
                self.status = JobStatus.PROCESSING
                self.clear_pause()
            ended_chunks = self.chunks.filter(status__in=TERMINAL_CHUNK_STATUSES)
            self.problems = merge_problems(ended_chunks.values_list("problems", flat=True))
            if self.is_terminal:
                self.status, self.cancel_requested_at = JobStatus.PENDING, None
                self.clear_pause()
                self.started_at = self.finished_at = self.front_at = None
                self.finished_rows_before = ImportJob.objects.for_reports().get(pk=self.pk).finished_rows
            self.save()
            self.cancel_pending_mail()  # an email that has not been sent yet would report an end that is undone
            self.record(kind, actor=actor, rows=rows)
        return reopened

    def move_to_front(self, actor: Any) -> bool:
        """Give the job the next places in the window, before all others, and return whether this changed anything.

        Call inside a transaction. It stays at the front until it ends or another job is moved in front of it.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.can_be_moved_to_front:
            return False
        ImportJob.objects.filter(pk=self.pk).update(front_at=Now())
        job.record(EventKind.MOVED_TO_FRONT, actor=actor)
        return True

    def move_back(self, actor: Any) -> bool:
        """Let the job take its turn again, and return whether this changed anything. Call inside a transaction."""
        job = ImportJob.objects.locked(self.pk)
        if job.is_terminal or job.front_at is None:
            return False
        ImportJob.objects.filter(pk=self.pk).update(front_at=None)
        job.record(EventKind.MOVED_BACK, actor=actor)
        return True

    # --- retention

    def expire(self, names: Collection[str]) -> bool:
        """Mark data of the job as expired, and return whether all data in `expired` may be deleted now.

        It may not be deleted if the job was opened again since this instance was read. Idempotent. `names` are from
        RETAINED_DATA. Call inside a transaction, and delete only after it has been committed: from then on the job
        refuses to run again, so a retry can never start while its ledger is being deleted.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.is_terminal or job.finished_at != self.finished_at:
            return False
        if new := [f"{name}_expired_at" for name in names if name not in job.expired]:
            ImportJob.objects.filter(pk=self.pk).update(**dict.fromkeys(new, Now()), is_expiring=True)
        self.refresh_from_db(fields=[f"{name}_expired_at" for name in RETAINED_DATA])
        return True

    def mark_deleted(self) -> None:
        """Record that all data in `expired` is deleted. Has no effect if more data has expired in the meantime."""
        kept = {f"{name}_expired_at": None for name in RETAINED_DATA if name not in self.expired}
        ImportJob.objects.filter(pk=self.pk, **kept).update(is_expiring=False)

    # --- events

    def cancel_pending_mail(self, *kinds: EventKind) -> None:
        """Cancel the emails that were not sent yet: those about events of these kinds, or all of them."""
        emails = Delivery.objects.filter(event__job=self, channel=Channel.EMAIL)
        emails.filter(event__kind__in=kinds or EventKind.values).delete()

    def record_origin(self) -> None:
        """Note in the timelines of other jobs that this new job runs them, if they are a rehearsal, or undoes them."""
        undone = None if self.rehearsal else self.undoes
        origins: dict[EventKind, Any] = {EventKind.RUN: self.runs, EventKind.UNDONE: undone}
        for kind, origin in origins.items():
            if origin:
                origin.record(kind, note=str(self.pk), actor=self.submitter)

    def record(
        self, kind: EventKind, *, note: str = "", actor: Any = None, mail_after: timedelta | None = None, rows: int = 0
    ) -> None:
        """Record an event of this job and its deliveries; see `ImportEventManager.record`."""
        ImportEvent.objects.record(self, kind, note=note, actor=actor, mail_after=mail_after, rows=rows)


class ImportsNow(ImportJob):
    """A proxy without a table, so that the admin's index lists the page "Imports now"."""

    class Meta:
        proxy = True
        default_permissions = ()
        verbose_name = _("imports now")
        verbose_name_plural = _("imports now")
