"""Jobs, their chunks, and the ledger. State changes are methods here, each with its guard."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.db import connections, models, router
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import ChunkClosed, LeaseHeld, LedgerDisagrees, StaleEpoch
from lambda_worker.contract import ChunkMessage, Outcome
from lambda_worker.problems import merge_problems

if TYPE_CHECKING:
    from lambda_worker.contract import Finish

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


def database() -> str:
    """The alias that this app writes to, and also reads from: a replica may lag behind what was just written."""
    return router.db_for_write(ImportedRow)


class PrimaryManager(models.Manager[Any]):
    """Reads from where it writes."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(database())


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
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    # Annotated by `with_counts`.
    created_count: int
    rejected_count: int
    failed_count: int
    unprocessed_count: int

    objects = PrimaryManager.from_queryset(ImportJobQuerySet)()

    class Meta:
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
            started_at=Now(),
        )

    def settle_chunk(self, problems: list[dict[str, Any]]) -> bool:
        """A chunk is done: take over its problems, and end the job if it was the last one.

        Call inside the transaction that ended the chunk. Returns whether the job ended now.
        """
        job = ImportJob.objects.select_for_update(no_key=True).get(pk=self.pk)
        if job.is_terminal:
            return False
        job.problems = merge_problems([job.problems, problems])
        ended = not job.chunks.exclude(status=ChunkStatus.DONE).exists()
        if ended:
            created = job.chunks.aggregate(total=Sum("created"))["total"]
            if created == job.rows:
                job.status = JobStatus.SUCCEEDED
            else:
                job.status = JobStatus.PARTIALLY_SUCCEEDED if created else JobStatus.FAILED
            job.finished_at = Now()
        job.save(update_fields=["problems", "status", "finished_at"])
        return ended


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
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    created = models.PositiveIntegerField(_("created"), default=0)  # counted in the ledger, never reported
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    unprocessed = models.PositiveIntegerField(_("unprocessed"), default=0)
    failures_key = models.CharField(max_length=1024, blank=True)

    # Annotated by `locked`.
    lease_left: timedelta | None

    objects = PrimaryManager.from_queryset(ImportChunkQuerySet)()

    class Meta:
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

    def claim(self, lease_seconds: int) -> None:
        """Give the chunk to a worker, with a new epoch. The chunk must be `locked`.

        Raises ChunkClosed when there is nothing left to do, LeaseHeld while another worker may be at it.
        """
        if self.status == ChunkStatus.DONE or self.job.is_terminal:
            raise ChunkClosed(f"chunk {self} is {self.status}")
        if self.lease_left is not None and self.lease_left > timedelta(0):
            raise LeaseHeld(math.ceil(self.lease_left.total_seconds()))
        self.epoch += 1
        self.status = ChunkStatus.PROCESSING
        self._extend_lease(lease_seconds, epoch=self.epoch, status=self.status)
        self.job.mark_processing()

    def heartbeat(self, epoch: int, lease_seconds: int) -> None:
        """Extend the lease and take the count from the ledger. The chunk must be `locked`.

        Raises StaleEpoch.
        """
        self._expect_epoch(epoch)
        if self.status == ChunkStatus.DONE:
            raise StaleEpoch(f"chunk {self} is done")
        self._extend_lease(lease_seconds)

    def finish(self, report: Finish) -> bool:
        """End the chunk: every row has an outcome. The chunk must be `locked`.

        Again with the same epoch changes nothing. Returns whether the job ended with it. Raises StaleEpoch,
        and LedgerDisagrees when the outcomes do not add up, as after a create call whose answer was lost.
        """
        self._expect_epoch(report.epoch)
        if self.status == ChunkStatus.DONE:
            return False
        created = self.imported_rows().count()
        if created + report.rejected + report.failed + report.unprocessed != self.row_count:
            raise LedgerDisagrees(f"chunk {self}: {created} of {self.row_count} rows are in the ledger")
        self.created = created
        self.rejected, self.failed, self.unprocessed = report.rejected, report.failed, report.unprocessed
        self.failures_key = report.failures_key
        self.status = ChunkStatus.DONE
        self.lease_expires_at = None
        self.save()
        return self.job.settle_chunk(report.problems)

    def _expect_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise StaleEpoch(f"epoch {epoch} of chunk {self} is over, it is at {self.epoch}")

    def _extend_lease(self, lease_seconds: int, **fields: Any) -> None:
        ImportChunk.objects.filter(pk=self.pk).update(
            lease_expires_at=Now() + timedelta(seconds=lease_seconds),
            created=self.imported_rows().count(),
            **fields,
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
