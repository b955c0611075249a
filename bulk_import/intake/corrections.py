"""Corrections: fields that replace those of an earlier job's rows. A new job then sends these rows again.

The rows come from the payload of the earlier job, so nobody sends the file again. Each row is validated as if it came
from an upload, because a correction may make it valid or invalid, and may make another row a duplicate or none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import UnsupportedMediaType

from bulk_import.exceptions import Expired
from bulk_import.intake.accept import accept
from bulk_import.intake.changed_rows import MAX_CHANGES_BYTES, Changes, read_changes, unknown_row
from bulk_import.intake.conflicts import check_has_ended, conflict
from bulk_import.intake.formats import JSON
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.request_body import host_and_query, media_type_of, read_body
from bulk_import.intake.run import find_run
from bulk_import.intake.spreadsheets.target_fields import target_fields
from bulk_import.models import ImportJob, JobMode
from bulk_import.models.row import unpack_lines
from bulk_import.models.sent_again import check_may_be_imported
from bulk_import.storage.payloads import read_payload_lines
from bulk_import_wire.lines import read_refused_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from rest_framework.request import Request

    from bulk_import.conf import Target


@dataclass(frozen=True, slots=True)
class Corrections:
    """A job with corrections of its rows. It takes the place of an `Upload`."""

    job: ImportJob
    body: bytes  # the document; read in `rows`, because the corrections in it take many times as much memory
    sha256: bytes
    unknown: str = "ignore"

    @property
    def file_name(self) -> str:
        return self.job.file_name

    def rows(self, target: Target, request: Request, _mode: str) -> CorrectedRows:
        """Return the corrected rows. Raises BadImport if the document is malformed."""
        changes = Changes(read_changes(self.body), target_fields(target, request), self.job.reading)
        return CorrectedRows(self.job, changes)


class CorrectedRows:
    """The rows of a job that can be sent again, with corrections: all rows of a rehearsal, or those not imported.

    Raises BadImport if a correction is for another row. Iterating raises Expired and StorageUnavailable.
    """

    def __init__(self, job: ImportJob, changes: Changes) -> None:
        self._job, self._changes = job, changes
        self.reading: dict[str, Any] = job.reading
        self._done = set() if job.rehearsal else set(job.imported_rows.values_list("index", flat=True))
        for index in changes.by_index:
            if index in self._done or not 0 <= index < job.rows:
                raise unknown_row(index)

    def __iter__(self) -> Iterator[RawRow]:
        is_table = self.reading.get("format") in {"csv", "spreadsheet"}
        chunks = self._job.chunks.order_by("number").values_list("row_lines", "row_count")
        lines = chain.from_iterable(unpack_lines(bytes(packed)) or repeat(0, rows) for packed, rows in chunks)
        for index, (stored, line) in enumerate(zip(read_payload_lines(self._job), lines, strict=False)):
            if index not in self._done:
                row, errors = read_refused_line(stored.rstrip(b"\n")) or (stored.rstrip(b"\n"), [])
                yield self._changes.apply(index, RawRow(row, line or None, has_cells=is_table, errors=errors))


def read_corrections(request: Request, job: ImportJob) -> Corrections:
    """Read the body of a request. Raises BodyTooLarge and UnsupportedMediaType."""
    if media_type_of(request) != JSON:
        raise UnsupportedMediaType(media_type_of(request), _("Send the corrections as JSON."))
    body = read_body(request, MAX_CHANGES_BYTES)
    digest = hashlib.sha256(f"correct {job.pk} {host_and_query(request)}\n".encode())
    digest.update(body)
    return Corrections(job, body, digest.digest())


def correct(
    target: Target,
    request: Request,
    corrections: Corrections,
    *,
    idempotency_key: str,
    skip_invalid: bool,
    rehearsal: bool,
) -> UUID:
    """Submit the rows of the job again, with the corrections, and return the ID of the new job.

    Raises BadImport if the job has not ended, has no such rows, or if a row is not valid; Expired if the rows are no
    longer kept; QuotaExceeded and Unavailable.
    """
    job = corrections.job
    check_can_be_corrected(job)
    new = accept(
        target,
        request,
        corrections,
        mode=job.mode,
        idempotency_key=idempotency_key,
        skip_invalid=skip_invalid,
        rehearsal=rehearsal,
        corrects=job,
        check=None if rehearsal else partial(check_is_unchanged, job),
        notify=job.notify,
    )
    return new.pk


def check_is_unchanged(job: ImportJob) -> None:
    """Raise BadImport if the job has changed since it was read, or if another import has its rows.

    Call it in the transaction that creates the correction. A retry locks the job as well, so either it sees the
    correction, or this sees the retry.
    """
    locked = ImportJob.objects.locked(job.pk)
    if locked.finished_at != job.finished_at or find_run(locked):
        raise conflict(_("The rows of this import are being imported."), code="nothing_to_correct")
    check_may_be_imported(locked)


def check_can_be_corrected(job: ImportJob) -> None:
    """Raise BadImport or Expired, with the reason, if the rows of the job cannot be sent again. Needs `with_counts`."""
    if job.mode == JobMode.UNDO or (not job.rehearsal and job.is_terminal and job.done_count == job.rows):
        raise conflict(_("This job has no rows that can be corrected."), code="nothing_to_correct")
    check_has_ended(job)
    if run := find_run(job):
        message = _("The rows of this rehearsal were imported as %(job)s. Correct that import.")
        raise conflict(message % {"job": run}, code="nothing_to_correct")
    if "payload" in job.expired or (not job.rehearsal and "ledger" in job.expired):
        raise Expired(_("The rows of this import are no longer kept. Send them as a new import."))
