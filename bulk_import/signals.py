"""Django signals for the monolith's own code.

`job_finished` is sent after the transaction that ended a job has been committed::

    from bulk_import.signals import job_finished

    @receiver(job_finished)
    def refresh_catalogue(sender, job, event_id, **kwargs):
        if job.created_count:
            rebuild_index.delay(job.target)

`sender` is the class ImportJob. `job` is the job with its counts, one for each outcome, such as `created_count`
and `rejected_count`. `event_id` is the UUID of the event: a job that is retried or redriven ends again, and each
end has its own event.

The signal is sent at most once for each end. If the process is killed right after the commit, the signal is lost. Use
the webhook for work that must not be missed, because webhooks are retried until the receiver accepts them. An
exception that a receiver raises is logged; it affects neither the job nor the other receivers.

Receivers run in the process that ended the job, while the worker waits for its response. So connect them in the
`ready()` method of your app, and leave long work to a task queue.

There is no signal for a row or for an accepted job, because Django's own signals cover both. The create endpoint saves
each row as usual, in the same transaction as its ledger record, so `post_save` and `transaction.on_commit` work as
usual. For an accepted job, `post_save` of ImportJob is sent inside the transaction that accepts it.
"""

from django.dispatch import Signal

job_finished = Signal()
