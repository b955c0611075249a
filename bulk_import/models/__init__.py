"""The models: jobs, their chunks, the ledger of created rows, and the events of a job.

A row of the input has no record of its own until it is created. Then it has an `ImportedRow`. Everything else about the
rows, such as how many were rejected, is counted on the chunks.
"""

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import (
    database,
    durable_transaction,
    observe_atomic_request,
    record_inserts,
    table_places,
    without_atomic_requests,
)
from bulk_import.models.delivery import Channel, Delivery
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.job import ImportJob, ImportsNow
from bulk_import.models.job_columns import NOTIFY_NOBODY, RETAINED_DATA
from bulk_import.models.locked_chunk import LockedChunk
from bulk_import.models.row import ImportedRow
from bulk_import.models.status import (
    ON_EXISTING,
    OUTCOME_LABELS,
    PARTIAL_MODES,
    PAUSE_REASONS,
    TERMINAL_CHUNK_STATUSES,
    TERMINAL_STATUSES,
    ChunkStatus,
    JobMode,
    JobStatus,
)

__all__ = [
    "NOTIFY_NOBODY",
    "ON_EXISTING",
    "OUTCOME_LABELS",
    "PARTIAL_MODES",
    "PAUSE_REASONS",
    "RETAINED_DATA",
    "TERMINAL_CHUNK_STATUSES",
    "TERMINAL_STATUSES",
    "Channel",
    "ChunkStatus",
    "Delivery",
    "EventKind",
    "ImportChunk",
    "ImportEvent",
    "ImportJob",
    "ImportedRow",
    "ImportsNow",
    "JobMode",
    "JobStatus",
    "LockedChunk",
    "database",
    "durable_transaction",
    "observe_atomic_request",
    "record_inserts",
    "table_places",
    "without_atomic_requests",
]
