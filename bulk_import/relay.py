"""From the database to the queue: sends the message of every chunk that has none there.

The commit of a new job calls it; `manage.py bulk_import_relay` sweeps up behind it, for chunks whose
process died, or whose queue was away, in between. Sending twice is harmless: a claim is exclusive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_import.job_queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.models import ChunkStatus, ImportChunk

if TYPE_CHECKING:
    from uuid import UUID


def send_unsent_chunks(job_id: UUID | None = None) -> int:
    """Send the unsent chunks of one job, or of all; returns how many were sent. Raises QueueUnavailable."""
    unsent = ImportChunk.objects.unsent().select_related("job").defer("job__problems")
    if job_id:
        unsent = unsent.filter(job_id=job_id)
    total = 0
    while chunks := list(unsent[:MAX_BATCH_MESSAGES]):
        sent = send_messages([chunk.message() for chunk in chunks])
        # A worker may have claimed the chunk by now; then it is past being queued.
        pending = ImportChunk.objects.filter(pk__in=sent, status=ChunkStatus.PENDING)
        pending.update(status=ChunkStatus.QUEUED)
        for job in {chunk.job_id: chunk.job for chunk in chunks}.values():
            job.mark_queued()
        total += len(sent)
    return total
