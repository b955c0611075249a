"""The ledger: one record for each row that was created, updated, found unchanged, or deleted."""

from __future__ import annotations

import hashlib
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import connections, models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from bulk_import.models.database import PrimaryManager, database
from bulk_import.models.status import OUTCOME_LABELS
from bulk_import_wire.contract import LEDGER_OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROW_HASH_BYTES = 8
"""Length of the hash that a chunk stores for each of its rows.

It is short, because a chunk has hundreds of rows. It is long enough that nobody can find another row with the same hash
by trial.
"""


OBJECT_HASH_BYTES = 8
"""Length of the hash of an object's columns. It is short, because the ledger has one for each row.

On SQLite, the ledger stores it in hexadecimal digits, which are twice as long.
"""

MAX_ID_CHARACTERS = 64
"""Length of the longest object ID that the ledger stores."""

MAX_LOOKUP_CHARACTERS = 255
"""Length to which the ledger cuts the value of a row's lookup field."""


def row_hash(row: bytes) -> bytes:
    """Return the hash of a row in the payload, ROW_HASH_BYTES long. A create call must have exactly these bytes."""
    return row_hashes([row])


def row_hashes(rows: Iterable[bytes]) -> bytes:
    """Return the `row_hash` of each row, one after the other."""
    return b"".join([hashlib.sha256(row).digest()[:ROW_HASH_BYTES] for row in rows])


def pack_lines(lines: Sequence[int]) -> bytes:
    """Return the line numbers of the rows of a chunk for its column `row_lines`; 0 means that a row has none."""
    return struct.pack(f">{len(lines)}I", *lines) if any(lines) else b""


def unpack_lines(packed: bytes) -> Sequence[int]:
    """Return the line numbers in a chunk's column `row_lines`. It is empty if the upload has no lines."""
    return struct.unpack(f">{len(packed) // 4}I", packed)


def line_at(lines: Sequence[int], position: int) -> int | None:
    """Return the line number at this position of `unpack_lines`; None if the row has none."""
    return lines[position] or None if 0 <= position < len(lines) else None


class ImportedRow(models.Model):
    """A ledger record. It is written in the transaction that creates the row, so either both exist or neither does.

    The same is true for a row that updates or deletes an object. The record of a rehearsal says what would happen, and
    nothing else is written.

    The unique constraint guarantees that each row is created at most once: two simultaneous calls for the same row
    cannot both commit a record. Leases do not guarantee this; they only keep two workers from doing the same work.
    """

    job = models.ForeignKey(
        "bulk_import.ImportJob", on_delete=models.CASCADE, related_name="imported_rows", db_index=False
    )
    index = models.PositiveIntegerField(_("index"))
    body_sha256 = models.BinaryField(max_length=32)  # hash of the create call's body; a repeated call must match
    object_id = models.CharField(
        _("object id"), max_length=MAX_ID_CHARACTERS, blank=True
    )  # "id" in the endpoint's response
    outcome = models.CharField(
        _("outcome"),
        max_length=9,
        choices=[(str(outcome), OUTCOME_LABELS[outcome]) for outcome in LEDGER_OUTCOMES],
        default=Outcome.CREATED.value,
    )
    lookup = models.CharField(max_length=MAX_LOOKUP_CHARACTERS, blank=True)  # the object's value of the lookup field
    object_hash = models.BinaryField(max_length=OBJECT_HASH_BYTES, default=b"")  # of the object's own columns
    created_at = models.DateTimeField(pgettext_lazy("date", "created"), auto_now_add=True)

    objects = PrimaryManager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("imported row")
        verbose_name_plural = _("imported rows")
        constraints = [models.UniqueConstraint(fields=["job", "index"], name="bulk_import_row_once")]
        # Finds the jobs that wrote an object. It has no entry for a row of a target without a lookup field.
        indexes = [models.Index(fields=["lookup"], condition=~Q(lookup=""), name="bulk_import_row_lookup")]

    def __str__(self) -> str:
        return f"{self.job_id}:{self.index}"

    def insert(self) -> None:
        """Insert this new record. Raises IntegrityError if its row has a record already.

        The SQL of `insert` and `complete` is kept, because both run for every row: the ORM would take several times as
        long to build it as the database takes to run it. Django's signals of models are not sent.
        """
        fields, sql = _insert_statement(database())
        self._execute(sql, [(field, field.pre_save(self, add=True)) for field in fields])

    def complete(self, hash_query: tuple[str, list[Any]] | None = None) -> None:
        """Store what became of the row: the fields `outcome`, `object_id` and `lookup`.

        `hash_query` is the SQL, with its parameters, that selects the `object_hash` of a created object.
        """
        hash_sql, hash_parameters = hash_query or ("", [])
        keys, sql = _complete_statement(database(), hash_sql)
        changes = [self.outcome, self.object_id, self.lookup, *hash_parameters]
        self._execute(sql, [(field, getattr(self, field.attname)) for field in keys], changes)

    def _execute(self, sql: str, values: list[tuple[models.Field[Any, Any], Any]], first: Sequence[Any] = ()) -> None:
        """Execute a statement with these values of fields. `first` are parameters that come before them."""
        connection = connections[database()]
        with connection.cursor() as cursor:
            cursor.execute(sql, [*first, *(field.get_db_prep_save(value, connection) for field, value in values)])


@cache
def _insert_statement(using: str) -> tuple[list[Any], str]:
    """Return all fields of a new record, and the SQL that inserts their values."""
    quote = connections[using].ops.quote_name
    fields = [field for field in ImportedRow._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    table = quote(ImportedRow._meta.db_table)
    return fields, f"INSERT INTO {table} ({columns}) VALUES ({places})"  # noqa: S608 - our own names


@cache
def _complete_statement(using: str, hash_sql: str) -> tuple[list[Any], str]:
    """Return the fields that identify a record, and the SQL that stores what became of its row.

    Its parameters are the outcome, the object's ID and the lookup, those of `hash_sql`, and the values of the fields.
    """
    quote = connections[using].ops.quote_name
    keys: list[Any] = [ImportedRow._meta.get_field(name) for name in ("job", "index")]
    # Without such an object, the record keeps its empty hash.
    object_hash = f", object_hash = COALESCE(({hash_sql}), object_hash)" if hash_sql else ""
    condition = " AND ".join(f"{quote(str(field.column))} = %s" for field in keys)
    changes = f"outcome = %s, object_id = %s, lookup = %s{object_hash}"
    return keys, f"UPDATE {quote(ImportedRow._meta.db_table)} SET {changes} WHERE {condition}"  # noqa: S608 - our own
