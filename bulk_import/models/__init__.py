"""Jobs, their chunks, the ledger, and what happened to a job."""

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.held_chunk import HeldChunk
from bulk_import.models.job import KEPT, NOBODY, ImportJob
from bulk_import.models.row import ImportedRow
from bulk_import.models.status import ENDED, PAUSE_REASONS, TERMINAL_STATUSES, ChunkStatus, JobStatus

__all__ = [
    "ENDED",
    "KEPT",
    "NOBODY",
    "PAUSE_REASONS",
    "TERMINAL_STATUSES",
    "ChunkStatus",
    "EventKind",
    "HeldChunk",
    "ImportChunk",
    "ImportEvent",
    "ImportJob",
    "ImportedRow",
    "JobStatus",
    "database",
]
