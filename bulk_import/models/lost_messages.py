"""Decides when the message of a chunk counts as lost, so that the relay sends another one.

SQS itself loses no message. But an operator may purge the queue, and SQS deletes messages after the queue's retention.
Nobody can ask SQS for a certain message, so only time tells: a message counts as lost if no worker has claimed its
chunk for 15 minutes. That may be wrong, because workers may be stopped or busy. Then the chunk has two messages, which
is harmless. It must not get a third one too soon, so each further message waits as long as the chunk has waited
already, but at most an hour.

Example: no worker runs for a day. A chunk gets further messages after 15 and 30 minutes, and then after each hour.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, Greatest, Least, Now

from bulk_import.conf import conf
from bulk_import.models.chunk import ImportChunk
from bulk_import.models.status import TERMINAL_STATUSES, ChunkStatus, JobStatus
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from django.db.models import QuerySet

MESSAGE_TIMEOUT = timedelta(minutes=15)
"""Shortest time after which a message counts as lost. A delayed message arrives within this time: SQS delays it for at
most 15 minutes. Usually a worker takes a message within seconds, because at most one window of messages is on the
queue."""

MAX_MESSAGE_TIMEOUT = timedelta(hours=1)
"""Longest time after which a message counts as lost. So nobody waits for longer after the queue was purged."""


def chunks_with_lost_messages() -> QuerySet[ImportChunk]:
    """Return the chunks that no worker has claimed for so long that their last message counts as lost.

    Whoever sends them another message sets their `replaced_at`.
    """
    # A chunk that was released, or got a place again, has a `replaced_at` of an earlier wait. Then `queued_at` counts.
    last_message_at = Coalesce(Greatest("queued_at", "replaced_at"), "queued_at")  # SQLite's is NULL if one of them is
    waited_before = last_message_at - F("queued_at")
    timeout = Greatest(Value(MESSAGE_TIMEOUT), Least(waited_before, Value(MAX_MESSAGE_TIMEOUT)))
    waiting = ImportChunk.objects.filter(_job_expects_claims(), status=ChunkStatus.QUEUED)
    return waiting.alias(since_last_message=Now() - last_message_at).filter(since_last_message__gt=timeout)


def _job_expects_claims() -> Q:
    """Return the condition that the chunk's job has not ended, and that it is not paused or its pause is over.

    The messages of a paused job arrive when its pause is over, and the first claim then moves `paused_until`. The
    circuit breaker sets no `paused_until`: after the longest pause, the first claim gives the job up.
    """
    long_ago = Now() - MESSAGE_TIMEOUT
    gives_up_at = long_ago - timedelta(hours=conf().max_pause_hours)
    is_over = Q(job__paused_until__lt=long_ago) | Q(
        job__pause_code=PauseCode.MOST_ROWS_FAILED, job__paused_at__lt=gives_up_at
    )
    return ~Q(job__status__in=TERMINAL_STATUSES) & (~Q(job__status=JobStatus.PAUSED) | is_over)
