"""What is stored about a job, and what can be read from it.

This module has the columns, indexes and read-only properties of a job. `bulk_import.models.job` adds the state changes.
They are two modules because most readers need only one of them: reports, emails and the admin read a job, while the
worker API and `operations` change it under locks.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from bulk_import.models.chunk_columns import LOST_WORKER_DELAY
from bulk_import.models.job_queryset import ImportJobManager, ImportJobQuerySet
from bulk_import.models.status import (
    ON_EXISTING,
    PAUSE_REASONS,
    PAUSES_UNTIL_RESUMED,
    TERMINAL_STATUSES,
    JobMode,
    JobStatus,
)
from bulk_import_wire.contract import LEDGER_OUTCOMES, Outcome, PauseCode

if TYPE_CHECKING:
    from datetime import datetime, timedelta

MAX_CONCURRENCY = 256
"""Upper limit for the simultaneous create calls of one chunk. One client gains nothing from more."""

NOTIFY_NOBODY = "none"
"""Value of `notify` for a job about which nobody gets an email, not even its submitter."""

RETAINED_DATA = ("payload", "failures", "ledger")
"""The kinds of data of a job, each with a retention period of its own.

The column `<name>_expired_at` says when this data expired.
"""


class OutcomeCount:
    """An attribute such as `created_count` of a job: the number of its rows with this outcome. Needs `with_counts`."""

    def __set_name__(self, _owner: type, name: str) -> None:
        self._outcome = name.removesuffix("_count")

    def __get__(self, job: JobColumns, _owner: type) -> int:
        return job.totals[self._outcome] if job.totals else 0


class JobColumns(models.Model):
    """One accepted POST to a bulk endpoint. Its ID is a random UUID4, so nobody can guess it."""

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    target = models.CharField(_("target"), max_length=100)
    submitter = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        # The site may delete a user without asking us. The job stays, but it can no longer create rows.
        on_delete=models.SET_NULL,
        null=True,
        db_index=False,  # see Meta.indexes
        related_name="+",
        verbose_name=_("submitter"),
    )
    file_name = models.CharField(_("file"), max_length=255, blank=True)  # of the upload; "" if it was no file
    language = models.CharField(_("language"), max_length=20)
    host = models.TextField(blank=True)  # of the POST, validated by ALLOWED_HOSTS; "" if the job has no request
    mode = models.CharField(_("mode"), max_length=6, choices=JobMode.choices, default=JobMode.CREATE)
    rehearsal = models.BooleanField(_("rehearsal"), default=False)  # every call is rolled back
    status = models.CharField(_("status"), max_length=20, choices=JobStatus.choices, default=JobStatus.PENDING)
    rows = models.PositiveIntegerField(_("rows"))
    payload_bucket = models.CharField(max_length=63)
    payload_key = models.CharField(max_length=1024)
    payload_etag = models.CharField(max_length=100)
    idempotency_key = models.CharField(max_length=255, blank=True)  # the client's header; "" if it sent none
    request_sha256 = models.BinaryField(max_length=32)  # of the request that the key is valid for; b"" without a key
    traceparent = models.CharField(max_length=55, blank=True)  # W3C trace context of the POST and its create calls
    problems = models.JSONField(_("problems"), default=list)
    reading = models.JSONField(default=dict)  # how the file was read, see `reports.reading`
    corrects = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        related_name="corrections",
        verbose_name=_("corrects"),  # the job whose failed rows were corrected and sent again as this job
    )
    runs = models.OneToOneField(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        related_name="run",
        verbose_name=_("runs"),  # the rehearsal whose rows this job imports
    )
    undoes = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        related_name="undos",
        verbose_name=_("undoes"),  # the job whose objects this job deletes
    )
    notify = models.TextField(blank=True)  # further email addresses, separated by commas, or NOTIFY_NOBODY
    concurrency = models.PositiveSmallIntegerField(
        _("concurrency"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_CONCURRENCY)],
        help_text=_(
            "Maximum number of simultaneous create calls for each chunk. "
            "Leave empty to use the CONCURRENCY setting. Takes effect immediately."
        ),
    )
    pause_code = models.CharField(_("paused because"), max_length=20, choices=PAUSE_REASONS, blank=True)
    paused_at = models.DateTimeField(_("paused since"), null=True)
    paused_until = models.DateTimeField(_("next attempt at"), null=True)
    tried_since_resume = models.PositiveIntegerField(default=0)  # rows with an outcome since the last pause ended
    failed_since_resume = models.PositiveIntegerField(default=0)  # those of them that failed
    front_at = models.DateTimeField(null=True)  # when staff moved it to the front; see `fair_choice`
    cancel_requested_at = models.DateTimeField(_("cancelled at"), null=True)
    created_at = models.DateTimeField(pgettext_lazy("date", "created"), auto_now_add=True)
    started_at = models.DateTimeField(_("started"), null=True)  # the first claim, or the first one since a retry
    finished_rows_before = models.PositiveIntegerField(default=0)  # rows that had an outcome before the last retry
    finished_at = models.DateTimeField(_("finished"), null=True)
    payload_expired_at = models.DateTimeField(null=True)
    failures_expired_at = models.DateTimeField(null=True)
    ledger_expired_at = models.DateTimeField(null=True)
    is_expiring = models.BooleanField(default=False)  # some expired data still has to be deleted

    # Annotated by `with_counts`.
    totals: dict[str, int] | None  # the number of rows for each outcome; None if the job has no chunk
    worker_lost_at: datetime | None  # the last heartbeat of the first worker that was lost; None if none is lost
    lost_lease_ends_at: datetime | None  # when the first lease of a lost worker ends or has ended

    # Annotated by `for_reports`.
    corrected_by: uuid.UUID | None  # the newest job that corrects this one
    corrected_rows: int  # the rows of the largest import that corrects this job
    undone_by: uuid.UUID | None  # the newest job that undoes this one
    undone_at: datetime | None  # when that job was accepted
    run_by: uuid.UUID | None  # the job that imports the rows of this rehearsal
    resumed_at: datetime | None = None  # when the last pause ended; only with `for_reports`

    # These need `with_counts`.
    created_count = OutcomeCount()
    updated_count = OutcomeCount()
    unchanged_count = OutcomeCount()
    deleted_count = OutcomeCount()
    rejected_count = OutcomeCount()
    failed_count = OutcomeCount()
    unprocessed_count = OutcomeCount()

    # Annotated by `locked`.
    paused_for: timedelta | None

    # Set by `window.note_imports_ahead`.
    imports_ahead: int | None

    objects = ImportJobManager.from_queryset(ImportJobQuerySet)()

    class Meta:
        abstract = True
        # Also `chunk.job` must read from the primary database: a replica may not have the latest status yet.
        base_manager_name = "objects"
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
            # A partial index stays small: only a few of all jobs are open at any time.
            models.Index(
                fields=["status"], condition=~Q(status__in=sorted(TERMINAL_STATUSES)), name="bulk_import_job_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.target} {self.id}"

    def annotate_as_new(self) -> None:
        """Set what `for_reports` would annotate if nothing has happened to the job since it was created."""
        self.totals = None
        self.worker_lost_at = self.lost_lease_ends_at = None
        self.corrected_by = self.undone_by = self.undone_at = self.run_by = self.resumed_at = None
        self.corrected_rows = 0

    @property
    def on_existing(self) -> str | None:
        """What happens to a row whose object exists: "update", "skip" or "stop". None if the mode is not `upsert`."""
        return ON_EXISTING.get(self.mode)

    @property
    def api_mode(self) -> str:
        """The mode as the API calls it, where `upsert` is one mode whatever its `on_existing` is."""
        return JobMode.UPSERT.value if self.mode in ON_EXISTING else self.mode

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def is_paused(self) -> bool:
        return self.status == JobStatus.PAUSED

    @property
    def is_paused_by_staff(self) -> bool:
        """Whether staff paused the job. Such a pause ends only when staff resume or somebody cancels the job."""
        return self.is_paused and self.pause_code == PauseCode.STAFF

    @property
    def is_paused_until_resumed(self) -> bool:
        """Whether only a person can end the pause. No row is created before that."""
        return self.is_paused and self.pause_code in PAUSES_UNTIL_RESUMED

    @property
    def can_be_resumed(self) -> bool:
        """Whether the submitter can end the pause: only one that the circuit breaker began."""
        return self.is_paused and self.pause_code == PauseCode.MOST_ROWS_FAILED

    @property
    def is_being_cancelled(self) -> bool:
        return not self.is_terminal and self.cancel_requested_at is not None

    @property
    def can_be_cancelled(self) -> bool:
        return not self.is_terminal and not self.cancel_requested_at

    @property
    def can_be_moved_to_front(self) -> bool:
        return self.can_be_cancelled and self.front_at is None

    @property
    def can_be_retried(self) -> bool:
        return self.is_terminal and self.status != JobStatus.SUCCEEDED and not self.expired

    @property
    def can_be_corrected(self) -> bool:
        """Whether the job has rows that can be corrected and sent again. Needs `with_counts`."""
        if not self.is_terminal or self.mode == JobMode.UNDO or "payload" in self.expired:
            return False
        return self.rehearsal or (self.done_count < self.rows and "ledger" not in self.expired)

    @property
    def recipients(self) -> list[str]:
        """The email addresses to notify: first the submitter's ("" if the user has none), then those in `notify`.

        The list is empty if the submitter wanted no emails, was deleted or is disabled. Otherwise the first entry
        is always the submitter's, so `recipients[1:]` are the other recipients.
        """
        if self.submitter is None or not self.submitter.is_active or self.notify == NOTIFY_NOBODY:
            return []
        return [self.submitter.email, *filter(None, self.notify.split(","))]

    @property
    def expired(self) -> dict[str, datetime]:
        """The retained data that has expired, with the time of expiry. It is deleted, or will be soon."""
        marks = {name: getattr(self, f"{name}_expired_at") for name in RETAINED_DATA}
        return {name: expired_at for name, expired_at in marks.items() if expired_at}

    @property
    def done_count(self) -> int:
        """The number of rows that have a ledger record. Needs `with_counts`."""
        done: int = sum(getattr(self, f"{outcome}_count") for outcome in LEDGER_OUTCOMES)
        return done

    @property
    def finished_rows(self) -> int:
        """The number of rows that have an outcome. Needs `with_counts`."""
        finished: int = sum(getattr(self, f"{outcome}_count") for outcome in Outcome)
        return finished

    @property
    def worker_resumes_at(self) -> datetime | None:
        """When the chunk of a lost worker is sent to another worker, or None if no worker is lost.

        The relay sends it, at its first run after this time. Needs `with_counts`.
        """
        if not self.lost_lease_ends_at or self.is_terminal or self.is_paused:
            return None
        return self.lost_lease_ends_at + LOST_WORKER_DELAY

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows for each outcome, and as `pending` the rows without one. Needs `with_counts`."""
        counts = {str(outcome): getattr(self, f"{outcome}_count") for outcome in Outcome}
        counts["pending"] = self.rows - sum(counts.values())
        return counts
