"""The relay: sends the SQS messages, emails and webhooks that are in the database and have not been sent yet.

There is a fast path and a sweep. The process that accepts a job sends the job's messages right after the commit, and
the process that finishes a chunk sends the job's emails. `sweep` sends what these processes could not send, because
they died or because SQS or the mail server did not accept it. Only the sweep sends webhooks, because a slow receiver
must not keep a worker waiting. Sending a message twice is harmless: only one worker at a time can claim a chunk.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction
from django.db.models.functions import Now

from bulk_import.models import ChunkStatus, ImportChunk, database
from bulk_import.outbox.notifications import send_due_emails
from bulk_import.outbox.queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.outbox.webhooks import send_due_webhooks

if TYPE_CHECKING:
    from uuid import UUID

    import httpx

FAST_PATH_SECONDS = 5
"""Time limit of the fast path. A sweep skips the messages of a job that is younger, because the job's own process is
about to send them. A worker's request spends at most this time on sending emails."""

PAGE_BATCHES = 20
"""Number of batches that are read from the database at once. Twenty batches are the messages of 100,000 rows in chunks
of 500 rows."""

SENDERS = 4
"""Number of batches that are sent to SQS at the same time. Each thread spends nearly all of its time waiting."""


class Sent(NamedTuple):
    """How many of each kind a sweep has sent."""

    messages: int
    emails: int
    webhooks: int


def sweep(transport: httpx.AsyncBaseTransport | None = None) -> Sent:
    """Send everything that is due. Raises QueueUnavailable, but only after emails and webhooks have been sent.

    `transport` carries the webhooks, see `send_due_webhooks`.
    """
    try:
        messages = send_unsent_chunks()
    finally:  # webhooks come last, because their receiver may be slow
        emails = send_due_emails()
        webhooks = send_due_webhooks(transport)
    return Sent(messages, emails, webhooks)


def send_job_notifications(job_id: UUID) -> None:
    """Send the due emails of one job, for at most FAST_PATH_SECONDS, because a worker waits for its response."""
    send_due_emails(job_id, seconds=FAST_PATH_SECONDS)


def send_after_commit(job_id: UUID) -> None:
    """Send the job's messages when the current transaction is committed. If that fails, the next sweep sends them."""
    # With robust=True, Django logs an error instead of raising it. By then the job has been accepted.
    transaction.on_commit(lambda: send_unsent_chunks(job_id), using=database(), robust=True)


def send_unsent_chunks(job_id: UUID | None = None) -> int:
    """Send the messages of one job's unsent chunks, or of all unsent chunks. Return how many were sent.

    Without `job_id`, jobs younger than FAST_PATH_SECONDS are skipped: their own process is about to send them.
    Raises QueueUnavailable if SQS does not accept a batch.
    """
    unsent = ImportChunk.objects.unsent().select_related("job").defer("job__problems", "problems")
    if job_id:
        unsent = unsent.filter(job_id=job_id)
    else:
        unsent = unsent.filter(job__created_at__lt=Now() - timedelta(seconds=FAST_PATH_SECONDS))
    total = 0
    while chunks := list(unsent[: PAGE_BATCHES * MAX_BATCH_MESSAGES]):
        total += send_page(chunks)
        for job in {chunk.job_id: chunk.job for chunk in chunks}.values():
            job.mark_queued()
    return total


def send_page(chunks: list[ImportChunk]) -> int:
    """Send the messages of these chunks in parallel batches, and return how many were sent. Raises QueueUnavailable."""
    batches = [chunks[first : first + MAX_BATCH_MESSAGES] for first in range(0, len(chunks), MAX_BATCH_MESSAGES)]
    sent: set[str] = set()
    try:
        with ThreadPoolExecutor(min(SENDERS, len(batches))) as senders:
            for accepted in senders.map(send_messages, batches):
                sent |= accepted
    finally:
        # The batches before the failed one were sent, so mark them in any case. A worker may already have claimed a
        # chunk; the filter leaves such a chunk alone.
        pending = ImportChunk.objects.filter(pk__in=sent, status=ChunkStatus.PENDING)
        pending.update(status=ChunkStatus.QUEUED)
    return len(sent)
