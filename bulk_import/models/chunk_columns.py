"""The columns and queries of a chunk. What workers do with chunks is in `lease` and `chunk`."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import OperationalError, connections, models, transaction
from django.db.models import Count, F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import CreatesRunning
from bulk_import.models.database import PrimaryManager
from bulk_import.models.kept_query import Parameter, kept_query
from bulk_import.models.row import ImportedRow, unpack_lines
from bulk_import.models.status import OPEN_CHUNK_STATUSES, OUTSTANDING_CHUNK_STATUSES, ChunkStatus
from bulk_import_wire.contract import LEDGER_OUTCOMES
from bulk_import_wire.message import ChunkMessage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from bulk_import.models.chunk import ImportChunk

DONE = F("created") + F("updated") + F("unchanged") + F("deleted")
"""SQL of `ChunkColumns.done`."""

SILENCE = timedelta(seconds=45)
"""Time without a heartbeat after which a worker counts as lost, even if its lease is longer.

A worker sends a heartbeat every 2 seconds. If the answer is lost, it waits 30 seconds for it before it sends the next.
"""

IS_LOST = Q(status__in=OPEN_CHUNK_STATUSES, lease_expires_at__lte=Now()) | Q(
    status=ChunkStatus.PROCESSING, heartbeat_at__lte=Now() - SILENCE
)
"""SQL: the worker of the chunk was lost, and the chunk waits for another one."""

LOCK_SECONDS = 3
"""Longest wait of a finish for create calls that are still running. A longer one would occupy a web worker."""

LOST_WORKER_DELAY = timedelta(seconds=10)
"""Time after the end of a lease in which a slow worker can still renew it. Then the chunk is sent to another worker."""

LOCK_TIMEOUT = "55P03"
"""PostgreSQL's error code for a lock that was not available within `lock_timeout`."""


class ImportChunkQuerySet(models.QuerySet["ImportChunk"]):
    def unsent(self) -> Self:
        """Return the chunks that have a place in the window, but whose message SQS has not confirmed yet."""
        return self.filter(status=ChunkStatus.RESERVED)

    def dead(self) -> Self:
        return self.filter(status=ChunkStatus.DEAD)

    def lost(self) -> Self:
        """Return the open chunks whose worker let its lease expire, or sends no heartbeats any more."""
        return self.filter(IS_LOST)

    def return_to_pending(self) -> None:
        """Make the open chunks without a valid lease pending, so that they take their turn and get a new message.

        Use it when a job resumes: workers delay the messages of a paused job, and the new messages arrive at once. The
        delayed ones arrive as well, but a chunk can be claimed only once at a time, so a second message is harmless.
        """
        has_no_lease = Q(lease_expires_at=None) | Q(lease_expires_at__lte=Now())
        chunks = self.filter(has_no_lease, status__in=[ChunkStatus.QUEUED, ChunkStatus.PROCESSING]).order_by("number")
        with transaction.atomic(using=self.db, savepoint=False):
            # Skip a chunk that is locked: a worker is claiming it at this moment, so its message has arrived.
            locked = chunks.select_for_update(skip_locked=True, no_key=True).values_list("pk", flat=True)
            if found := list(locked):
                self.model.objects.filter(pk__in=found).update(status=ChunkStatus.PENDING, retry_at=None)


def _locked_chunk(*, no_key: bool) -> Any:
    chunk_model: Any = apps.get_model("bulk_import", "ImportChunk")  # it uses this module
    times = {"lease_left": F("lease_expires_at") - Now(), "retry_left": F("retry_at") - Now()}
    # Without `order_by()`, Django would join the job to sort by it, and the database would lock the job as well.
    chunks = chunk_model.objects.order_by().select_for_update(no_key=no_key).annotate(**times)
    return chunks.filter(pk=Parameter("pk", chunk_model._meta.pk))


@kept_query
def _chunk() -> Any:
    return _locked_chunk(no_key=True)


@kept_query
def _idle_chunk() -> Any:
    return _locked_chunk(no_key=False)


