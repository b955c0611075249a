"""A chunk as one create call sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Self
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database
from bulk_import.models.job import ImportJob
from bulk_import.models.status import TERMINAL_STATUSES, ChunkStatus

COLUMNS = {
    "job_id": "chunk.job_id",
    "first_index": "chunk.first_index",
    "row_count": "chunk.row_count",
    "status": "chunk.status",
    "epoch": "chunk.epoch",
    "job_status": "job.status",
    "target": "job.target",
    "is_cancelled": "job.cancel_requested_at IS NOT NULL",
}


@dataclass(frozen=True, slots=True)
class LockedChunk:
    """Held by a create call, as others may hold it: it cannot be finished until the call's transaction ends."""

    job_id: UUID
    first_index: int
    row_count: int
    status: str
    epoch: int
    job_status: str
    target: str
    is_cancelled: bool
    submitter: Any  # the user; None if there is none any more

    @classmethod
    def lock(cls, chunk_id: UUID) -> Self:
        """Hold a chunk until the transaction ends. Raises ImportChunk.DoesNotExist.

        SQLite needs no lock: there, a transaction writes alone.
        """
        using = database()
        key = ImportChunk._meta.pk.get_db_prep_value(chunk_id, connections[using])
        manager = get_user_model()._base_manager  # noqa: SLF001 - documented; a manager of another name may be the only one
        user = next(iter(manager.using(using).raw(_statement(using), [key])), None)
        if user is None:
            raise ImportChunk.DoesNotExist
        known: dict[str, Any] = {name: getattr(user, f"locked_{name}") for name in COLUMNS}
        known["job_id"] = UUID(str(known["job_id"]))  # SQLite has no such type
        return cls(**known, submitter=user if user.pk is not None else None)

    def contains_index(self, index: int) -> bool:
        return self.first_index <= index < self.first_index + self.row_count

    def has_epoch(self, epoch: int) -> bool:
        """Whether the worker of this epoch may still create rows of the chunk."""
        is_processing = self.status == ChunkStatus.PROCESSING and self.job_status not in TERMINAL_STATUSES
        return is_processing and self.epoch == epoch


@cache
def _statement(using: str) -> str:
    """The submitter, with the columns of chunk and job beside; the chunk is locked.

    Written by hand because it runs for every row: the ORM takes longer to write it anew than the database to answer.
    """
    connection = connections[using]
    quote, user = connection.ops.quote_name, get_user_model()._meta
    columns = [f"submitter.{quote(str(field.column))}" for field in user.local_concrete_fields]
    columns += [f"{column} AS locked_{name}" for name, column in COLUMNS.items()]
    lock = "FOR KEY SHARE OF chunk" if connection.vendor == "postgresql" else ""
    return (
        f"SELECT {', '.join(columns)} FROM {quote(ImportChunk._meta.db_table)} chunk "  # noqa: S608 - names of our own
        f"JOIN {quote(ImportJob._meta.db_table)} job ON job.id = chunk.job_id "
        f"LEFT JOIN {quote(user.db_table)} submitter ON submitter.{quote(str(user.pk.column))} = job.submitter_id "
        f"WHERE chunk.id = %s {lock}"
    )
