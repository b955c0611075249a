"""Corrections: fields that replace those of an earlier job's rows. A new job then sends these rows again.

The rows come from the payload of the earlier job, so nobody sends the file again. Each row is validated as if it came
from an upload, because a correction may make it valid or invalid, and may make another row a duplicate or none. The
texts of corrections are read with the locale and the decimal separators of the upload.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import msgspec
from django.utils.translation import gettext as _
from rest_framework.exceptions import UnsupportedMediaType

from bulk_import.exceptions import BadImport, Expired
from bulk_import.intake.accept import accept
from bulk_import.intake.conflicts import check_has_ended, conflict
from bulk_import.intake.formats import JSON
from bulk_import.intake.raw_rows import MEBIBYTE, RawRow
from bulk_import.intake.request_body import media_type_of, read_body
from bulk_import.intake.run import find_run
from bulk_import.intake.spreadsheets.cells import ColumnCells
from bulk_import.intake.spreadsheets.damage import CODES_OF_CELLS
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.spreadsheets.target_fields import target_fields
from bulk_import.models import ImportJob, JobMode
from bulk_import.models.row import unpack_lines
from bulk_import.models.sent_again import check_may_be_imported
from bulk_import.reports.failures import ROW
from bulk_import.storage.payloads import read_payload_lines
from bulk_import_wire.lines import read_refused_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.spreadsheets.target_fields import TargetFields

MAX_BYTES = 8 * MEBIBYTE
"""Maximum size of the corrections of one request. A correction of one field takes about 50 bytes."""

CODES_OF_THE_FILE = CODES_OF_CELLS | {"unknown_field"}
"""The codes of errors that only the upload of the file could find. They stay until their field is corrected."""


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request: the corrected fields of each row, by index."""

    rows: dict[int, dict[str, msgspec.Raw]]


BODY = msgspec.json.Decoder(Body)


@dataclass(frozen=True, slots=True)
class Corrections:
    """A job with corrections of its rows. It takes the place of an `Upload`."""

    job: ImportJob
    rows_by_index: dict[int, dict[str, msgspec.Raw]]
    sha256: bytes
    unknown: str = "ignore"

    @property
    def file_name(self) -> str:
        return self.job.file_name

    def rows(self, target: Target, request: Request, _mode: str) -> CorrectedRows:
        return CorrectedRows(self.job, self.rows_by_index, target_fields(target, request))


class CorrectedRows:
    """The rows of a job that can be sent again, with corrections: all rows of a rehearsal, or those not imported.

    Raises BadImport if a correction is for another row. Iterating raises Expired and StorageUnavailable.
    """

    def __init__(self, job: ImportJob, corrections: dict[int, dict[str, msgspec.Raw]], fields: TargetFields) -> None:
        self._job, self._corrections, self._fields = job, corrections, fields
        self.reading: dict[str, Any] = job.reading
        conventions = {name: job.reading[name] for name in ("locale", "decimal") if name in job.reading}
        self._options = ReadingOptions(**conventions, damage="accept")  # a person has typed the value
        self._done = set() if job.rehearsal else set(job.imported_rows.values_list("index", flat=True))
        for index in corrections:
            if index in self._done or not 0 <= index < job.rows:
                message = _("There is no row with the index %(index)d that can be corrected.")
                raise BadImport(message % {"index": index}, code="unknown_row")

    def __iter__(self) -> Iterator[RawRow]:
        chunks = self._job.chunks.order_by("number").values_list("row_lines", "row_count")
        lines = chain.from_iterable(unpack_lines(bytes(packed)) or repeat(0, rows) for packed, rows in chunks)
        for index, (stored, line) in enumerate(zip(read_payload_lines(self._job), lines, strict=False)):
            if index not in self._done:
                yield self._corrected(stored.rstrip(b"\n"), line, self._corrections.get(index, {}))

    def _corrected(self, stored: bytes, line: int, changes: dict[str, msgspec.Raw]) -> RawRow:
        row, errors = read_refused_line(stored) or (stored, [])
        kept = [error for error in errors if error["code"] in CODES_OF_THE_FILE and error["field"] not in changes]
        changes, errors = self._read(changes)
        kept += errors
        is_table = self.reading.get("format") in {"csv", "spreadsheet"}
        return RawRow(change_row(row, changes) if changes else row, line or None, has_cells=is_table, errors=kept)

    def _read(self, changes: dict[str, msgspec.Raw]) -> tuple[dict[str, msgspec.Raw], list[dict[str, Any]]]:
        """Return the changes with each text read like a cell of the upload, and the errors of ambiguous texts."""
        read, errors = dict(changes), []
        for name, raw in changes.items():
            text = msgspec.json.decode(raw)
            if isinstance(text, str) and name in self._fields.fields:
                cells = ColumnCells(self._fields.fields[name], self._options)
                cells.observe(text)
                value, error = cells.read(text)
                read[name] = msgspec.Raw(msgspec.json.encode(value))
                errors += [{"field": name, **error}] if error else []
        return read, errors


def change_row(row: bytes, changes: dict[str, msgspec.Raw]) -> bytes:
    """Return the row with these fields, and without those that are null. Its other values keep their bytes."""
    try:
        values = ROW.decode(row)
    except msgspec.DecodeError:  # the row is no object
        values = {}
    values |= changes
    removed = {name for name, value in changes.items() if bytes(value) == b"null"}
    return msgspec.json.encode({name: value for name, value in values.items() if name not in removed})


def read_corrections(request: Request, job: ImportJob) -> Corrections:
    """Read the body of a request. Raises BadImport, BodyTooLarge and UnsupportedMediaType."""
    if media_type_of(request) != JSON:
        raise UnsupportedMediaType(media_type_of(request), _("Send the corrections as JSON."))
    body = read_body(request, MAX_BYTES)
    try:
        rows = BODY.decode(body).rows
    except (msgspec.DecodeError, RecursionError) as error:
        message = _("Send a JSON object with the corrected fields of each row: %(example)s.")
        raise BadImport(message % {"example": '{"rows": {"17": {"price": "12.50"}}}'}) from error
    digest = hashlib.sha256(f"correct {job.pk}?{request.META.get('QUERY_STRING', '')}\n".encode())
    digest.update(body)
    return Corrections(job, rows, digest.digest())


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
