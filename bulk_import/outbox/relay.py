"""From the database to the outside: the messages of chunks that are not on the queue, and what events owe.

The commit of a new job sends its messages, the commit of a finished chunk its signal and mails. `sweep` comes
behind them, for whatever their process did not live to send, or the queue or mail server did not take. Webhooks are
sent by the sweep alone, because their receiver may be slow. Sending a message twice is harmless: a claim is exclusive.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction
from django.db.models.functions import Now

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, database
from bulk_import.outbox import delivery
from bulk_import.outbox.notifications import send_due_mails
from bulk_import.outbox.queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.outbox.webhooks import send_due_webhooks
from bulk_import.signals import job_finished

if TYPE_CHECKING:
    from uuid import UUID

    from bulk_import.models import ImportEvent

FAST_PATH_SECONDS = 5
"""What a job's own process has for sending its messages, before a sweep takes them for forgotten."""

PAGE_BATCHES = 20
"""How many batches of messages are read from the database at once: those of 100,000 rows in chunks of 500."""


SENDERS = 4
"""Batches that are under way to SQS at the same time: each is little more than waiting."""


class Sent(NamedTuple):
    """How many of each a sweep has sent."""

    messages: int
    mails: int
    webhooks: int
    signals: int


def sweep() -> Sent:
    """Send all that is owed. Raises QueueUnavailable, after everything else."""
    try:
        messages = send_unsent_chunks()
    finally:  # who may take longest comes last: the monolith's own receivers have no time-out
        mails = send_due_mails()
        webhooks = send_due_webhooks()
        signals = send_due_signals()
    return Sent(messages, mails, webhooks, signals)


def send_job_notifications(job_id: UUID) -> None:
    """Send what the events of a job owe that can be sent while a worker waits for its answer."""
    send_due_signals(job_id)
    send_due_mails(job_id)


def send_due_signals(job_id: UUID | None = None) -> int:
    """Send the signals that are due, of one job or of all; returns how many."""
    return delivery.deliver_due("signal", send_signal, job_id=job_id)


def send_signal(event: ImportEvent) -> None:
    """Call the receivers of `job_finished`, unless the end was undone. Django logs what they raise."""
    job = ImportJob.objects.for_reports().get(pk=event.job_id)
    if job.is_terminal:
        job_finished.send_robust(sender=ImportJob, job=job, event_id=event.pk)


def send_after_commit(job_id: UUID) -> None:
    # Robust: whatever goes wrong there is logged. What was promised stands, and the relay sends it later.
    transaction.on_commit(lambda: send_unsent_chunks(job_id), using=database(), robust=True)


def send_unsent_chunks(job_id: UUID | None = None) -> int:
    """Send the unsent chunks of one job, or of all that had their time; returns how many. Raises QueueUnavailable."""
    unsent = ImportChunk.objects.unsent().select_related("job").defer("job__problems", "problems")
    if job_id:
        unsent = unsent.filter(job_id=job_id)
    else:
        unsent = unsent.filter(job__created_at__lt=Now() - timedelta(seconds=FAST_PATH_SECONDS))
    total = 0
    while chunks := list(unsent[: PAGE_BATCHES * MAX_BATCH_MESSAGES]):
        sent: set[str] = set()
        batches = [chunks[first : first + MAX_BATCH_MESSAGES] for first in range(0, len(chunks), MAX_BATCH_MESSAGES)]
        try:
            with ThreadPoolExecutor(min(SENDERS, len(batches))) as senders:
                for taken in senders.map(send_messages, batches):
                    sent |= taken
        finally:
            # A worker may have claimed a chunk by now; then it is past being queued.
            pending = ImportChunk.objects.filter(pk__in=sent, status=ChunkStatus.PENDING)
            pending.update(status=ChunkStatus.QUEUED)
        total += len(sent)
        for job in {chunk.job_id: chunk.job for chunk in chunks}.values():
            job.mark_queued()
    return total
