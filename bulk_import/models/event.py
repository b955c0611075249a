"""Events: what happened to a job. They are its timeline, and the reason for emails, webhooks and signals."""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from bulk_import.conf import conf
from bulk_import.models.database import PrimaryManager, database
from bulk_import.models.delivery import SUBMITTER, Channel, Delivery
from bulk_import.models.status import PAUSE_REASONS, JobStatus
from bulk_import.signals import job_finished
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from bulk_import.models.job import ImportJob

logger = logging.getLogger(__name__)


MAIL_PERIOD = timedelta(hours=1)
MAX_MAILS = 4
"""Maximum number of emails that one recipient gets in MAIL_PERIOD about one job, however often the job is retried."""


class EventKind(models.TextChoices):
    PAUSED = "paused", _("paused")
    RESUMED = "resumed", _("resumed")
    DEAD_LETTERED = "dead_lettered", _("dead-lettered")
    REDRIVEN = "redriven", _("redriven")
    CANCELLED = "cancelled", _("cancelled")
    ENDED = "ended", _("ended")
    RETRIED = "retried", _("retried")
    MOVED_TO_FRONT = "moved_to_front", _("moved to the front")
    MOVED_BACK = "moved_back", _("moved back to its turn")
    RUN = "run", _("run as import")
    UNDONE = "undone", _("undone by")


KINDS_WITHOUT_WEBHOOK = frozenset(
    {EventKind.CANCELLED, EventKind.MOVED_TO_FRONT, EventKind.MOVED_BACK, EventKind.RUN, EventKind.UNDONE}
)
"""The events that no webhook reports. A cancelled job still has to end, and the webhook about its end reports the
cancellation. Moving a job to the front or back changes nothing about the job itself. The job that runs a rehearsal, or
that undoes an import, has webhooks of its own."""


class ImportEventManager(PrimaryManager):
    def record(
        self,
        job: ImportJob,
        kind: EventKind,
        *,
        note: str = "",
        actor: Any = None,
        mail_after: timedelta | None = None,
        rows: int = 0,
    ) -> ImportEvent:
        """Create an event together with its deliveries, and return it.

        `actor` is the user who caused the event, or None. The job's recipients get an email when `mail_after` has
        passed; with None, no email is sent. If a webhook URL is configured, the receiver gets a webhook as soon as
        possible. When a job has ended that is no rehearsal, the signal `job_finished` is sent after the transaction is
        committed.

        Call this in the transaction that makes the change, so that the event and its deliveries are stored if and only
        if the change is.
        """
        with transaction.atomic(using=database(), savepoint=False):
            if mail_after is not None:
                mail_after = max(mail_after, self.mail_delay(job))
            event: ImportEvent = self.create(job=job, kind=kind, note=note, actor=actor, rows=rows)
            deliveries = []
            if mail_after is not None and job.recipients:
                # SQLite compares times as text, and there Now() plus a duration has more digits than Now(). Now() plus
                # zero would therefore be later than Now(), and the email would not be due immediately.
                due_at = Now() + mail_after if mail_after else Now()
                deliveries += [
                    Delivery(event=event, channel=Channel.EMAIL, recipient=recipient, due_at=due_at)
                    for recipient in [SUBMITTER, *job.recipients[1:]]
                ]
            if conf().webhook_url and kind not in KINDS_WITHOUT_WEBHOOK:
                deliveries.append(Delivery(event=event, channel=Channel.WEBHOOK, due_at=Now()))
            Delivery.objects.bulk_create(deliveries)
            if kind == EventKind.ENDED and not job.rehearsal:
                # With robust=True, Django logs an error instead of raising it. By then the job has already ended.
                transaction.on_commit(lambda: send_job_finished(event), using=database(), robust=True)
        with log_context(job_id=str(job.pk)):
            logger.info("Job %s: %s%s", job.pk, kind.value, f" ({note})" if note else "")
        return event

    def mail_delay(self, job: ImportJob) -> timedelta:
        """Return how long the next email about the job has to wait, so that at most MAX_MAILS are sent in MAIL_PERIOD.

        An email that waits is not lost. If the job is retried in the meantime, the email about its next end replaces
        it.
        """
        now = timezone.now()
        recent = self.filter(job=job, kind__in=[EventKind.ENDED, EventKind.DEAD_LETTERED], at__gt=now - MAIL_PERIOD)
        oldest = recent.order_by("-at").values_list("at", flat=True)[MAX_MAILS - 1 : MAX_MAILS].first()
        return timedelta(0) if oldest is None else oldest + MAIL_PERIOD - now


class ImportEvent(models.Model):
    """Something that happened to a job.

    `note` gives the detail: for a pause its reason, for an end the status with which the job ended, for a
    dead-lettered chunk its number, and for a run or an undo the ID of its job.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey("bulk_import.ImportJob", on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(_("event"), max_length=20, choices=EventKind.choices)
    at = models.DateTimeField(_("time"), auto_now_add=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("who")
    )
    note = models.CharField(_("note"), max_length=100, blank=True)
    rows = models.PositiveIntegerField(_("rows"), default=0)  # of a retry or redrive: the rows that run again

    objects = ImportEventManager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["at"]

    def __str__(self) -> str:
        return f"{self.job_id} {self.kind}"

    @property
    def reason(self) -> str:
        """The note as a text for people, in the active language."""
        words = {**PAUSE_REASONS, **dict(JobStatus.choices)}
        return str(words.get(self.note, self.note))


def send_job_finished(event: ImportEvent) -> None:
    """Call the receivers of `job_finished` with the job as it is now. Django logs the errors that they raise."""
    job_model = type(event.job)
    if job_finished.has_listeners(job_model):
        job = job_model.objects.for_reports().get(pk=event.job_id)
        job_finished.send_robust(sender=job_model, job=job, event_id=event.pk)
