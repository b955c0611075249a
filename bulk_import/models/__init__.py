"""Jobs, their chunks, the ledger, and what happened to a job."""

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database
from bulk_import.models.delivery import Channel, Delivery
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.job import NOTIFY_NOBODY, RETAINED, ImportJob
from bulk_import.models.locked_chunk import LockedChunk
from bulk_import.models.row import ImportedRow
from bulk_import.models.status import ENDED, PAUSE_REASONS, TERMINAL_STATUSES, ChunkStatus, JobStatus

__all__ = [
    "ENDED",
    "NOTIFY_NOBODY",
    "PAUSE_REASONS",
    "RETAINED",
    "TERMINAL_STATUSES",
    "Channel",
    "ChunkStatus",
    "Delivery",
    "EventKind",
    "ImportChunk",
    "ImportEvent",
    "ImportJob",
    "ImportedRow",
    "JobStatus",
    "LockedChunk",
    "database",
]
