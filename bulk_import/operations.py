"""Actions of users and staff on a job: pause, resume, retry, redrive and cancel.

Each action changes the job in one transaction and is idempotent. If workers have to process chunks after the action, it
also sends their messages after the commit. `actor` is the user whom the job's timeline names, or None for a command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulk_import.models import ImportChunk, ImportJob, durable_transaction
from bulk_import.outbox import relay

if TYPE_CHECKING:
    from django.db.models import QuerySet


def redrive(job: ImportJob, actor: Any = None) -> int:
    """Run the dead chunks of a job again, and return how many there were. Raises Expired."""
    with durable_transaction():
        redriven = job.redrive(actor)
        relay.send_next_chunks(job.target)
    return redriven


def retry(job: ImportJob, actor: Any = None) -> int:
    """Retry every row of the job that was not created. Returns the number of their chunks. Raises Expired."""
    with durable_transaction():
        retried = job.retry(actor)
        relay.send_next_chunks(job.target)
    return retried


def cancel(job: ImportJob, actor: Any = None) -> bool:
    """Stop creating rows of a job, and return whether this changed anything."""
    with durable_transaction():
        cancelled = job.cancel(actor)
    if cancelled:
        _send_chunks_again(job)
    return cancelled


def cancel_all_of_submitter(job: ImportJob, actor: Any = None) -> int:
    """Cancel every open job of the user who submitted this job, and return how many there were."""
    return sum(cancel(open_job, actor) for open_job in open_jobs_of_submitter(job))


def open_jobs_of_submitter(job: ImportJob) -> QuerySet[Any]:
    """Return the jobs of the same submitter that can be cancelled; none if the user was deleted."""
    return ImportJob.objects.open().filter(
        submitter__isnull=False, submitter=job.submitter_id, cancel_requested_at=None
    )


def pause(job: ImportJob, actor: Any) -> bool:
    """Pause a job until staff resume it, and return whether this changed anything."""
    with durable_transaction():
        paused = job.pause_by_staff(actor)
        relay.send_next_chunks(job.target)  # other jobs can use its places in the window
    return paused


def move_to_front(job: ImportJob, actor: Any) -> bool:
    """Let a job overtake all others of its target, and return whether this changed anything.

    Chunks of other jobs that are on the queue or being processed are not affected.
    """
    with durable_transaction():
        return job.move_to_front(actor)


def resume(job: ImportJob, actor: Any = None) -> bool:
    """End a pause now, and return whether this changed anything."""
    with durable_transaction():
        resumed = job.resume_by_staff(actor)
    if resumed:
        _send_chunks_again(job)
    return resumed


def resume_by_submitter(job: ImportJob, actor: Any) -> bool:
    """End a pause by the circuit breaker now, and return whether this changed anything."""
    with durable_transaction():
        resumed = job.resume_by_submitter(actor)
    if resumed:
        _send_chunks_again(job)
    return resumed


def _send_chunks_again(job: ImportJob) -> None:
    """Let all open chunks that no worker has take their turn again, because their messages may be delayed."""
    # In a transaction of its own, so that no transaction locks first the job and then an open chunk. A claim locks in
    # the opposite order, chunk first and job second, and two transactions with opposite orders can deadlock. If the
    # process dies between the two transactions, nothing is lost: the delayed messages arrive later.
    with durable_transaction():
        ImportChunk.objects.filter(job=job).return_to_pending()
        relay.send_next_chunks(job.target)
