"""The ledger: one record for each row that was created, updated, found unchanged, or deleted."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from bulk_import.models.database import PrimaryManager
from bulk_import.models.status import OUTCOME_LABELS
from bulk_import_wire.contract import LEDGER_OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

ROW_HASH_BYTES = 8
"""Length of the hash that a chunk stores for each of its rows.

It is short, because a chunk has hundreds of rows. It is long enough that nobody can find another row with the same hash
by trial.
"""


OBJECT_HASH_BYTES = 8
"""Length of the hash of an object's columns. It is short, because the ledger has one for each row."""

MAX_LOOKUP_CHARACTERS = 255
"""Length to which the ledger cuts the value of a row's lookup field."""


def row_hash(row: bytes) -> bytes:
    """Return the hash of a row in the payload, ROW_HASH_BYTES long. A create call must have exactly these bytes."""
    return hashlib.sha256(row).digest()[:ROW_HASH_BYTES]


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
    object_id = models.CharField(_("object id"), max_length=64, blank=True)  # "id" in the endpoint's response
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
