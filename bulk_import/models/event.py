"""What happened to a job: its timeline, and the mails, webhooks and signals owed for it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from bulk_import.models.database import PrimaryManager
from bulk_import.models.status import PAUSE_REASONS, JobStatus


class EventKind(models.TextChoices):
    PAUSED = "paused", _("paused")
    RESUMED = "resumed", _("resumed")
    DEAD_LETTERED = "dead_lettered", _("dead-lettered")
    REDRIVEN = "redriven", _("redriven")
    CANCELLED = "cancelled", _("cancelled")
    ENDED = "ended", _("ended")
    RETRIED = "retried", _("retried")


class ImportEvent(models.Model):
    """Something that happened to a job and that people may want to know of: its timeline.

    `…_due_at` is set as long as a mail, a webhook or a signal about it is owed; see `debts`. The note of an end
    is the status that the job ended with.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey("bulk_import.ImportJob", on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(_("event"), max_length=20, choices=EventKind.choices)
    at = models.DateTimeField(_("time"), auto_now_add=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+", verbose_name=_("who")
    )
    note = models.CharField(_("note"), max_length=100, blank=True)
    mail_due_at = models.DateTimeField(null=True)
    mailed = models.JSONField(default=list)  # which of the job's recipients, by their place, have this mail already
    webhook_due_at = models.DateTimeField(null=True)
    signal_due_at = models.DateTimeField(null=True)

    objects = PrimaryManager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["at"]
        indexes = [
            models.Index(fields=[f"{debt}_due_at"], condition=Q(**{f"{debt}_due_at__isnull": False}), name=name)
            for debt, name in [
                ("mail", "bulk_import_event_mail_due"),
                ("webhook", "bulk_import_event_hook_due"),
                ("signal", "bulk_import_event_signal_due"),
            ]
        ]

    def __str__(self) -> str:
        return f"{self.job_id} {self.kind}"

    @property
    def reason(self) -> str:
        """The note for people."""
        words = {**PAUSE_REASONS, **dict(JobStatus.choices)}
        return str(words.get(self.note, self.note))
