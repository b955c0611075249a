"""Django signals for the monolith's own code.

`job_finished`: a job has ended, and the transaction that ended it has been committed::

    from bulk_import.signals import job_finished

    @receiver(job_finished)
    def refresh_catalogue(sender, job, event_id, **kwargs):
        if job.created_count:
            rebuild_index.delay(job.target)

`sender` is ImportJob, `job` the job with its counts (`created_count`, `rejected_count`, `failed_count`,
`unprocessed_count`), `event_id` the UUID of this end: a job that is retried or redriven ends again, under another id.

At least once: the end owes the signal as it owes a mail, so that a process that is killed in between loses nothing;
after a kill the receivers may be called twice for the same `event_id`. At most once would be simpler, and would lose
the very call that one cannot see is missing. No signal is sent for an end that was undone, by a retry, before it was
told of. What a receiver (a function or a method) raises is logged, changes nothing and does not call it again.

Receivers are called in the process that ended the job, where a worker waits for the answer, or in the relay. So
connect them in your app's `ready()`, which runs in both, and leave long work to a queue of your own.

There is no signal for a row, nor for an accepted job, because Django sends them already: the create endpoint saves
each row as it always does, within the ledger's transaction, so that `post_save` and `transaction.on_commit` of your
model work as ever; `post_save` of ImportJob is sent in the transaction that accepts a job.
"""

from django.dispatch import Signal

job_finished = Signal()
