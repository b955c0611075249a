"""What the outbox contains, and a clock for it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bulk_import.models import Channel, Delivery, EventKind, ImportJob, JobStatus
from bulk_import.outbox.delivery import RETRY_AFTER

if TYPE_CHECKING:
    from bulk_import.models import ImportEvent


def pending_emails() -> int:
    return Delivery.objects.filter(channel=Channel.EMAIL).count()


def pending_webhooks() -> int:
    return Delivery.objects.filter(channel=Channel.WEBHOOK).count()


def let_time_pass(passed: timedelta = 2 * RETRY_AFTER) -> None:
    """Make every delivery due this much earlier; the default is enough for the first retry."""
    for delivery in Delivery.objects.all():
        delivery.due_at -= passed
        delivery.save()


def make_failed_job(submitter: Any, **fields: Any) -> ImportJob:
    """A job whose four rows all failed. No event is recorded yet."""
    defaults = {"target": "products", "rows": 4, "status": JobStatus.FAILED, "request_sha256": b"", "language": "en"}
    job: ImportJob = ImportJob.objects.create(submitter=submitter, **{**defaults, **fields})
    return job


def record_end(job: ImportJob, mail_after: timedelta = timedelta(0)) -> ImportEvent:
    """The event that the job has ended. Nothing about it has been sent yet."""
    job.record(EventKind.ENDED, note=job.status, mail_after=mail_after)
    event: ImportEvent = job.events.get()
    return event
