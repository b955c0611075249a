"""Undoes an import: a job whose rows name the objects that the import created, and that deletes each of them."""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from bulk_import.exceptions import BadImport, Expired
from bulk_import.intake.accept import submit
from bulk_import.intake.idempotency import find_job
from bulk_import.intake.payload import Payload
from bulk_import.intake.quotas import check_open_job_quota, check_row_quota
from bulk_import.models import TERMINAL_STATUSES, ImportJob, JobMode
from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import refused_line

if TYPE_CHECKING:
    from uuid import UUID

    from bulk_import.conf import Target
    from bulk_import.models import ImportedRow


def undo(target: Target, job: ImportJob, *, rehearsal: bool, traceparent: str = "", host: str = "") -> UUID:
    """Start a job that deletes the objects which `job` created, for its submitter, and return the ID of the new job.

    While such a job runs, this returns its ID. Raises BadImport if there is nothing to undo, Expired if the ledger is
    no longer kept, and QuotaExceeded.
    """
    if job.rehearsal or job.mode == JobMode.UNDO:
        raise _nothing_to_undo()
    if not job.is_terminal:
        message = _("The import has not ended yet. Wait for its end, or cancel it.")
        raise BadImport(message, code="import_not_ended", status=HTTPStatus.CONFLICT)
    if "ledger" in job.expired:
        raise Expired(_("We no longer know which objects this import created, so it cannot be undone."))
    # The key is the same until an undo has ended. So two requests at the same time start one job.
    ended = job.undos.filter(rehearsal=rehearsal, status__in=TERMINAL_STATUSES).count()
    key = f"undo-{job.pk}-{'rehearsal' if rehearsal else 'run'}-{ended}"
    sha256 = hashlib.sha256(key.encode()).digest()
    if existing := find_job(target, job.submitter, key, sha256):
        return existing.pk
    check_open_job_quota(job.submitter)
    with Payload() as payload:
        for record in job.imported_rows.exclude(outcome=Outcome.UNCHANGED.value).order_by("index").iterator():
            payload.append(undo_line(record))
        if not payload.line_bytes:
            raise _nothing_to_undo()
        check_row_quota(job.submitter, len(payload.line_bytes))
        return submit(
            target,
            job.submitter,
            payload,
            mode=JobMode.UNDO,
            rehearsal=rehearsal,
            undoes=job,
            idempotency_key=key,
            request_sha256=sha256,
            notify=job.notify,
            traceparent=traceparent,
            host=host,
        )


def undo_line(record: ImportedRow) -> bytes:
    """Return the payload line for a row of the import. The worker does not send a row that cannot be undone."""
    row = json.dumps({"id": record.object_id, "index": record.index, "lookup": record.lookup}).encode()
    if record.outcome == Outcome.UPDATED:
        return refused_line(row, _reason("only_updated", _("The import only changed this object.")))
    if not record.object_id:
        return refused_line(row, _reason("no_id", _("The endpoint did not tell us the ID of this object.")))
    return row


def _reason(code: str, message: str) -> list[dict[str, Any]]:
    return [{"field": None, "code": code, "message": message}]


def _nothing_to_undo() -> BadImport:
    return BadImport(_("This import has created nothing."), code="nothing_to_undo", status=HTTPStatus.CONFLICT)
