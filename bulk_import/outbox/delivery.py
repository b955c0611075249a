"""What events owe to people and programs: a mail, a webhook, a signal.

Each is owed from the commit of what it tells of until it was taken. So it comes at least once; again only if
the process died before it had noted that it was taken, or if taking it lasted longer than RETRY_AFTER.
"""

from __future__ import annotations

import logging
import math
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from django.db.models.functions import Now
from django.utils import timezone

from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import ImportEvent
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

logger = logging.getLogger(__name__)

RETRY_AFTER = timedelta(minutes=2)
"""How long one process has for sending one of them, and how soon one that was not taken is tried again, at least."""

MAX_RETRY_AFTER = timedelta(hours=6)
"""However long it is owed already."""

GIVE_UP_AFTER = timedelta(days=3)
"""Since the event. Nobody takes it any more: the address may be wrong."""

MAX_PER_RUN = 1000
"""Of one kind, in one sweep; the next one goes on."""


def deliver_due(
    channel: Literal["mail", "webhook", "signal"],
    send: Callable[[ImportEvent], None],
    *,
    job_id: UUID | None = None,
    seconds: float = math.inf,
) -> int:
    """Send what is due of one kind, of one job or of all; returns how many were taken. The others stay owed.

    `send` raises DeliveryFailed, or whatever else. After so many seconds nothing more is begun.
    """
    due_at = f"{channel}_due_at"  # a column of ImportEvent
    due = ImportEvent.objects.filter(**{f"{due_at}__lte": Now(), "at__gt": Now() - GIVE_UP_AFTER}).order_by(due_at)
    if job_id:
        due = due.filter(job_id=job_id)
    stop_at = time.monotonic() + seconds
    taken = 0
    for event in due[:MAX_PER_RUN]:
        if time.monotonic() >= stop_at:
            break
        rest = retry_delay(timezone.now() - event.at)
        # Whoever moves the time on has it to send; if that process dies, a later sweep finds it due again.
        if not due.filter(pk=event.pk).update(**{due_at: Now() + rest}):
            continue
        is_last = timezone.now() + rest > event.at + GIVE_UP_AFTER
        fate = "it is given up" if is_last else f"it is tried again in {rest}"
        with log_context(job_id=str(event.job_id)):
            try:
                send(event)
            except DeliveryFailed as reason:
                logger.warning("The %s about job %s was not taken, %s; %s", channel, event.job_id, reason, fate)
            except Exception:  # whatever a mail backend raises
                logger.exception("The %s about job %s could not be sent; %s", channel, event.job_id, fate)
            else:
                ImportEvent.objects.filter(pk=event.pk).update(**{due_at: None})
                taken += 1
    return taken


def retry_delay(age: timedelta) -> timedelta:
    """How long something of this age rests before it is tried again: about as long as it is owed already.

    Not exactly, so that what failed together does not come together again.
    """
    about = age * random.uniform(0.75, 1.25)  # noqa: S311 - nobody gains by guessing it
    return min(max(about, RETRY_AFTER), MAX_RETRY_AFTER)
