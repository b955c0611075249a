"""The statuses of jobs and chunks, the reasons for a pause, and the labels of the outcomes of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from bulk_import_wire.contract import Outcome, PauseCode

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class JobMode(models.TextChoices):
    """What a job does with each of its rows."""

    CREATE = "create", _("create")
    UPDATE = "update", _("update")  # changes the object that the row names; there must be one
    UPSERT = "upsert", _("create or update")
    SKIP = "skip", _("create, skip what exists")  # leaves the object alone that the row names, if there is one
    STOP = "stop", _("create, refuse what exists")  # refused as a whole if the object of a row exists
    UNDO = "undo", _("undo")  # deletes what another job created


ON_EXISTING = {JobMode.UPSERT.value: "update", JobMode.SKIP.value: "skip", JobMode.STOP.value: "stop"}
"""What happens to a row whose object exists. In the API, each of these modes is `upsert` with this `on_existing`."""

PARTIAL_MODES = frozenset({JobMode.UPDATE.value, JobMode.UPSERT.value})
"""The modes in which a row needs only the fields that it changes, and the one that identifies its object."""


class JobStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # no message is on the queue yet: the job waits for its turn, or for SQS
    QUEUED = "queued", _("queued")  # its first messages are on the queue, and no worker has claimed a chunk yet
    PROCESSING = "processing", _("processing")
    PAUSED = "paused", _("paused")  # no row can be created now
    SUCCEEDED = "succeeded", _("succeeded")  # every row was created, updated, unchanged or deleted
    PARTIALLY_SUCCEEDED = "partially_succeeded", _("partially succeeded")  # some rows were imported, or exist already
    FAILED = "failed", _("failed")  # no row was imported, and none was rejected because its object exists
    CANCELLED = "cancelled", _("cancelled")  # cancelled before every row had been tried


TERMINAL_STATUSES = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.PARTIALLY_SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED},
)
"""The statuses of a job that has ended."""


def status_at_end(*, rows: int, done: int, existing: int, unprocessed: int, is_cancelled: bool) -> JobStatus:
    """Return the status of a job whose rows all have an outcome.

    `done` is the number of its ledger records, and `existing` the number of rows that were rejected because their
    objects exist. A file that is sent twice has not failed: all that it describes is there.

    If the cancel came too late to leave any row unprocessed, the job gets the same status as without the cancel.
    """
    if done == rows:
        return JobStatus.SUCCEEDED
    if is_cancelled and unprocessed:
        return JobStatus.CANCELLED
    return JobStatus.PARTIALLY_SUCCEEDED if done or existing else JobStatus.FAILED


class ChunkStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # waits for a place in the window; see `window`
    RESERVED = "reserved", _("reserved")  # has a place in the window; SQS has not confirmed its message yet
    QUEUED = "queued", _("queued")  # its message is on the queue
    PROCESSING = "processing", _("processing")  # claimed by a worker, whose lease may have expired
    DONE = "done", _("done")
    DEAD = "dead", _("dead")  # the message ran out of deliveries, and the remaining rows are unprocessed


TERMINAL_CHUNK_STATUSES = frozenset({ChunkStatus.DONE, ChunkStatus.DEAD})
"""The statuses of a chunk that has ended: every row of it has an outcome."""

OUTSTANDING_CHUNK_STATUSES = frozenset({ChunkStatus.RESERVED, ChunkStatus.QUEUED, ChunkStatus.PROCESSING})
"""The statuses of a chunk that has a message, or will have one as soon as SQS accepts it."""

OPEN_CHUNK_STATUSES = frozenset({ChunkStatus.PENDING, *OUTSTANDING_CHUNK_STATUSES})
"""The statuses of a chunk that has not ended."""

PAUSE_REASONS = {
    PauseCode.ENDPOINT_AWAY.value: _("the create endpoint does not answer"),
    PauseCode.ENDPOINT_BUSY.value: _("the create endpoint is too busy"),
    PauseCode.FORBIDDEN.value: _("the submitter no longer has permission to create these rows"),
    PauseCode.TOKEN_REJECTED.value: _("something in front of the site rejected the import's Authorization header"),
    PauseCode.WRONG_ENDPOINT.value: _("the worker's calls do not reach the create endpoint"),
    PauseCode.WRONG_STATUS.value: _("the create endpoint answers with a status that is not in success_statuses"),
    PauseCode.STAFF.value: _("a member of staff paused it"),
    PauseCode.MOST_ROWS_FAILED.value: _("nearly every row failed"),
}
"""Why a job is paused, as people read it: in the admin, and after "paused because" in messages."""

PAUSES_UNTIL_RESUMED = frozenset({PauseCode.STAFF.value, PauseCode.MOST_ROWS_FAILED.value})
"""The pauses that only a person ends. In any other pause, a worker tries again from time to time."""

RARE_OUTCOMES = frozenset({Outcome.UPDATED, Outcome.UNCHANGED, Outcome.DELETED})
"""The outcomes that a job that creates objects never has. Pages show them only if a row has them."""

PENDING_ROWS = "pending"
"""Key of the rows that have no outcome yet, in the counts of a job."""

OUTCOME_LABELS: dict[str, _StrPromise] = {
    Outcome.CREATED: _("created"),
    Outcome.UPDATED: _("updated"),
    Outcome.UNCHANGED: _("unchanged"),
    Outcome.DELETED: _("deleted"),
    Outcome.REJECTED: _("rejected"),
    Outcome.FAILED: _("failed"),
    Outcome.UNPROCESSED: _("unprocessed"),
    PENDING_ROWS: _("pending"),
}
"""The label of each outcome of a row, in the order in which every report lists them."""
