"""The relay: sends the SQS messages, emails and webhooks that are in the database and have not been sent yet.

There is a fast path and a sweep. The process whose transaction gives chunks a place in the window sends their messages
right after the commit, and the process that finishes a chunk sends the job's emails. `sweep` sends what these processes
could not send, because they died or because SQS or the mail server did not accept it. It also fills places in the
window that became free without a call, for example because a lease expired, and replaces lost messages. Only the sweep
sends webhooks, because a slow receiver must not keep a worker waiting. Sending a message twice is harmless: only one
worker at a time can claim a chunk.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from bulk_import.batching import in_batches
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, database, durable_transaction
from bulk_import.models.lost_messages import chunks_with_lost_messages
from bulk_import.models.window import reserve_chunks, return_lost_chunks
from bulk_import.outbox.notifications import send_due_emails
from bulk_import.outbox.queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.outbox.webhooks import send_due_webhooks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import httpx
    from django.db.models import QuerySet

FAST_PATH_SECONDS = 5
"""Time limit of the fast path. A sweep skips the messages that another process is about to send: those of chunks that
got their place more recently. A worker's request spends at most this time on sending emails."""


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
        messages = refill_windows()
    finally:  # webhooks come last, because their receiver may be slow
        emails = send_due_emails()
        webhooks = send_due_webhooks(transport)
    return Sent(messages, emails, webhooks)


def send_job_notifications(job_id: UUID) -> None:
    """Send the due emails of one job, for at most FAST_PATH_SECONDS, because a worker waits for its response."""
    send_due_emails(job_id, seconds=FAST_PATH_SECONDS)


def send_notifications_after_commit(job_id: UUID) -> None:
    """Send the due emails of one job when the current transaction is committed.

    If they were sent before and the transaction were rolled back, they would report what did not happen.
    """
    # With robust=True, an error of the mail server is logged and the worker still gets its response: the change is
    # committed, and the next sweep sends the email.
    transaction.on_commit(lambda: send_job_notifications(job_id), using=database(), robust=True)


def send_next_chunks(target: str, new: ImportJob | None = None) -> None:
    """Give free places in the target's window to pending chunks, and send their messages after the commit.

    If the transaction has created the job `new`, this also notes how many imports come before it.
    Call it at the end of each transaction that adds pending chunks or frees a place. If the messages cannot be sent,
    the next sweep sends them.
    """
    if reserved := reserve_chunks(target, new):
        # With robust=True, Django logs an error instead of raising it. By then the caller's change is committed.
        transaction.on_commit(lambda: send_unsent_chunks(Q(pk__in=reserved)), using=database(), robust=True)


def refill_windows() -> int:
    """Fill the free places of all windows, send all messages that should have been sent already, and replace lost ones.

    Returns how many messages were sent. Raises QueueUnavailable if SQS does not accept a batch.
    """
    reserved: list[UUID] = []
    for target in ImportJob.objects.open().order_by().values_list("target", flat=True).distinct():
        with durable_transaction():
            return_lost_chunks(target)
            reserved += reserve_chunks(target)
    is_overdue = Q(queued_at__lt=Now() - timedelta(seconds=FAST_PATH_SECONDS))
    return send_unsent_chunks(is_overdue | Q(pk__in=reserved)) + replace_lost_messages()


def send_unsent_chunks(which: Q) -> int:
    """Send the messages of the unsent chunks that match, and return how many were sent. Raises QueueUnavailable."""
    count = 0
    for sent in _send(ImportChunk.objects.unsent().filter(which)):
        # A worker may already have claimed a chunk; the filter leaves such a chunk alone.
        reserved = ImportChunk.objects.filter(pk__in=[chunk.pk for chunk in sent], status=ChunkStatus.RESERVED)
        reserved.update(status=ChunkStatus.QUEUED, queued_at=Now())
        for job in {chunk.job_id: chunk.job for chunk in sent}.values():
            job.mark_queued()
        count += len(sent)
    return count


def replace_lost_messages() -> int:
    """Send another message for each chunk whose message counts as lost, and return how many were sent.

    The chunks keep their places in the window. Raises QueueUnavailable.
    """
    count = 0
    for sent in _send(chunks_with_lost_messages()):
        ImportChunk.objects.filter(pk__in=[chunk.pk for chunk in sent]).update(replaced_at=Now())
        count += len(sent)
    return count


def _send(chunks: QuerySet[ImportChunk]) -> Iterator[list[ImportChunk]]:
    """Send the messages of these chunks in batches. Yield those chunks of each batch that SQS accepted."""
    with_jobs = chunks.select_related("job").defer("job__problems", "problems").order_by("queued_at", "number")
    for batch in in_batches(with_jobs, MAX_BATCH_MESSAGES):
        yield send_messages(batch)