@kept_query
def _job_of_chunk() -> Any:
    job_model: Any = apps.get_model("bulk_import", "ImportJob")
    return job_model.objects.order_by().filter(pk=Parameter("pk", job_model._meta.pk))


def _rows_of_chunk() -> Any:
    fields: Any = ImportedRow._meta
    job_id, index = (fields.get_field(name) for name in ("job", "index"))
    return ImportedRow.objects.order_by().filter(
        job_id=Parameter("job_id", job_id), index__gte=Parameter("first", index), index__lte=Parameter("last", index)
    )


@kept_query
def _counts_by_outcome() -> Any:
    return _rows_of_chunk().values_list("outcome").annotate(Count("pk"))


@kept_query
def _done_indexes() -> Any:
    return _rows_of_chunk().order_by("index").values_list("index")


class ImportChunkManager(PrimaryManager):
    """Reads chunks without their large columns, which only a create call and the results need, and locks them."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().defer("row_hashes", "row_lines")

    def locked(self, chunk_id: uuid.UUID, *, wait_for_creates: bool = False) -> ImportChunk:
        """Lock the chunk until the transaction ends, and return it with `lease_left` and `retry_left`.

        Raises ImportChunk.DoesNotExist.

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
        # While FOR UPDATE waits, PostgreSQL still lets new create calls take FOR KEY SHARE, so FOR UPDATE could wait
        # forever. Use it only when the worker makes no more create calls, as with a finish.
        #
        if wait_for_creates and connections[self.db].vendor == "postgresql":
            with connections[self.db].cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        try:
            found = (_idle_chunk if wait_for_creates else _chunk)(pk=chunk_id)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") != LOCK_TIMEOUT:
                raise
            raise CreatesRunning(LOCK_SECONDS) from error
        if not found:
            raise self.model.DoesNotExist
        chunk: ImportChunk = found[0]
        # The job is read after the lock was taken, so that it is as new as the chunk.
        (chunk.job,) = _job_of_chunk(pk=chunk.job_id)
        return chunk


