"""Jobs, their chunks, and the ledger. State changes are methods here, each with its guard."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import connections, models, router
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import ChunkClosed, JobPaused, LeaseHeld, LedgerDisagrees, StaleEpoch
from lambda_worker.contract import ChunkMessage, Outcome, PauseCode
from lambda_worker.problems import merge_problems

if TYPE_CHECKING:
    from lambda_worker.contract import Finish

MAX_PAUSE_SECONDS = 300
"""Of one pause; then a claim is let through to see. SQS can delay a message for 900 s."""

PAUSE_MAIL_AFTER = timedelta(minutes=10)
"""A pause that ends sooner is nobody's concern."""

COUNTED_OUTCOMES = tuple(Outcome)


class JobStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # stored, not yet on the queue
    QUEUED = "queued", _("queued")
    PROCESSING = "processing", _("processing")
    PAUSED = "paused", _("paused")
    SUCCEEDED = "succeeded", _("succeeded")
    PARTIALLY_SUCCEEDED = "partially_succeeded", _("partially succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


TERMINAL_STATUSES = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.PARTIALLY_SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED},
)


class ChunkStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # its message is not known to be on the queue
    QUEUED = "queued", _("queued")
    PROCESSING = "processing", _("processing")
    DONE = "done", _("done")
    DEAD = "dead", _("dead")  # its message ran out of deliveries; what was left is unprocessed


ENDED = frozenset({ChunkStatus.DONE, ChunkStatus.DEAD})
"""Every row of the chunk has an outcome."""


class EventKind(models.TextChoices):
    PAUSED = "paused", _("paused")
    RESUMED = "resumed", _("resumed")
    DEAD_LETTERED = "dead_lettered", _("dead-lettered")
    REDRIVEN = "redriven", _("redriven")
    ENDED = "ended", _("ended")


def database() -> str:
    """The alias that this app writes to, and also reads from: a replica may lag behind what was just written."""
    return router.db_for_write(ImportedRow)


