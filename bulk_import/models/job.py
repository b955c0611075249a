"""Jobs. State changes are methods here, each with its guard."""

from __future__ import annotations

import math
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bulk_import.exceptions import Expired, JobPaused
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import PrimaryManager
from bulk_import.models.delivery import Channel, Delivery
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.status import ENDED, PAUSE_REASONS, TERMINAL_STATUSES, ChunkStatus, JobStatus
from bulk_import_wire.contract import Outcome, PauseCode
from bulk_import_wire.problems import merge_problems

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

MAX_PAUSE_SECONDS = 300
"""Of one pause; then a claim is let through to see. SQS can delay a message for 900 s."""

PAUSE_MAIL_AFTER = timedelta(minutes=10)
"""A pause that ends sooner is nobody's concern."""

MAX_CONCURRENCY = 256
"""Create calls in flight for one chunk; no monolith serves more from one client in less time."""

NOTIFY_NOBODY = "none"
"""The value of `notify` with which nobody is mailed, not even the submitter."""

COUNTED_OUTCOMES = tuple(Outcome)

RETAINED = ("payload", "failures", "ledger")
"""What is kept of a job beside its counts, until it expires: `<kind>_expired_at`."""


NO_PAUSE: dict[str, Any] = {"pause_code": "", "paused_at": None, "paused_until": None}


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

    def for_reports(self) -> Self:
        """Load what every report on a job shows: its counts and its submitter, in one query."""
        return self.with_counts().select_related("submitter")

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
        db_index=False,  # see Meta.indexes
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
    traceparent = models.CharField(max_length=55, blank=True)  # of the POST; the calls for its rows are of its trace
    problems = models.JSONField(_("problems"), default=list)
    corrects = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        related_name="corrections",
        verbose_name=_("corrects"),  # the job whose failures were mended and sent again as this one
    )
    notify = models.TextField(blank=True)  # whom else to mail, with commas between; NOTIFY_NOBODY for no mail at all
    concurrency = models.PositiveSmallIntegerField(
        _("concurrency"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CONCURRENCY)],
        help_text=_("The most create calls in flight for each chunk; empty for the setting. Takes effect at once."),
    )
    pause_code = models.CharField(_("paused because"), max_length=20, choices=PAUSE_REASONS, blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True)
    paused_until = models.DateTimeField(_("tried again at"), null=True)
    cancel_requested_at = models.DateTimeField(_("cancelled at"), null=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True)  # the first claim, since it was opened again if it was
    finished_rows_before = models.PositiveIntegerField(default=0)  # rows that had an outcome then, and keep it
    finished_at = models.DateTimeField(_("finished"), null=True)
    payload_expired_at = models.DateTimeField(null=True)
    failures_expired_at = models.DateTimeField(null=True)
    ledger_expired_at = models.DateTimeField(null=True)
    is_expiring = models.BooleanField(default=False)  # something that has expired is yet to be deleted

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
            # Few are open at a time, among all that ever were.
            models.Index(
                fields=["status"], condition=~Q(status__in=sorted(TERMINAL_STATUSES)), name="bulk_import_job_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target} {self.id}"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def is_paused(self) -> bool:
        return self.status == JobStatus.PAUSED

    @property
    def is_being_cancelled(self) -> bool:
        return not self.is_terminal and self.cancel_requested_at is not None

    @property
    def can_be_cancelled(self) -> bool:
        return not self.is_terminal and not self.cancel_requested_at

    @property
    def can_be_retried(self) -> bool:
        return self.is_terminal and self.status != JobStatus.SUCCEEDED and not self.expired

    @property
    def is_paused_by_staff(self) -> bool:
        """Whether staff paused the job: then it goes on when they say so, and not before."""
        return self.is_paused and self.pause_code == PauseCode.STAFF

    @property
    def recipients(self) -> list[str]:
        """Whom to mail about the job: its submitter, "" if there is no address, then whom they named.

        Nobody, if they wanted it so or are gone. The places in the list never change.
        """
        if self.submitter is None or self.notify == NOTIFY_NOBODY:
            return []
        return [self.submitter.email, *filter(None, self.notify.split(","))]

    @property
    def expired(self) -> dict[str, datetime]:
        """What has expired, and when: by then it is deleted, or about to be."""
        marks = {kind: getattr(self, f"{kind}_expired_at") for kind in RETAINED}
        return {kind: expired_at for kind, expired_at in marks.items() if expired_at}

    @property
    def finished_rows(self) -> int:
        """Rows with an outcome. Needs `with_counts`."""
        finished: int = sum(getattr(self, f"{outcome}_count") for outcome in COUNTED_OUTCOMES)
        return finished

    @property
    def counts(self) -> dict[str, int]:
        """Rows by outcome, and those still open as `pending`. Needs `with_counts`."""
        counts = {str(outcome): getattr(self, f"{outcome}_count") for outcome in COUNTED_OUTCOMES}
        counts["pending"] = self.rows - self.finished_rows
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

    def pause_by_worker(self, code: PauseCode, asked_seconds: int, first_seconds: int) -> tuple[int, timedelta]:
        """No row can be created now; returns the seconds until it is worth trying again, and how long it lasted so far.

        A first pause lasts `first_seconds`; one that goes on, as long again as it lasted so far; what the
        endpoint asked for at least. Call inside a transaction. Does nothing to a job that has ended, that is
        being cancelled, or that staff paused.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.is_paused_by_staff:
            return MAX_PAUSE_SECONDS, timedelta(0)
        if job.is_terminal or job.cancel_requested_at or code == PauseCode.STAFF:  # these resumed it meanwhile
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

    def mark_progress(self) -> None:
        """Rows are being created again. Changes nothing unless the job is paused, and not by staff."""
        paused = ImportJob.objects.filter(pk=self.pk, status=JobStatus.PAUSED).exclude(pause_code=PauseCode.STAFF)
        if paused.update(status=JobStatus.PROCESSING, **NO_PAUSE):
            self.cancel_pending_mail(EventKind.PAUSED)
            self.record(EventKind.RESUMED)

    def pause_by_staff(self, actor: Any) -> bool:
        """Staff pause the job until they let it go on; returns whether that changed anything.

        Workers hear of it with their next heartbeat. Call inside a transaction.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.can_be_cancelled or job.is_paused_by_staff:
            return False
        job.status, job.pause_code = JobStatus.PAUSED, PauseCode.STAFF
        job.paused_at, job.paused_until = job.paused_at or Now(), None
        job.save(update_fields=["status", *NO_PAUSE])
        job.cancel_pending_mail(EventKind.PAUSED)
        job.record(EventKind.PAUSED, note=PauseCode.STAFF, actor=actor)
        return True

    def resume_by_staff(self, actor: Any) -> bool:
        """Staff end a pause, whoever began it; returns whether that changed anything.

        Call inside a transaction; after it, `resend` the chunks, whose messages rest.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.status != JobStatus.PAUSED:
            return False
        job.status = JobStatus.PROCESSING if job.started_at else JobStatus.PENDING
        for name, value in NO_PAUSE.items():
            setattr(job, name, value)
        job.save(update_fields=["status", *NO_PAUSE])
        job.cancel_pending_mail(EventKind.PAUSED)
        job.record(EventKind.RESUMED, actor=actor)
        return True

    def cancel(self, actor: Any) -> bool:
        """Have no further row created; returns whether that changed anything.

        The calls in flight settle. The workers report what was not created, and with the last chunk the job
        has ended. Call inside a transaction; after it, `resend` the chunks, whose messages may rest.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.can_be_cancelled:
            return False
        job.cancel_requested_at = Now()
        if job.status == JobStatus.PAUSED:
            job.status = JobStatus.PROCESSING
        for name, value in NO_PAUSE.items():
            setattr(job, name, value)
        job.save(update_fields=["status", "cancel_requested_at", *NO_PAUSE])
        job.cancel_pending_mail(EventKind.PAUSED)
        job.record(EventKind.CANCELLED, actor=actor)
        return True

    def claim_probe(self, seconds: int) -> None:
        """Let one claim through to a paused job when its pause is over, and the next one `seconds` later.

        Raises JobPaused for the others.
        """
        paused = ImportJob.objects.filter(pk=self.pk, status=JobStatus.PAUSED)
        is_probe = paused.filter(paused_until__lte=Now()).update(paused_until=Now() + timedelta(seconds=seconds))
        pause_left = paused.annotate(left=F("paused_until") - Now()).values_list("left", flat=True).first()
        if paused.filter(pause_code=PauseCode.STAFF).exists():
            raise JobPaused(MAX_PAUSE_SECONDS)
        if pause_left is not None and not is_probe:
            raise JobPaused(max(1, math.ceil(pause_left.total_seconds())))

    def add_finished_chunk(self, chunk: ImportChunk) -> None:
        """A chunk has ended: take over its problems, and end the job if it was the last one.

        Call inside the transaction that ended the chunk.
        """
        job = ImportJob.objects.locked(self.pk)
        if job.is_terminal:
            return
        job.problems = merge_problems([job.problems, chunk.problems])
        dead = job.chunks.dead()
        if chunk.status == ChunkStatus.DEAD and not dead.exclude(pk=chunk.pk).exists():  # one mail tells of all
            job.record(EventKind.DEAD_LETTERED, note=str(chunk.number), mail_after=timedelta(0))
        if not job.chunks.exclude(status__in=ENDED).exists():
            totals = job.chunks.aggregate(created=Sum("created"), unprocessed=Sum("unprocessed"))
            if totals["created"] == job.rows:
                job.status = JobStatus.SUCCEEDED
            elif job.cancel_requested_at and totals["unprocessed"]:
                job.status = JobStatus.CANCELLED
            else:
                job.status = JobStatus.PARTIALLY_SUCCEEDED if totals["created"] else JobStatus.FAILED
            job.finished_at = Now()
            for name, value in NO_PAUSE.items():
                setattr(job, name, value)
            job.cancel_pending_mail()  # the one about the end says all that is left to say
            job.record(EventKind.ENDED, note=job.status, mail_after=timedelta(0))
        job.save()

    def redrive(self, actor: Any = None) -> int:
        """Open the dead chunks again, and with them the job; returns how many. Again changes nothing.

        Rows that were rejected or failed stay so. Call inside a transaction, and send the unsent chunks after it.
        """
        job = ImportJob.objects.locked(self.pk)
        return job.reopen(job.chunks.dead(), EventKind.REDRIVEN, actor)

    def retry(self, actor: Any = None) -> int:
        """Open every chunk with rows that were not created again; returns how many. Again changes nothing.

        Does nothing to a job that has not ended. Call as `redrive`.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.is_terminal:
            return 0
        # Without the key of what was settled before, every row is tried that the ledger does not hold.
        return job.reopen(job.chunks.filter(created__lt=F("row_count")), EventKind.RETRIED, actor, failures_key="")

    def reopen(self, chunks: models.QuerySet[ImportChunk], kind: EventKind, actor: Any, **fields: Any) -> int:
        """The common part of `redrive` and `retry`, which choose the chunks. The job must be `locked`.

        Raises Expired: without its ledger it would create everything twice, without its payload nothing.
        """
        if self.expired:
            raise Expired(gettext("The rows of this import are no longer kept. Send them as a new import."))
        reopened = chunks.update(status=ChunkStatus.PENDING, problems=[], rejected=0, failed=0, unprocessed=0, **fields)
        if reopened:
            self.problems = merge_problems(self.chunks.filter(status__in=ENDED).values_list("problems", flat=True))
            if self.is_terminal:
                self.status, self.cancel_requested_at = JobStatus.PENDING, None
                self.started_at = self.finished_at = None
                self.finished_rows_before = ImportJob.objects.with_counts().get(pk=self.pk).finished_rows
            self.save()
            self.cancel_pending_mail()  # it would tell of an end that is none
            self.record(kind, actor=actor)
        return reopened

    def expire(self, kinds: Collection[str]) -> bool:
        """Give up what is kept of these kinds; returns whether all of `expired` may be deleted now.

        It may not when the job was reopened since it was read. Again changes nothing. Call inside a transaction.
        """
        job = ImportJob.objects.locked(self.pk)
        if not job.is_terminal or job.finished_at != self.finished_at:
            return False
        if new := [f"{kind}_expired_at" for kind in kinds if kind not in job.expired]:
            ImportJob.objects.filter(pk=self.pk).update(**dict.fromkeys(new, Now()), is_expiring=True)
        self.refresh_from_db(fields=[f"{kind}_expired_at" for kind in RETAINED])
        return True

    def mark_deleted(self) -> None:
        """All of `expired` is deleted. Changes nothing if more has expired meanwhile."""
        kept = {f"{kind}_expired_at": None for kind in RETAINED if kind not in self.expired}
        ImportJob.objects.filter(pk=self.pk, **kept).update(is_expiring=False)

    def cancel_pending_mail(self, *kinds: EventKind) -> None:
        """Cancel the emails that were not sent yet: those about events of these kinds, or all of them."""
        emails = Delivery.objects.filter(event__job=self, channel=Channel.EMAIL)
        emails.filter(event__kind__in=kinds or EventKind.values).delete()

    def record(
        self, kind: EventKind, *, note: str = "", actor: Any = None, mail_after: timedelta | None = None
    ) -> None:
        """Record an event of this job and its deliveries; see `ImportEventManager.record`."""
        ImportEvent.objects.record(self, kind, note=note, actor=actor, mail_after=mail_after)