class ChunkColumns(models.Model):
    """The columns of ImportChunk, and what follows from them."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(  # the unique constraint below also serves as the index
        "bulk_import.ImportJob", on_delete=models.CASCADE, related_name="chunks", db_index=False
    )
    number = models.PositiveIntegerField(_("number"))  # position among the chunks of the job, from 0
    first_index = models.PositiveIntegerField(_("first index"))  # index of its first row within the job, from 0
    row_count = models.PositiveIntegerField(_("rows"))
    first_byte = models.PositiveBigIntegerField()  # offset of its rows within the payload
    byte_count = models.PositiveBigIntegerField()
    row_hashes = models.BinaryField(default=b"")  # `row_hash` of each row, one after the other; deferred
    row_lines = models.BinaryField(default=b"")  # line of each row in the user's file, if it has lines; deferred
    status = models.CharField(_("status"), max_length=20, choices=ChunkStatus.choices, default=ChunkStatus.PENDING)
    queued_at = models.DateTimeField(null=True)  # when it last got a place in the window, or its worker released it
    retry_at = models.DateTimeField(null=True)  # until when nobody may claim it, because its last delivery failed
    replaced_at = models.DateTimeField(null=True)  # when its message last counted as lost; see `lost_messages`
    epoch = models.PositiveIntegerField(_("epoch"), default=0)  # number of claims so far; identifies the current one
    claimant = models.CharField(max_length=36, blank=True)  # random ID in the request of the last claim
    worker = models.CharField(max_length=128, blank=True)  # ID of the invocation that claimed it, as in the logs
    lease_expires_at = models.DateTimeField(_("lease expires"), null=True)
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True)  # or the claim
    ended_at = models.DateTimeField(null=True)  # None after a retry, until it ends again
    rows_before = models.PositiveIntegerField(default=0)  # rows that were imported before the last retry
    calls = models.JSONField(default=dict)  # `Calls` of the last delivery, see `bulk_import_wire.contract`
    # The first four are counted from the ledger, not reported.
    created = models.PositiveIntegerField(_("created"), default=0)
    updated = models.PositiveIntegerField(_("updated"), default=0)
    unchanged = models.PositiveIntegerField(_("unchanged"), default=0)
    deleted = models.PositiveIntegerField(_("deleted"), default=0)
    rejected = models.PositiveIntegerField(_("rejected"), default=0)
    failed = models.PositiveIntegerField(_("failed"), default=0)
    unprocessed = models.PositiveIntegerField(_("unprocessed"), default=0)
    problems = models.JSONField(_("problems"), default=list)
    # Deliveries that failed, and workers that died. SQS counts as well, but it counts each copy of a message anew.
    failed_deliveries = models.PositiveSmallIntegerField(_("failed deliveries"), default=0)
    failures_key = models.CharField(max_length=1024, blank=True)  # S3 key of the failures so far; "" if there are none

    # Annotated by `locked`, by the clock of the database.
    lease_left: timedelta | None
    retry_left: timedelta | None

    objects = ImportChunkManager.from_queryset(ImportChunkQuerySet)()

    class Meta:
        abstract = True
        base_manager_name = "objects"
        verbose_name = _("chunk")
        verbose_name_plural = _("chunks")
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="bulk_import_chunk_number")]
        indexes = [
            # `window` uses the next three for every chunk that ends. Partial indexes stay small.
            # The columns of the first one are expressions. NetBox's system check ignores conditions, and refuses an
            # index that has the `fields` of a unique constraint.
            models.Index("job", "number", condition=Q(status=ChunkStatus.PENDING), name="bulk_import_chunk_pending"),
            models.Index(
                fields=["status"],
                condition=Q(status__in=sorted(OUTSTANDING_CHUNK_STATUSES)),
                name="bulk_import_chunk_outstanding",
            ),
            models.Index(fields=["queued_at"], name="bulk_import_chunk_queued"),
            models.Index(fields=["ended_at"], name="bulk_import_chunk_ended"),
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

    @property
    def resumes_at(self) -> datetime | None:
        """When the relay sends the chunk to another worker if its worker is lost; None if it has no lease."""
        return self.lease_expires_at + LOST_WORKER_DELAY if self.lease_expires_at else None

    @property
    def last_index(self) -> int:
        return self.first_index + self.row_count - 1

    @property
    def done(self) -> int:
        """The number of rows that have a ledger record, as of the last count."""
        return self.created + self.updated + self.unchanged + self.deleted

    def count_ledger(self) -> dict[str, int]:
        """Count the ledger records by outcome, set the four columns, and return them. Does not save the chunk."""
        groups = _counts_by_outcome(job_id=self.job_id, first=self.first_index, last=self.last_index)
        counts = dict.fromkeys(map(str, LEDGER_OUTCOMES), 0) | dict(groups)
        for outcome, count in counts.items():
            setattr(self, outcome, count)
        return counts

    def imported_rows(self) -> models.QuerySet[ImportedRow]:
        """Return the ledger records of this chunk, by index."""
        rows = ImportedRow.objects.filter(job_id=self.job_id, index__range=(self.first_index, self.last_index))
        return rows.order_by("index")

    def read_lines(self) -> Sequence[int]:
        """Return the line of each row in the user's file, for `line_at`. It is empty if the file has no lines.

        This is a query of its own. To load a deferred column would also load the other columns again.
        """
        packed = type(self).objects.filter(pk=self.pk).values_list("row_lines", flat=True).get()
        return unpack_lines(bytes(packed))

    def created_ranges(self) -> list[list[int]]:
        """Return the indexes that have a ledger record, as ranges [first, last]: [[0, 2], [4, 4]] for 0, 1, 2 and 4."""
        ranges: list[list[int]] = []
        for (index,) in _done_indexes(job_id=self.job_id, first=self.first_index, last=self.last_index):
            if ranges and ranges[-1][1] == index - 1:
                ranges[-1][1] = index
            else:
                ranges.append([index, index])
        return ranges