class PrimaryManager(models.Manager[Any]):
    """Reads from where it writes."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database())


PAUSE_REASONS = {
    PauseCode.ENDPOINT_AWAY.value: _("the endpoint that creates them does not answer"),
    PauseCode.ENDPOINT_BUSY.value: _("the endpoint that creates them is too busy"),
    PauseCode.FORBIDDEN.value: _("the user who sent them may not create them"),
}


class ImportJobQuerySet(models.QuerySet["ImportJob"]):
    def with_counts(self) -> Self:
        """Annotate created, rejected, failed and unprocessed, summed over the chunks."""
        # A subquery each, so that a page of jobs reads the chunks of that page only.
        chunks = ImportChunk.objects.filter(job=OuterRef("pk")).order_by().values("job")
        sums = {
            f"{outcome}_count": Coalesce(Subquery(chunks.annotate(total=Sum(str(outcome))).values("total")), 0)
            for outcome in COUNTED_OUTCOMES
        }
        return self.annotate(**sums)

    def locked(self, job_id: uuid.UUID) -> ImportJob:
        """The job, against other changes of it until the transaction ends."""
        paused_for = {"paused_for": Now() - F("paused_at")}
        job: ImportJob = self.select_for_update(no_key=True).annotate(**paused_for).get(pk=job_id)
        return job

    def open(self) -> Self:
        """The jobs that have not ended."""
        return self.exclude(status__in=TERMINAL_STATUSES)


class ImportJob(models.Model):
    """One accepted POST to a bulk endpoint. Its id is random (UUID4), so it cannot be guessed."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    target = models.CharField(_("target"), max_length=100)
    submitter = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        # A user can be deleted without asking us; the job then stays, and can no longer act for anybody.
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("submitter"),
    )
    language = models.CharField(_("language"), max_length=20)
    status = models.CharField(_("status"), max_length=20, choices=JobStatus.choices, default=JobStatus.PENDING)
    rows = models.PositiveIntegerField(_("rows"))
    payload_bucket = models.CharField(max_length=63)
    payload_key = models.CharField(max_length=1024)
    payload_etag = models.CharField(max_length=100)
    idempotency_key = models.CharField(max_length=255, blank=True)  # what the client sent; "" for none
    request_sha256 = models.BinaryField(max_length=32)  # of the request's content: a key stands for one
    problems = models.JSONField(_("problems"), default=list)
    concurrency = models.PositiveSmallIntegerField(
        _("concurrency"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text=_("The most create calls in flight for each chunk; empty for the setting. Takes effect at once."),
    )
    pause_code = models.CharField(_("paused because"), max_length=20, choices=PAUSE_REASONS, blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True)
    paused_until = models.DateTimeField(_("tried again at"), null=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    # Annotated by `with_counts`.
    created_count: int
    rejected_count: int
    failed_count: int
    unprocessed_count: int

    # Annotated by `locked`.
    paused_for: timedelta | None

    objects = PrimaryManager.from_queryset(ImportJobQuerySet)()

    class Meta:
        base_manager_name = "objects"  # so that a related job is read from where it is written, too
        verbose_name = _("import job")
        verbose_name_plural = _("import jobs")
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["submitter", "target", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="bulk_import_job_once",
            ),
        ]
        indexes = [
            models.Index(fields=["submitter", "-created_at"], name="bulk_import_job_own"),
            models.Index(fields=["-created_at"], name="bulk_import_job_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.target} {self.id}"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome, and those still open as `pending`. Needs `with_counts`."""
        counts = {str(outcome): getattr(self, f"{outcome}_count") for outcome in COUNTED_OUTCOMES}
        counts["pending"] = self.rows - sum(counts.values())
        return counts

    def mark_queued(self) -> None:
        """Every message is on the queue. Changes nothing if a worker was faster or a chunk is unsent."""
        if not self.chunks.filter(status=ChunkStatus.PENDING).exists():
            ImportJob.objects.filter(pk=self.pk, status=JobStatus.PENDING).update(status=JobStatus.QUEUED)

    def mark_processing(self) -> None:
        """A chunk was claimed."""
        ImportJob.objects.filter(pk=self.pk, status__in=[JobStatus.PENDING, JobStatus.QUEUED]).update(
            status=JobStatus.PROCESSING,
            started_at=Coalesce("started_at", Now()),
        )

    def pause(self, code: PauseCode, asked_seconds: int, first_seconds: int) -> tuple[int, timedelta]:
        """No row can be created now; returns the seconds until it is worth trying again, and how long it lasted so far.

        A first pause lasts `first_seconds`; one that goes on, as long again as it lasted so far; what the
        endpoint asked for at least. Call inside a transaction. Does nothing to a job that has ended.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.is_terminal:
            return 0, timedelta(0)
        lasted = job.paused_for or timedelta(0)
        seconds = math.ceil(min(max(first_seconds, lasted.total_seconds(), asked_seconds), MAX_PAUSE_SECONDS))
        if job.status != JobStatus.PAUSED:
            job.status = JobStatus.PAUSED
            job.paused_at = Now()
            job.record(EventKind.PAUSED, note=code, mail_after=PAUSE_MAIL_AFTER)
        job.pause_code = code
        job.paused_until = Now() + timedelta(seconds=seconds)
        job.save(update_fields=["status", "pause_code", "paused_at", "paused_until"])
        return seconds, lasted

    def resume(self) -> None:
        """Rows are being created again. Changes nothing unless the job is paused."""
        resumed = ImportJob.objects.filter(pk=self.pk, status=JobStatus.PAUSED).update(
            status=JobStatus.PROCESSING, pause_code="", paused_at=None, paused_until=None
        )
        if resumed:
            self.owe_no_mail(EventKind.PAUSED)
            self.record(EventKind.RESUMED)

    def expect_probe(self, seconds: int) -> None:
        """Let one claim through to a paused job when its pause is over, and the next one `seconds` later.

        Raises JobPaused for the others.
        """
        paused = ImportJob.objects.filter(pk=self.pk, status=JobStatus.PAUSED)
        is_probe = paused.filter(paused_until__lte=Now()).update(paused_until=Now() + timedelta(seconds=seconds))
        pause_left = paused.annotate(left=F("paused_until") - Now()).values_list("left", flat=True).first()
        if pause_left is not None and not is_probe:
            raise JobPaused(max(1, math.ceil(pause_left.total_seconds())))

    def settle_chunk(self, chunk: ImportChunk) -> None:
        """A chunk has ended: take over its problems, and end the job if it was the last one.

        Call inside the transaction that ended the chunk.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.is_terminal:
            return
        job.problems = merge_problems([job.problems, chunk.problems])
        dead = job.chunks.filter(status=ChunkStatus.DEAD)
        if chunk.status == ChunkStatus.DEAD and not dead.exclude(pk=chunk.pk).exists():  # one mail tells of all
            job.record(EventKind.DEAD_LETTERED, note=str(chunk.number), mail_after=timedelta(0))
        if not job.chunks.exclude(status__in=ENDED).exists():
            created = job.chunks.aggregate(total=Sum("created"))["total"]
            if created == job.rows:
                job.status = JobStatus.SUCCEEDED
            else:
                job.status = JobStatus.PARTIALLY_SUCCEEDED if created else JobStatus.FAILED
            job.finished_at = Now()
            job.pause_code, job.paused_at, job.paused_until = "", None, None
            job.owe_no_mail()  # the one about the end says all that is left to say
            job.record(EventKind.ENDED, mail_after=timedelta(0))
        job.save()

    def redrive(self, actor: Any = None) -> int:
        """Open the dead chunks again, and with them the job; returns how many. Again changes nothing.

        Call inside a transaction, and send the unsent chunks after it.
        """
        job = ImportJob.objects.locked(self.pk)
        dead = job.chunks.filter(status=ChunkStatus.DEAD)
        redriven = dead.update(status=ChunkStatus.PENDING, problems=[], rejected=0, failed=0, unprocessed=0)
        if redriven:
            job.problems = merge_problems(job.chunks.filter(status=ChunkStatus.DONE).values_list("problems", flat=True))
            if job.is_terminal:
                job.status, job.finished_at = JobStatus.PENDING, None
            job.save()
            job.owe_no_mail()  # it would tell of an end that is none
            job.record(EventKind.REDRIVEN, actor=actor)
        return redriven

    def owe_no_mail(self, *kinds: EventKind) -> None:
        """What has happened so far, or what is of these kinds, needs no mail any more."""
        events = self.events.filter(kind__in=kinds or EventKind.values)
        events.filter(mail_due_at__isnull=False).update(mail_due_at=None)

    def record(
        self, kind: EventKind, *, note: str = "", actor: Any = None, mail_after: timedelta | None = None
    ) -> None:
        """Write down what happened, who did it if a person did, and when people should be mailed about it."""
        # Not Now() + 0: SQLite writes a sum with more digits, and as text it is later than the same instant.
        mail_due_at = None if mail_after is None else Now() + mail_after if mail_after else Now()
        ImportEvent.objects.create(job=self, kind=kind, note=note, actor=actor, mail_due_at=mail_due_at)


class ImportChunkQuerySet(models.QuerySet["ImportChunk"]):
    def unsent(self) -> Self:
        return self.filter(status=ChunkStatus.PENDING).order_by("job__created_at", "number")

    def locked(self, chunk_id: uuid.UUID, *, against_creates: bool = False) -> ImportChunk:
        """The chunk, against other claims, heartbeats and finishes. Raises ImportChunk.DoesNotExist.

        With `against_creates` it also waits for the create calls that hold the chunk. PostgreSQL lets new
        ones pass meanwhile, so ask for it only when the chunk's worker has none left to make.
        """
        # Named by a dict, because mypy's plugin would take the name for a second declaration.
        lease_left = {"lease_left": F("lease_expires_at") - Now()}
        chunk: ImportChunk = self.select_for_update(no_key=not against_creates).annotate(**lease_left).get(pk=chunk_id)
        return chunk

    def shared(self, chunk_id: uuid.UUID) -> ImportChunk:
        """The chunk, for one create call among others: it cannot be finished until the transaction ends.

        Raises ImportChunk.DoesNotExist. SQLite needs no lock: there, a transaction writes alone.
        """
        connection = connections[self.db]
        if connection.vendor == "postgresql":
            table = connection.ops.quote_name(self.model._meta.db_table)
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR KEY SHARE", [chunk_id])  # noqa: S608 - our own table's name
        return self.select_related("job__submitter").get(pk=chunk_id)


class ImportChunk(models.Model):
    """A run of consecutive rows of one payload: one SQS message, one claim, one Lambda unit of work."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(ImportJob, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField(_("number"))  # 0-based place among the chunks of the job
    first_index = models.PositiveIntegerField(_("first index"))
    row_count = models.PositiveIntegerField(_("rows"))
    first_byte = models.PositiveBigIntegerField()
    byte_count = models.PositiveBigIntegerField()
    status = models.CharField(_("status"), max_length=20, choices=ChunkStatus.choices, default=ChunkStatus.PENDING)
    epoch = models.PositiveIntegerField(_("epoch"), default=0)  # grows with each claim
    claimant = models.CharField(max_length=36, blank=True)  # who made the last claim; see the contract
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    created = models.PositiveIntegerField(_("created"), default=0)  # counted in the ledger, never reported
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    unprocessed = models.PositiveIntegerField(_("unprocessed"), default=0)
    problems = models.JSONField(_("problems"), default=list)
    failures_key = models.CharField(max_length=1024, blank=True)  # until the chunk ended: of a delivery before

    # Annotated by `locked`.
    lease_left: timedelta | None

    objects = PrimaryManager.from_queryset(ImportChunkQuerySet)()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="bulk_import_chunk_number")]
        indexes = [
            models.Index(
                fields=["status"],
                condition=Q(status=ChunkStatus.PENDING),
                name="bulk_import_chunk_unsent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}"

    def message(self) -> ChunkMessage:
        """The SQS message of this chunk: the only one that a worker may claim it with."""
        return ChunkMessage(
            job_id=str(self.job_id),
            chunk_id=str(self.pk),
            bucket=self.job.payload_bucket,
            key=self.job.payload_key,
            etag=self.job.payload_etag,
            first_byte=self.first_byte,
            byte_count=self.byte_count,
            first_index=self.first_index,
            row_count=self.row_count,
        )

    def holds_index(self, index: int) -> bool:
        return self.first_index <= index < self.first_index + self.row_count

    def is_held_by(self, epoch: int) -> bool:
        """Whether the worker of this epoch may still create rows of the chunk."""
        return self.status == ChunkStatus.PROCESSING and self.epoch == epoch and not self.job.is_terminal

    def imported_rows(self) -> models.QuerySet[ImportedRow]:
        """The ledger's records of this chunk, in order."""
        last_index = self.first_index + self.row_count - 1
        rows = ImportedRow.objects.filter(job_id=self.job_id, index__range=(self.first_index, last_index))
        return rows.order_by("index")

    def created_ranges(self) -> list[list[int]]:
        """The indexes that the ledger holds, as ranges [first, last]."""
        ranges: list[list[int]] = []
        for index in self.imported_rows().values_list("index", flat=True):
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1][1] = index
            else:
                ranges.append([index, index])
        return ranges

    def claim(self, claimant: str, lease_seconds: int, *, creates: bool = True) -> None:
        """Give the chunk to a worker, with a new epoch. The chunk must be `locked`.

        Raises ChunkClosed when there is nothing left to do, LeaseHeld while another worker may be at it,
        and JobPaused if rows are to be created. A claimant whose answer was lost has the chunk still.
        """
        if self.status in ENDED or self.job.is_terminal:
            raise ChunkClosed(f"chunk {self} is {self.status}")
        if self.lease_left is not None and self.lease_left > timedelta(0):
            if claimant != self.claimant:
                raise LeaseHeld(math.ceil(self.lease_left.total_seconds()))
        else:
            if creates:
                self.job.expect_probe(lease_seconds)
            self.epoch += 1
        self.claimant = claimant
        self.status = ChunkStatus.PROCESSING
        self._extend_lease(lease_seconds, epoch=self.epoch, claimant=claimant, status=self.status)
        self.job.mark_processing()

    def heartbeat(self, epoch: int, lease_seconds: int) -> None:
        """Extend the lease and take the count from the ledger. The chunk must be `locked`.

        Raises StaleEpoch.
        """
        self._expect_epoch(epoch)
        created_before = self.created
        self._extend_lease(lease_seconds)
        if self.created > created_before:
            self.job.resume()

    def release(self, epoch: int, failures_key: str) -> None:
        """End the lease: the worker stops, and leaves rows. The chunk must be `locked`. Raises StaleEpoch."""
        self._expect_epoch(epoch)
        created_before = self.created
        self._extend_lease(0, failures_key=failures_key)
        if self.created > created_before:
            self.job.resume()

    def finish(self, report: Finish, *, is_dead: bool = False) -> None:
        """End the chunk: every row has an outcome. The chunk must be `locked`.

        `is_dead`: its message ran out of deliveries. Again with the same epoch changes nothing. Raises
        StaleEpoch, and LedgerDisagrees when the outcomes do not add up, as after a create call whose answer
        was lost.
        """
        if self.status in ENDED and self.epoch == report.epoch:
            return
        self._expect_epoch(report.epoch)
        created = self.imported_rows().count()
        reported = (report.rejected, report.failed, report.unprocessed)
        if min(reported) < 0 or created + sum(reported) != self.row_count:
            raise LedgerDisagrees(f"chunk {self}: {created} of {self.row_count} rows are in the ledger")
        self.created = created
        self.rejected, self.failed, self.unprocessed = reported
        self.problems, self.failures_key = report.problems, report.failures_key
        self.lease_expires_at = None
        self.status = ChunkStatus.DEAD if is_dead else ChunkStatus.DONE
        self.save()
        if not is_dead:
            self.job.resume()
        self.job.settle_chunk(self)

    def _expect_epoch(self, epoch: int) -> None:
        if epoch != self.epoch or self.status != ChunkStatus.PROCESSING:
            raise StaleEpoch(f"epoch {epoch} of chunk {self} is over: {self.status}, epoch {self.epoch}")

    def _extend_lease(self, lease_seconds: int, **fields: Any) -> None:
        self.created = self.imported_rows().count()
        ImportChunk.objects.filter(pk=self.pk).update(
            lease_expires_at=Now() + timedelta(seconds=lease_seconds), created=self.created, **fields
        )


class ImportedRow(models.Model):
    """The ledger: one record per row whose create committed, written in the same transaction.

    Its unique constraint is what makes a row happen once; leases only save work.
    """

    job = models.ForeignKey(ImportJob, on_delete=models.CASCADE, related_name="imported_rows", db_index=False)
    index = models.PositiveIntegerField(_("index"))
    body_sha256 = models.BinaryField(max_length=32)  # of the create call's body: a key names one row only
    object_id = models.CharField(_("object id"), max_length=64, blank=True)  # "id" of what was created
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    objects = PrimaryManager()

    class Meta:
        verbose_name = _("imported row")
        verbose_name_plural = _("imported rows")
        constraints = [models.UniqueConstraint(fields=["job", "index"], name="bulk_import_row_once")]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.index}"


class ImportEvent(models.Model):
    """Something that happened to a job and that people may want to know of: its timeline, and its mails.

    `mail_due_at` is set as long as a mail about it is owed; see `notifications`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(ImportJob, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(_("event"), max_length=20, choices=EventKind.choices)
    at = models.DateTimeField(_("time"), auto_now_add=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("who")
    )
    note = models.CharField(_("note"), max_length=100, blank=True)
    mail_due_at = models.DateTimeField(null=True)

    objects = PrimaryManager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["at"]
        indexes = [
            models.Index(
                fields=["mail_due_at"], condition=Q(mail_due_at__isnull=False), name="bulk_import_event_mail_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.kind}"
