"""Claims, leases and epochs: one worker at a time works on a chunk.

A claim gives a worker the chunk for the time of its lease, which each heartbeat extends. After its claim, a worker asks
for more changes (`heartbeat`, `release`, `finish`) with the epoch of the claim. The epoch grows with each claim, so a
worker that slept through its lease has an old epoch and can no longer change anything. Without this check, its late
report would overwrite what the next worker reports.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now
from django.utils.translation import gettext, override

from bulk_import.conf import conf
from bulk_import.exceptions import ChunkClosed, LeaseHeld, RetriedTooSoon, StaleEpoch
from bulk_import.models.chunk_columns import ChunkColumns
from bulk_import.models.status import PAUSE_REASONS, TERMINAL_CHUNK_STATUSES, ChunkStatus
from bulk_import_wire.contract import DEAD_LETTER, PAUSED_TOO_LONG
from bulk_import_wire.message import retry_seconds

if TYPE_CHECKING:
    from bulk_import_wire.calls import Calls

MAX_DELIVERIES = 5
"""Number of failed deliveries after which a chunk is given up. It is also our recommended maxReceiveCount."""


class LeasedChunk(ChunkColumns):
    """A chunk that workers claim, keep and release."""

    class Meta(ChunkColumns.Meta):
        abstract = True

    def claim(self, claimant: str, lease_seconds: int, *, creates: bool = True, worker: str = "") -> None:
        """Give the chunk to a worker, under a new epoch. The chunk must be `locked`.

        `claimant` is a random ID of the request, and `worker` the ID of the invocation in its log. `creates` is False
        if the worker only reports and creates no rows, as the dead-letter function does. Such a claim does not have to
        wait for the end of a pause.

        A chunk that must be given up can always be claimed, so that its worker can report it (see `give_up_error`).

        Raises ChunkClosed if the chunk or the job has ended, LeaseHeld while another worker has a valid lease,
        RetriedTooSoon for a while after a failed delivery, and JobPaused while the job is paused.
        """
        if self.status in TERMINAL_CHUNK_STATUSES or self.job.is_terminal:
            raise ChunkClosed(f"chunk {self} is {self.status}")
        if self.lease_left is not None and self.lease_left > timedelta(0):
            # The same claimant asks again when the response to its first request was lost. It gets the same epoch, as
            # it is still the only worker. After its lease it gets a new epoch, because another worker may have had
            # the chunk in between.
            if claimant != self.claimant:
                raise LeaseHeld(math.ceil(self.lease_left.total_seconds()))
        else:
            # A release removes the lease. So a lease that has expired is that of a worker that died.
            self.failed_deliveries += self.lease_left is not None
            # Ask the job only now: a claim that fails because of a valid lease must not use up the one probe that a
            # paused job admits.
            if creates and not self.job.cancel_requested_at and not self.give_up_error():
                # Without this, each of several messages would be a delivery: a short outage of S3 would use up all.
                if self.retry_left is not None and self.retry_left > timedelta(0):
                    raise RetriedTooSoon(math.ceil(self.retry_left.total_seconds()))
                self.job.check_may_claim(probe_seconds=lease_seconds)
            self.epoch += 1
        self.claimant = claimant
        self.status = ChunkStatus.PROCESSING
        self._extend_lease(
            lease_seconds,
            epoch=self.epoch,
            claimant=claimant,
            worker=worker,
            status=self.status,
            failed_deliveries=self.failed_deliveries,
            retry_at=None,
        )
        self.job.mark_processing()

    def give_up_error(self) -> dict[str, Any]:
        """Return the error for the remaining rows if the chunk must be given up, and an empty dict otherwise.

        The message is in the language of the job. While staff pause the job, no chunk is given up.
        """
        if self.job.is_paused_by_staff:
            return {}
        max_pause_hours = conf().max_pause_hours
        with override(self.job.language):
            if self.failed_deliveries >= MAX_DELIVERIES:
                text = gettext("Every attempt to import this part of the file failed. You can try again.")
                return {"field": None, "code": DEAD_LETTER, "message": text}
            if self.job.has_been_paused_for(timedelta(hours=max_pause_hours)):
                text = gettext("The import was paused for more than %(hours)d hours, because %(reason)s.") % {
                    "hours": max_pause_hours,
                    "reason": PAUSE_REASONS[self.job.pause_code],
                }
                return {"field": None, "code": PAUSED_TOO_LONG, "message": text}
        return {}

    def heartbeat(self, epoch: int, lease_seconds: int, calls: Calls | None = None) -> None:
        """Extend the lease and count the ledger records. The chunk must be `locked`. Raises StaleEpoch.

        `calls` is what the worker reports of its create calls.
        """
        self.check_epoch(epoch)
        done_before = self.done
        self._extend_lease(lease_seconds, **calls_column(calls))
        if self.done > done_before:
            self._forget_failed_deliveries()
            self.job.mark_progress()

    def release(self, epoch: int, failures_key: str, *, has_failed: bool = False, calls: Calls | None = None) -> bool:
        """End the lease of a worker that stops before every row has an outcome. The chunk must be `locked`.

        `failures_key` is the S3 key of the failures so far. The next worker does not send these rows again. After
        a release, the chunk waits for its next message, and its worker can no longer extend the lease or finish the
        chunk. Idempotent for the same epoch: returns whether this is the first release.

        With `has_failed`, the delivery counts as a failed one, and nobody can claim the chunk for 10 s, after further
        failures for 40, 160 and 600 s. Raises StaleEpoch.
        """
        if self.epoch == epoch and self.status in {ChunkStatus.PENDING, ChunkStatus.RESERVED, ChunkStatus.QUEUED}:
            if self.lease_expires_at is None:
                return False
            # The lease has expired and the message is sent again, but no other worker has claimed the chunk yet. So the
            # results of this worker still count.
        else:
            self.check_epoch(epoch)
        self.status = ChunkStatus.QUEUED
        done_before = self.done
        failed_deliveries = self.failed_deliveries + has_failed
        changed: dict[str, Any] = {
            "failures_key": failures_key,
            "failed_deliveries": failed_deliveries,
            "retry_at": Now() + timedelta(seconds=retry_seconds(failed_deliveries)) if has_failed else None,
            "status": self.status,
        }
        changed |= calls_column(calls)
        self._extend_lease(None, queued_at=Now(), **changed)  # its worker puts the message back on the queue
        if self.done > done_before:
            self.job.mark_progress()
        return True

    def _forget_failed_deliveries(self) -> None:
        """Count failed deliveries anew, because rows are being created again.

        For example, a worker dies whenever the site is deployed. A long chunk that makes progress each time must not be
        given up after the fifth deployment. A row that kills its worker makes no progress, so its chunk still ends.
        """
        type(self).objects.filter(pk=self.pk).exclude(failed_deliveries=0).update(failed_deliveries=0)

    def check_epoch(self, epoch: int) -> None:
        """Raise StaleEpoch unless this epoch is the one of the current claim."""
        if epoch != self.epoch or self.status != ChunkStatus.PROCESSING:
            raise StaleEpoch(f"epoch {epoch} of chunk {self} is stale: the chunk is {self.status}, epoch {self.epoch}")

    def _extend_lease(self, lease_seconds: int | None, **fields: Any) -> None:
        """Set the lease (None removes it), count the ledger records, and save the counts and the other fields.

        Every call comes from the worker, so it is a heartbeat.
        """
        # The database's clock sets the lease and checks it, so the clocks of the web servers do not matter.
        expires_at = None if lease_seconds is None else Now() + timedelta(seconds=lease_seconds)
        type(self).objects.filter(pk=self.pk).update(
            lease_expires_at=expires_at, heartbeat_at=Now(), **self.count_ledger(), **fields
        )


def calls_column(calls: Calls | None) -> dict[str, Any]:
    """Return the column that stores what a worker reports of its calls. A report without any call changes nothing."""
    return {"calls": calls.to_dict()} if calls and (calls.answers or calls.in_flight) else {}
