"""Delivers the emails and webhooks in the transactional outbox.

An event and its pending deliveries are written in the same transaction as the change that they report, so no
notification is lost when a process dies. Delivery is at least once. A recipient gets a duplicate only if the process
dies between sending and deleting the record, or if one attempt takes longer than RETRY_AFTER.
"""

from __future__ import annotations

import logging
import math
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone

from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import Channel, Delivery
from bulk_import.models.delivery import GIVE_UP_AFTER
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

logger = logging.getLogger(__name__)

RETRY_AFTER = timedelta(minutes=2)
"""Delay before the first retry. It is also the shortest time that a process has for one attempt. After that time, the
delivery is due again, because the process may have died."""

MAX_RETRY_AFTER = timedelta(hours=6)
"""Upper limit for the exponential backoff between two attempts."""

MAX_PER_RUN = 1000
"""Maximum number of deliveries per call of `deliver_due`, so that it needs little memory. The next call continues."""


def deliver_due(
    channel: Channel,
    send: Callable[[Delivery], None],
    *,
    job_id: UUID | None = None,
    seconds: float = math.inf,
) -> int:
    """Attempt every delivery of this channel that is due, and return how many succeeded.

    Failed deliveries stay in the outbox and are attempted again later. `send` may raise any exception; it raises
    DeliveryFailed if the receiver refused. If it returns without sending anything, because the notification is no
    longer needed, that counts as a success. With `job_id`, only the deliveries of this job are attempted. No new
    attempt starts after `seconds` seconds.
    """
    due = Delivery.objects.due(channel).select_related("event")
    if job_id:
        due = due.filter(event__job_id=job_id)
    stop_at = time.monotonic() + seconds
    succeeded = 0
    for delivery in due[:MAX_PER_RUN]:
        if time.monotonic() >= stop_at:
            break
        delay = backoff(delivery.attempts)
        if delivery.claim(delay) and attempt(delivery, send, retry_in=delay):
            succeeded += 1
    return succeeded


def attempt(delivery: Delivery, send: Callable[[Delivery], None], *, retry_in: timedelta) -> bool:
    """Send a claimed delivery and delete its record. Log a failure. Return whether the delivery succeeded."""
    event = delivery.event
    is_last = timezone.now() + retry_in > event.at + GIVE_UP_AFTER
    next_step = "We stop trying." if is_last else f"The next attempt is in {retry_in}."
    with log_context(job_id=str(event.job_id)):
        try:
            send(delivery)
        except DeliveryFailed as reason:
            logger.warning(
                "The %s about job %s was not delivered: %s. %s", delivery.channel, event.job_id, reason, next_step
            )
        except Exception:  # `send` calls code that is not ours, such as a serializer
            logger.exception("The %s about job %s could not be sent. %s", delivery.channel, event.job_id, next_step)
        else:
            Delivery.objects.filter(pk=delivery.pk).delete()
            return True
    return False


def backoff(attempts: int) -> timedelta:
    """Return the delay after an attempt that follows `attempts` earlier ones: about 2, 4, 8, … minutes.

    Up to a quarter of the delay is random, so that deliveries that failed together are not all retried together.
    """
    jitter = random.uniform(1, 1.25)  # noqa: S311 - not used for security
    delay = timedelta(seconds=round(RETRY_AFTER.total_seconds() * 2**attempts * jitter))
    return min(delay, MAX_RETRY_AFTER)
