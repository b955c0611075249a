"""The transactional outbox: one record for each email or webhook that has not been delivered yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from bulk_import.models.database import PrimaryManager

GIVE_UP_AFTER = timedelta(days=3)
"""Age of an event at which we stop trying. By then the address is probably wrong."""

SUBMITTER = "submitter"
"""The `recipient` of the email to the job's submitter. The address is read only when the email is sent."""


class Channel(models.TextChoices):
    EMAIL = "email"
    WEBHOOK = "webhook"


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self, channel: Channel) -> Self:
        """Return the deliveries of this channel that can be attempted now, the longest overdue first."""
        pending = self.filter(channel=channel, due_at__lte=Now(), event__at__gt=Now() - GIVE_UP_AFTER)
        return pending.order_by("due_at", "pk")


class Delivery(models.Model):
    """An email to one recipient, or a webhook, about one event.

    The record is written in the transaction that writes the event, and deleted when the delivery has succeeded or is
    no longer needed. A delivery that is abandoned after GIVE_UP_AFTER keeps its record, so that the metrics show it.
    """

    event = models.ForeignKey("bulk_import.ImportEvent", on_delete=models.CASCADE, related_name="deliveries")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    recipient = models.CharField(max_length=254, blank=True)  # SUBMITTER or an email address; "" for a webhook
    due_at = models.DateTimeField()  # the time of the next attempt
    attempts = models.PositiveSmallIntegerField(default=0)  # attempts that have started

    objects = PrimaryManager.from_queryset(DeliveryQuerySet)()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        indexes = [models.Index(fields=["channel", "due_at"], name="bulk_import_delivery_due")]

    def __str__(self) -> str:
        return f"{self.channel} about event {self.event_id}"

    def claim(self, delay: timedelta) -> bool:
        """Reserve the next attempt for this process by moving `due_at` forward. Return whether that succeeded.

        Of several processes that read the same due delivery, only the first changes the record: for the others,
        `due_at` is already in the future. If this process dies, the delivery is due again after `delay`.
        """
        # The condition must name a column of this table only. With a subquery or a join, PostgreSQL does not
        # check it again after waiting for another process's update, and two processes would claim the delivery.
        due = Delivery.objects.filter(pk=self.pk, due_at__lte=Now())
        return bool(due.update(due_at=Now() + delay, attempts=F("attempts") + 1))
