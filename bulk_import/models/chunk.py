"""Chunks: the parts of a job that workers claim, one at a time.

Each state change is a method that checks whether the change is allowed. The ones that a worker asks for after its claim
(`heartbeat`, `release`, `finish`) need the epoch of that claim. The epoch grows with each claim, so a worker that slept
through its lease has an old epoch and can no longer change anything. Without this check, its late report would
overwrite what the next worker reports.
"""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import OperationalError, connections, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext, override
from django.utils.translation import gettext_lazy as _

from bulk_import.conf import conf
from bulk_import.exceptions import ChunkClosed, CreatesRunning, LeaseHeld, LedgerDisagrees, StaleEpoch
from bulk_import.models.database import PrimaryManager
from bulk_import.models.row import ImportedRow
from bulk_import.models.status import PAUSE_REASONS, TERMINAL_CHUNK_STATUSES, ChunkStatus
from bulk_import_wire.contract import DEAD_LETTER, PAUSED_TOO_LONG, ChunkMessage

if TYPE_CHECKING:
    from bulk_import_wire.contract import Finish


LOCK_SECONDS = 3
"""Longest wait of a finish for create calls that are still running. A longer one would occupy a web worker."""

LOCK_TIMEOUT = "55P03"
"""PostgreSQL's error code for a lock that was not available within `lock_timeout`."""

MAX_DELIVERIES = 5
"""Failed deliveries of a chunk after which it is given up. SQS gives up a message after as many by default."""


class ImportChunkQuerySet(models.QuerySet["ImportChunk"]):
    def unsent(self) -> Self:
        """Return the chunks whose message SQS has not confirmed yet, oldest job first."""
        return self.filter(status=ChunkStatus.PENDING).order_by("job__created_at", "number")

    def dead(self) -> Self:
        return self.filter(status=ChunkStatus.DEAD)

    def mark_unsent(self) -> None:
        """Mark the open chunks without a live lease as unsent, so that their messages are sent again.

        Use it when a job resumes: workers delay the messages of a paused job, and the new messages arrive at once. The
        delayed ones arrive as well, but a chunk can be claimed only once at a time, so a second message is harmless.
        """
        has_no_lease = Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())
        chunks = self.filter(has_no_lease, status__in=[ChunkStatus.QUEUED, ChunkStatus.PROCESSING]).order_by("number")
        with transaction.atomic(using=self.db):
            # Skip a chunk that is locked: a worker is claiming it at this moment, so its message has arrived.
            locked = chunks.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
            self.model.objects.filter(pk__in=list(locked)).update(status=ChunkStatus.PENDING)

    def locked(self, chunk_id: uuid.UUID, *, wait_for_creates: bool = False) -> ImportChunk:
        """Lock the chunk until the transaction ends, and return it with `lease_left`. Raises ImportChunk.DoesNotExist.

        Claims, heartbeats, releases and finishes of one chunk run one after the other. With `wait_for_creates`, the
        lock also waits until the create calls that are in flight for the chunk have committed or rolled back. On
        PostgreSQL it raises CreatesRunning if that takes longer than LOCK_SECONDS.
        """
        # Each create call has FOR KEY SHARE on its chunk (see `LockedChunk`). Two locks are possible here:
        #
        # - FOR NO KEY UPDATE does not conflict with it, so a heartbeat never waits for a slow create call. If it did,
        #   the lease of a healthy worker could expire while it waits.
        # - FOR UPDATE conflicts with it. A finish counts the ledger, so it must wait for a create call that has written
        #   its record but not committed yet; otherwise that row would be missing from the count.
        #
        # While FOR UPDATE waits, PostgreSQL still lets new create calls take FOR KEY SHARE, so it could wait forever.
        # Use it only when the worker makes no more create calls, as with a finish.
        #
        # The annotation is passed as a dict, because mypy's plugin would take the name for a second declaration.
        lease_left = {"lease_left": F("lease_expires_at") - Now()}
        locked = self.select_for_update(no_key=not wait_for_creates)
        if wait_for_creates and connections[self.db].vendor == "postgresql":
            with connections[self.db].cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        try:
            chunk: ImportChunk = locked.annotate(**lease_left).get(pk=chunk_id)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != LOCK_TIMEOUT:
                raise
            raise CreatesRunning(LOCK_SECONDS) from error
        return chunk


