"""Undoes an import: a job whose rows name the objects that the import created, and that deletes each of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import Expired
from bulk_import.intake.accept import submit
from bulk_import.intake.conflicts import check_has_ended, conflict
from bulk_import.intake.payload import Payload
from bulk_import.intake.quotas import check_open_job_quota, check_row_quota
from bulk_import.models import TERMINAL_STATUSES, ImportedRow, ImportJob, JobMode
from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import refused_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.db.models import QuerySet

    from bulk_import.conf import Target
    from bulk_import.exceptions import BadImport

PAGE_ROWS = 2000
"""Records of the ledger that are read at once."""


def undo(target: Target, job: ImportJob, *, rehearsal: bool, traceparent: str = "") -> UUID:
    """Start a job that deletes the objects which `job` created, for its submitter, and return the ID of the new job.

    It has the host of the import, wherever the request for the undo was sent to, because the host may be a tenant's.
    While such a job runs, this returns its ID. Raises BadImport if there is nothing to undo, Expired if the ledger is
    no longer kept, and QuotaExceeded.
    """
    if job.rehearsal or job.mode == JobMode.UNDO:
        raise _nothing_to_undo()
    check_has_ended(job)
    if "ledger" in job.expired:
        raise Expired(_("We no longer know which objects this import created, so it cannot be undone."))
    undos = job.undos.filter(rehearsal=rehearsal).order_by("-created_at", "-pk")
    if running := undos.exclude(status__in=TERMINAL_STATUSES).first():
        return running.pk
    # The key names the undo before this one. So two requests at the same time start one job.
    previous = undos.first()
    key = f"undo-{job.pk}-{'rehearsal' if rehearsal else 'run'}-{previous.pk if previous else ''}"
    sha256 = hashlib.sha256(key.encode()).digest()
    check_open_job_quota(job.submitter)
    with Payload() as payload:
        for record in _in_pages(rows_to_undo(job)):
            payload.append(undo_line(record))
        if not payload.line_bytes:
            raise _nothing_to_undo()
        check_row_quota(job.submitter, len(payload.line_bytes))
        new = submit(
            target,
            job.submitter,
            payload,
            mode=JobMode.UNDO,
            rehearsal=rehearsal,
            undoes=job,
            file_name=job.file_name,
            idempotency_key=key,
            request_sha256=sha256,
            notify=job.notify,
            traceparent=traceparent,
            host=job.host,
        )
        return new.pk


def rows_to_undo(job: ImportJob) -> QuerySet[ImportedRow]:
    """Return the records of the rows that an undo lists; none if every object that the job created has been deleted.

    They are the rows that created or changed an object, without those whose object an earlier undo has deleted.
    """
    deleted = ImportedRow.objects.filter(job__undoes=job, job__rehearsal=False, outcome=Outcome.DELETED.value)
    rows = job.imported_rows.exclude(outcome=Outcome.CREATED.value, object_id__in=deleted.values("object_id"))
    if not rows.filter(outcome=Outcome.CREATED.value).exists():
        return rows.none()
    return rows.exclude(outcome=Outcome.UNCHANGED.value)


def _in_pages(rows: QuerySet[ImportedRow]) -> Iterator[ImportedRow]:
    """Yield the records in order. Not with `iterator`, whose cursor does not outlive a transaction behind PgBouncer."""
    index = -1
    while page := list(rows.filter(index__gt=index).order_by("index")[:PAGE_ROWS]):
        yield from page
        index = page[-1].index


def undo_line(record: ImportedRow) -> bytes:
    """Return the payload line for a row of the import. The worker does not send a row that cannot be undone."""
    row = json.dumps({"id": record.object_id, "index": record.index, "lookup": record.lookup}).encode()
    if record.outcome == Outcome.UPDATED:
        return refused_line(row, _reason("only_updated", _("The import only changed this object.")))
    if not record.object_id:
        return refused_line(row, _reason("no_id", _("The endpoint did not tell us the ID of this object.")))
    if not record.object_hash:
        message = _(
            "We cannot tell whether the import created this object. The endpoint may have changed one that existed, or "
            "the site allowed no undo (detail_url) when the import ran."
        )
        return refused_line(row, _reason("uncertain", message))
    return row


def _reason(code: str, message: str) -> list[dict[str, Any]]:
    return [{"field": None, "code": code, "message": message}]


def _nothing_to_undo() -> BadImport:
    message = _("There is nothing to undo: the import has created nothing, or all of it has been undone.")
    return conflict(message, code="nothing_to_undo")
