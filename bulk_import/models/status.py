"""What a job and a chunk can be: their statuses, and why a job pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from bulk_import_wire.contract import Outcome, PauseCode

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class JobStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # stored, not yet on the queue
    QUEUED = "queued", _("queued")
    PROCESSING = "processing", _("processing")
    PAUSED = "paused", _("paused")
    SUCCEEDED = "succeeded", _("succeeded")
    PARTIALLY_SUCCEEDED = "partially_succeeded", _("partially succeeded")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


TERMINAL_STATUSES = frozenset(
    {JobStatus.SUCCEEDED, JobStatus.PARTIALLY_SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED},
)


class ChunkStatus(models.TextChoices):
    PENDING = "pending", _("pending")  # its message is not known to be on the queue
    QUEUED = "queued", _("queued")
    PROCESSING = "processing", _("processing")
    DONE = "done", _("done")
    DEAD = "dead", _("dead")  # its message ran out of deliveries; what was left is unprocessed


ENDED = frozenset({ChunkStatus.DONE, ChunkStatus.DEAD})
"""Every row of the chunk has an outcome."""


PAUSE_REASONS = {
    PauseCode.ENDPOINT_AWAY.value: _("the endpoint that creates them does not answer"),
    PauseCode.ENDPOINT_BUSY.value: _("the endpoint that creates them is too busy"),
    PauseCode.FORBIDDEN.value: _("the user who sent them may not create them"),
    PauseCode.STAFF.value: _("a member of staff paused it"),
}


PENDING_ROWS = "pending"
"""Name under which counts show the rows that have no outcome yet."""

OUTCOME_LABELS: dict[str, _StrPromise] = {
    Outcome.CREATED: _("created"),
    Outcome.REJECTED: _("rejected"),
    Outcome.FAILED: _("failed"),
    Outcome.UNPROCESSED: _("unprocessed"),
    PENDING_ROWS: _("pending"),
}
"""What people read for each outcome of a row, in the order in which every report lists them."""
