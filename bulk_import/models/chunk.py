"""Chunks: the units in which workers claim a job's rows. State changes are methods, each with its guard."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import ChunkClosed, LeaseHeld, LedgerDisagrees, StaleEpoch
from bulk_import.models.database import PrimaryManager
from bulk_import.models.row import ImportedRow
from bulk_import.models.status import ENDED, ChunkStatus
from bulk_import_wire.contract import ChunkMessage

if TYPE_CHECKING:
    from bulk_import_wire.contract import Finish


class ImportChunkQuerySet(models.QuerySet["ImportChunk"]):
    def unsent(self) -> Self:
        return self.filter(status=ChunkStatus.PENDING).order_by("job__created_at", "number")

    def dead(self) -> Self:
        return self.filter(status=ChunkStatus.DEAD)

    def resend(self) -> None:
        """Have the relay send those that no worker holds: their messages may rest for as long as a pause."""
        is_free = Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())
        free = self.filter(is_free, status__in=[ChunkStatus.QUEUED, ChunkStatus.PROCESSING]).order_by("number")
        with transaction.atomic(using=self.db):
            # One that is locked is being claimed this moment.
            locked = free.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
            self.model.objects.filter(pk__in=list(locked)).update(status=ChunkStatus.PENDING)

    def locked(self, chunk_id: uuid.UUID, *, against_creates: bool = False) -> ImportChunk:
        """The chunk, against other claims, heartbeats and finishes. Raises ImportChunk.DoesNotExist.

        With `against_creates` it also waits for the create calls that hold the chunk. PostgreSQL lets new
        ones pass meanwhile, so ask for it only when the chunk's worker has none left to make.
        """
        # Named by a dict, because mypy's plugin would take the name for a second declaration.
        lease_left = {"lease_left": F("lease_expires_at") - Now()}
        chunk: ImportChunk = self.select_for_update(no_key=not against_creates).annotate(**lease_left).get(pk=chunk_id)
        return chunk


class ImportChunk(models.Model):
    """A run of consecutive rows of one payload: one SQS message, one claim, one Lambda unit of work."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(  # the constraint below is its index
        "bulk_import.ImportJob", on_delete=models.CASCADE, related_name="chunks", db_index=False
    )
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
            models.Index(fields=["job"], condition=Q(status=ChunkStatus.DEAD), name="bulk_import_chunk_dead"),
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
            if creates and not self.job.cancel_requested_at:
                self.job.claim_probe(lease_seconds)
            self.epoch += 1
        self.claimant = claimant
        self.status = ChunkStatus.PROCESSING
        self._extend_lease(lease_seconds, epoch=self.epoch, claimant=claimant, status=self.status)
        self.job.mark_processing()

    def heartbeat(self, epoch: int, lease_seconds: int) -> None:
        """Extend the lease and take the count from the ledger. The chunk must be `locked`.

        Raises StaleEpoch.
        """
        self._check_epoch(epoch)
        created_before = self.created
        self._extend_lease(lease_seconds)
        if self.created > created_before:
            self.job.mark_progress()

    def release(self, epoch: int, failures_key: str) -> None:
        """End the lease: the worker stops, and leaves rows. The chunk must be `locked`. Raises StaleEpoch."""
        self._check_epoch(epoch)
        created_before = self.created
        self._extend_lease(0, failures_key=failures_key)
        if self.created > created_before:
            self.job.mark_progress()

    def finish(self, report: Finish, *, is_dead: bool = False) -> None:
        """End the chunk: every row has an outcome. The chunk must be `locked`.

        `is_dead`: its message ran out of deliveries. Again with the same epoch changes nothing. Raises
        StaleEpoch, and LedgerDisagrees when the outcomes do not add up, as after a create call whose answer
        was lost.
        """
        if self.status in ENDED and self.epoch == report.epoch:
            return
        self._check_epoch(report.epoch)
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
            self.job.mark_progress()
        self.job.add_finished_chunk(self)

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self.epoch or self.status != ChunkStatus.PROCESSING:
            raise StaleEpoch(f"epoch {epoch} of chunk {self} is over: {self.status}, epoch {self.epoch}")

    def _extend_lease(self, lease_seconds: int, **fields: Any) -> None:
        self.created = self.imported_rows().count()
        ImportChunk.objects.filter(pk=self.pk).update(
            lease_expires_at=Now() + timedelta(seconds=lease_seconds), created=self.created, **fields
        )
