"""Actions of users and staff on a job: pause, resume, retry, redrive and cancel.

Each action changes the job in one transaction, and sends the messages of the chunks that have to run in another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from bulk_import.models import ImportChunk, database
from bulk_import.outbox import relay

if TYPE_CHECKING:
    from uuid import UUID

    from bulk_import.models import ImportJob


def redrive(job: ImportJob, actor: Any = None) -> int:
    """Run the dead chunks of a job again; returns how many there were. Again changes nothing."""
    with transaction.atomic(using=database(), durable=True):
        redriven = job.redrive(actor)
        relay.send_after_commit(job.pk)
    return redriven


def retry(job: ImportJob, actor: Any = None) -> int:
    """Run what was not created again, in the same job; returns in how many chunks. Again changes nothing."""
    with transaction.atomic(using=database(), durable=True):
        retried = job.retry(actor)
        relay.send_after_commit(job.pk)
    return retried


def cancel(job: ImportJob, actor: Any = None) -> bool:
    """Have no further row created; returns whether that changed anything."""
    with transaction.atomic(using=database(), durable=True):
        cancelled = job.cancel(actor)
    if cancelled:
        _resend_chunks(job.pk)
    return cancelled


def pause(job: ImportJob, actor: Any) -> bool:
    """Pause a job until somebody lets it go on; returns whether that changed anything."""
    with transaction.atomic(using=database(), durable=True):
        return job.pause_by_staff(actor)


def resume(job: ImportJob, actor: Any = None) -> bool:
    """End a pause before its time; returns whether that changed anything."""
    with transaction.atomic(using=database(), durable=True):
        resumed = job.resume_by_staff(actor)
    if resumed:
        _resend_chunks(job.pk)
    return resumed


def _resend_chunks(job_id: UUID) -> None:
    # Not in the transaction that changed the job: a claim locks its chunk first and its job second.
    with transaction.atomic(using=database(), durable=True):
        ImportChunk.objects.filter(job_id=job_id).mark_unsent()
        relay.send_after_commit(job_id)
