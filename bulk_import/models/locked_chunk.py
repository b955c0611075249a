"""What one create call needs to know about its chunk, read and locked by one query.

Every create call runs this query, so it is one SQL statement for chunk, job and submitter together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db import connections

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import database
from bulk_import.models.job import ImportJob
from bulk_import.models.kept_query import convert_columns
from bulk_import.models.row import ROW_HASH_BYTES
from bulk_import.models.status import PAUSES_UNTIL_RESUMED, TERMINAL_STATUSES, ChunkStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

SELECTED_COLUMNS = {
    "job_id": "chunk.job_id",
    "first_index": "chunk.first_index",
    "row_count": "chunk.row_count",
    "status": "chunk.status",
    "epoch": "chunk.epoch",
    "job_status": "job.status",
    "target": "job.target",
    "mode": "job.mode",
    "is_rehearsal": "job.rehearsal",
    "is_cancelled": "job.cancel_requested_at IS NOT NULL",
    "pause_code": "job.pause_code",
    "row_hash": f"substr(chunk.row_hashes, (%s - chunk.first_index) * {ROW_HASH_BYTES} + 1, {ROW_HASH_BYTES})",
}
"""The fields of LockedChunk, each with the SQL expression that selects it."""


@dataclass(frozen=True, slots=True)
class LockedChunk:
    """A chunk that a create call has locked for its transaction, with its job and submitter."""

    job_id: UUID
    first_index: int
    row_count: int
    status: str
    epoch: int
    job_status: str
    target: str
    mode: str
    is_rehearsal: bool
    is_cancelled: bool
    pause_code: str
    row_hash: bytes  # of the row that the call is to create
    submitter: Any  # a user; None if the user was deleted

    @classmethod
    def lock(cls, chunk_id: UUID, index: int) -> Self:
        """Lock a chunk until the transaction ends, to create its row `index`. Raises ImportChunk.DoesNotExist.

        If the chunk does not contain this index, `row_hash` has no meaning.

        Several create calls can lock the same chunk at once. A finish waits for all of them, so that it counts every
        row. On SQLite no lock is needed, because only one transaction can write at a time.
        """
        using = database()
        connection = connections[using]
        with connection.cursor() as cursor:
            key = ImportChunk._meta.pk.get_db_prep_value(chunk_id, connection)
            cursor.execute(_locking_query(using), [index, key])
            selected = cursor.fetchone()
        if selected is None:
            raise ImportChunk.DoesNotExist
        known: dict[str, Any] = dict(zip(SELECTED_COLUMNS, selected, strict=False))
        known["row_hash"] = bytes(known["row_hash"] or b"")  # psycopg returns a memoryview
        known["job_id"] = UUID(str(known["job_id"]))  # SQLite has no UUID type and returns text
        return cls(**known, submitter=_read_user(using, selected[len(SELECTED_COLUMNS) :]))

    @property
    def is_paused_until_resumed(self) -> bool:
        return self.pause_code in PAUSES_UNTIL_RESUMED

    def contains_index(self, index: int) -> bool:
        return self.first_index <= index < self.first_index + self.row_count

    def has_epoch(self, epoch: int) -> bool:
        """Return whether this epoch is the one of the current claim, so that its worker may still create rows.

        Example: worker A sleeps through its lease with epoch 1, and worker B claims the chunk with epoch 2. When A
        wakes up, its calls still carry epoch 1, and each of them stops here. A call of A that locked the chunk before
        B's claim still commits. That is safe: B's call for the same row finds its ledger record.
        """
        is_processing = self.status == ChunkStatus.PROCESSING and self.job_status not in TERMINAL_STATUSES
        return is_processing and self.epoch == epoch


@cache
def _locking_query(using: str) -> str:
    """Return the SQL that locks a chunk and selects SELECTED_COLUMNS and the submitter's columns.

    The SQL is written by hand because it runs for every row: the ORM would take longer to build the query than the
    database takes to run it.
    """
    connection = connections[using]
    quote, user = connection.ops.quote_name, get_user_model()._meta
    columns = [*SELECTED_COLUMNS.values()]
    # Like Django's own queries: a field may select its column in a form of its own, as those of PostGIS do.
    compiler: Any = ImportChunk.objects.all().query.get_compiler(using)
    columns += [
        field.select_format(compiler, f"submitter.{quote(str(field.column))}", ())[0]
        for field in user.local_concrete_fields
    ]
    # FOR KEY SHARE is the weakest row lock. It does not conflict with itself, so create calls of one chunk run at the
    # same time. It does not conflict with FOR NO KEY UPDATE either, so a heartbeat or claim does not wait for them.
    # It conflicts only with FOR UPDATE, which a finish takes: see `ImportChunkManager.locked`.
    lock = "FOR KEY SHARE OF chunk" if connection.vendor == "postgresql" else ""
    return (
        f"SELECT {', '.join(columns)} FROM {quote(ImportChunk._meta.db_table)} chunk "  # noqa: S608 - names of our own
        f"JOIN {quote(ImportJob._meta.db_table)} job ON job.id = chunk.job_id "
        f"LEFT JOIN {quote(user.db_table)} submitter ON submitter.{quote(str(user.pk.column))} = job.submitter_id "
        f"WHERE chunk.id = %s {lock}"
    )


def _read_user(using: str, columns: Sequence[Any]) -> Any:
    """Return the user with these columns of the query; None if there is no user."""
    names, pk, converters = _user_columns(using)
    if columns[pk] is None:
        return None
    return get_user_model().from_db(using, names, convert_columns(columns, converters, connections[using]))


@cache
def _user_columns(using: str) -> tuple[list[str], int, dict[int, Any]]:
    """Return the names of the user's columns, the position of the key, and Django's converters by position."""
    user = get_user_model()
    fields = user._meta.local_concrete_fields
    manager = user._base_manager.using(using)  # noqa: SLF001 - documented API; a user model may have no `objects`
    compiler = manager.all().query.get_compiler(using)
    converters = compiler.get_converters([field.get_col(user._meta.db_table) for field in fields])
    return [field.attname for field in fields], fields.index(user._meta.pk), converters
