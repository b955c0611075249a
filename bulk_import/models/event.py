"""What happened to a job: its timeline, and the mails owed for it."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from bulk_import.models.database import PrimaryManager


class EventKind(models.TextChoices):
    PAUSED = "paused", _("paused")
    RESUMED = "resumed", _("resumed")
    DEAD_LETTERED = "dead_lettered", _("dead-lettered")
    REDRIVEN = "redriven", _("redriven")
    CANCELLED = "cancelled", _("cancelled")
    ENDED = "ended", _("ended")
    RETRIED = "retried", _("retried")


class ImportEvent(models.Model):
    """Something that happened to a job and that people may want to know of: its timeline, and its mails.

    `mail_due_at` is set as long as a mail about it is owed; see `notifications`.
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
