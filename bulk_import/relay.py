"""From the database to the queue: sends the message of every chunk that has none there.

`on_commit` calls it for a new job; `manage.py bulk_import_relay` sweeps up behind it, for chunks whose
process died, or whose queue was away, in between. Sending twice is harmless: a claim is exclusive.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bulk_import.exceptions import QueueUnavailable
from bulk_import.job_queue import MAX_BATCH_MESSAGES, send_messages
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)


def send_unsent_chunks(job_id: UUID | None = None) -> int:
    """Send the unsent chunks of one job, or of all; returns how many were sent. Raises QueueUnavailable."""
    chunks = ImportChunk.objects.unsent().select_related("job")
    if job_id:
        chunks = chunks.filter(job_id=job_id)
    unsent = list(chunks)
    for start in range(0, len(unsent), MAX_BATCH_MESSAGES):
        sent = send_messages([chunk.message() for chunk in unsent[start : start + MAX_BATCH_MESSAGES]])
        # A worker may have claimed the chunk by now; then it is past being queued.
        pending = ImportChunk.objects.filter(pk__in=sent, status=ChunkStatus.PENDING)
        pending.update(status=ChunkStatus.QUEUED)
    for job in {chunk.job_id: chunk.job for chunk in unsent}.values():
        job.mark_queued()
    return len(unsent)


def send_job_after_commit(job: ImportJob) -> None:
    """The fast path, right after the commit. The 202 stands whether or not the queue is there."""
    try:
        send_unsent_chunks(job.pk)
    except QueueUnavailable:
        logger.exception("Job %s stays pending: SQS is away, the relay will send it", job.pk)
