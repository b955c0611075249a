"""From the database to the outside: the messages of chunks that are not on the queue, and the mails owed.

The commit of a new job sends its messages, the commit of a finished chunk its mails. `sweep` comes behind
them, for whatever their process did not live to send, or the queue or mail server did not take. Sending a
message twice is harmless: a claim is exclusive.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models.functions import Now

from bulk_import.job_queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.models import ChunkStatus, ImportChunk
from bulk_import.notifications import send_due_mails

if TYPE_CHECKING:
    from uuid import UUID

FAST_PATH_SECONDS = 5
"""What a job's own process has for sending its messages, before a sweep takes them for forgotten."""

PAGE_BATCHES = 20
"""How many batches of messages are read from the database at once: those of 100,000 rows in chunks of 500."""


def sweep() -> tuple[int, int]:
    """Send all that is owed; returns how many messages and mails. Raises QueueUnavailable, after the mails."""
    try:
        messages = send_unsent_chunks()
    finally:
        mails = send_due_mails()
    return messages, mails


def send_unsent_chunks(job_id: UUID | None = None) -> int:
    """Send the unsent chunks of one job, or of all that had their time; returns how many. Raises QueueUnavailable."""
    unsent = ImportChunk.objects.unsent().select_related("job").defer("job__problems", "problems")
    if job_id:
        unsent = unsent.filter(job_id=job_id)
    else:
        unsent = unsent.filter(job__created_at__lt=Now() - timedelta(seconds=FAST_PATH_SECONDS))
    total = 0
    while chunks := list(unsent[: PAGE_BATCHES * MAX_BATCH_MESSAGES]):
        for first in range(0, len(chunks), MAX_BATCH_MESSAGES):
            batch = chunks[first : first + MAX_BATCH_MESSAGES]
            sent = send_messages([chunk.message() for chunk in batch])
            # A worker may have claimed the chunk by now; then it is past being queued.
            pending = ImportChunk.objects.filter(pk__in=sent, status=ChunkStatus.PENDING)
            pending.update(status=ChunkStatus.QUEUED)
            total += len(sent)
        for job in {chunk.job_id: chunk.job for chunk in chunks}.values():
            job.mark_queued()
    return total