class ImportChunk(models.Model):
    """Consecutive rows of a job. Each chunk has one SQS message, and one worker at a time works on it."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(  # the unique constraint below also serves as the index
        "bulk_import.ImportJob", on_delete=models.CASCADE, related_name="chunks", db_index=False
    )
    number = models.PositiveIntegerField(_("number"))  # position among the chunks of the job, from 0
    first_index = models.PositiveIntegerField(_("first index"))  # index of its first row within the job, from 0
    row_count = models.PositiveIntegerField(_("rows"))
    first_byte = models.PositiveBigIntegerField()  # offset of its rows within the payload
    byte_count = models.PositiveBigIntegerField()
    status = models.CharField(_("status"), max_length=20, choices=ChunkStatus.choices, default=ChunkStatus.PENDING)
    epoch = models.PositiveIntegerField(_("epoch"), default=0)  # number of claims so far; identifies the current one
    claimant = models.CharField(max_length=36, blank=True)  # random ID that the last claim came with
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    created = models.PositiveIntegerField(_("created"), default=0)  # counted from the ledger, not reported
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    unprocessed = models.PositiveIntegerField(_("unprocessed"), default=0)
    problems = models.JSONField(_("problems"), default=list)
    # Deliveries that failed, and workers that died. SQS counts as well, but it counts each copy of a message anew.
    failed_deliveries = models.PositiveSmallIntegerField(_("failed deliveries"), default=0)
    failures_key = models.CharField(max_length=1024, blank=True)  # S3 key of the rows not created, so far or in the end

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
        """Build the SQS message of this chunk. A worker can claim the chunk only with exactly this message."""
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
        """Return the ledger records of this chunk, by index."""
        last_index = self.first_index + self.row_count - 1
        rows = ImportedRow.objects.filter(job_id=self.job_id, index__range=(self.first_index, last_index))
        return rows.order_by("index")

    def created_ranges(self) -> list[list[int]]:
        """Return the indexes that have a ledger record, as ranges [first, last]: [[0, 2], [4, 4]] for 0, 1, 2 and 4."""
        ranges: list[list[int]] = []
        for index in self.imported_rows().values_list("index", flat=True):
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1][1] = index
            else:
                ranges.append([index, index])
        return ranges

    def claim(self, claimant: str, lease_seconds: int, *, creates: bool = True) -> None:
        """Give the chunk to a worker, under a new epoch. The chunk must be `locked`.

        `claimant` is a random ID of the request. `creates` is False for a claim that only reports, such as that of the
        dead-letter function, which need not wait for the end of a pause.

        A chunk that must be given up can always be claimed, so that its worker can report it (see `give_up_error`).

        Raises ChunkClosed if the chunk or the job has ended, LeaseHeld while another worker has a live lease, and
        JobPaused while the job is paused.
        """
        if self.status in TERMINAL_CHUNK_STATUSES or self.job.is_terminal:
            raise ChunkClosed(f"chunk {self} is {self.status}")
        if self.lease_left is not None and self.lease_left > timedelta(0):
            # The same claimant asks again when the answer to its first request was lost. It gets the same epoch, as
            # it is still the only worker. After its lease it gets a new epoch, because another worker may have had
            # the chunk in between.
            if claimant != self.claimant:
                raise LeaseHeld(math.ceil(self.lease_left.total_seconds()))
        else:
            # A release removes the lease. So a lease that has expired is that of a worker that died.
            self.failed_deliveries += self.lease_left is not None
            # Ask the job only now: a claim that fails because of a live lease must not use up the one probe that a
            # paused job admits.
            if creates and not self.job.cancel_requested_at and not self.give_up_error():
                self.job.check_may_claim(probe_seconds=lease_seconds)
            self.epoch += 1
        self.claimant = claimant
        self.status = ChunkStatus.PROCESSING
        self._extend_lease(
            lease_seconds,
            epoch=self.epoch,
            claimant=claimant,
            status=self.status,
            failed_deliveries=self.failed_deliveries,
        )
        self.job.mark_processing()

    def give_up_error(self) -> dict[str, Any]:
        """Return why the chunk must be given up, as the error of its remaining rows; an empty dict if it must not.

        The message is in the language of the job. While staff pause the job, no chunk is given up.
        """
        if self.job.is_paused_by_staff:
            return {}
        max_pause_hours = conf().max_pause_hours
        with override(self.job.language):
            if self.failed_deliveries >= MAX_DELIVERIES:
                text = gettext("Every attempt to import this part of the file failed. You can try again.")
                return {"field": None, "code": DEAD_LETTER, "message": text}
            if self.job.has_been_paused_for(timedelta(hours=max_pause_hours)):
                text = gettext("The import was paused for more than %(hours)d hours, because %(reason)s.") % {
                    "hours": max_pause_hours,
                    "reason": PAUSE_REASONS[self.job.pause_code],
                }
                return {"field": None, "code": PAUSED_TOO_LONG, "message": text}
        return {}

    def heartbeat(self, epoch: int, lease_seconds: int) -> None:
        """Extend the lease and count the created rows. The chunk must be `locked`. Raises StaleEpoch."""
        self._check_epoch(epoch)
        created_before = self.created
        self._extend_lease(lease_seconds)
        if self.created > created_before:
            self.job.mark_progress()

    def release(self, epoch: int, failures_key: str, *, has_failed: bool = False) -> None:
        """End the lease of a worker that stops before every row has an outcome. The chunk must be `locked`.

        `failures_key` names the failures file so far; the next worker skips its rows. `has_failed` counts the delivery
        as a failed one. Raises StaleEpoch.
        """
        self._check_epoch(epoch)
        created_before = self.created
        failed_deliveries = self.failed_deliveries + has_failed
        self._extend_lease(None, failures_key=failures_key, failed_deliveries=failed_deliveries)
        if self.created > created_before:
            self.job.mark_progress()

    def finish(self, report: Finish, *, is_dead: bool = False) -> None:
        """End the chunk, because every row has an outcome. The chunk must be `locked` with `wait_for_creates`.

        `is_dead` says that the chunk is given up. Idempotent for the same epoch, so a worker may
        repeat a finish whose answer was lost.

        Raises StaleEpoch, and LedgerDisagrees if the outcomes do not add up to the chunk's rows.
        """
        if self.status in TERMINAL_CHUNK_STATUSES and self.epoch == report.epoch:
            return
        self._check_epoch(report.epoch)
        # The ledger decides how many rows were created. Example: the answer to a create call was lost, so the worker
        # reports the row as failed, but the ledger has its record. The sum is then one too many. The chunk stays open,
        # and the next delivery starts from the ledger's records and reports correct numbers.
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
        self.job.handle_finished_chunk(self)

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self.epoch or self.status != ChunkStatus.PROCESSING:
            raise StaleEpoch(f"epoch {epoch} of chunk {self} is stale: the chunk is {self.status}, epoch {self.epoch}")

    def _extend_lease(self, lease_seconds: int | None, **fields: Any) -> None:
        """Set the lease (None removes it), count the created rows, and save these and the other fields."""
        # The database's clock sets the lease and checks it, so the clocks of the web servers do not matter.
        self.created = self.imported_rows().count()
        expires_at = None if lease_seconds is None else Now() + timedelta(seconds=lease_seconds)
        ImportChunk.objects.filter(pk=self.pk).update(lease_expires_at=expires_at, created=self.created, **fields)
