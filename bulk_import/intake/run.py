"""Imports the rows of a rehearsal: a second job with the same payload, which is not uploaded again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from django.utils.translation import get_language
from django.utils.translation import gettext as _

from bulk_import.exceptions import Expired
from bulk_import.intake.conflicts import check_has_ended, conflict
from bulk_import.intake.quotas import check_open_job_quota, check_row_quota
from bulk_import.models import ImportChunk, ImportJob, durable_transaction
from bulk_import.models.new_chunks import insert_chunks
from bulk_import.models.sent_again import check_may_be_imported
from bulk_import.outbox import relay

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)

JOB_COLUMNS = (
    "target",
    "submitter_id",
    "mode",
    "reading",
    "file_name",
    "rows",
    "request_sha256",
    "corrects_id",
    "undoes_id",
    "notify",
    "host",
    "payload_bucket",
    "payload_key",
    "payload_etag",
)
"""The columns that the import has from its rehearsal."""

CHUNK_COLUMNS = ("number", "first_index", "row_count", "first_byte", "byte_count", "row_hashes", "row_lines")
"""The columns that each chunk has from the chunk of the rehearsal."""


def run(rehearsal: ImportJob, *, traceparent: str = "") -> UUID:
    """Import the rows of a rehearsal that has ended, and return the ID of the job.

    Idempotent: a second call returns the ID of the same job. Raises BadImport if the job is no rehearsal or has not
    ended, Expired if its rows are no longer stored, SentAgain if another import has them, and QuotaExceeded.
    """
    if existing := find_run(rehearsal):
        return existing
    if not rehearsal.rehearsal:
        raise conflict(_("Only a rehearsal can be run."), code="not_a_rehearsal")
    check_open_job_quota(rehearsal.submitter)
    check_row_quota(rehearsal.submitter, rehearsal.rows)
    with durable_transaction():
        # Two calls take turns, and the second one finds the job of the first one. `retention` takes this lock, too.
        locked = ImportJob.objects.locked(rehearsal.pk)
        if existing := find_run(locked):
            return existing
        check_has_ended(locked)
        if "payload" in locked.expired:
            raise Expired(_("The rows of this rehearsal are no longer kept. Send them as a new import."))
        check_may_be_imported(locked)
        job_id = create_run(locked, traceparent)
        relay.send_next_chunks(rehearsal.target)
    logger.info("Job %s imports the %d rows of the rehearsal %s", job_id, rehearsal.rows, rehearsal.pk)
    return job_id


def find_run(rehearsal: ImportJob) -> UUID | None:
    """Return the ID of the job that imports the rows of this rehearsal; None if there is none yet."""
    job_id: UUID | None = ImportJob.objects.filter(runs=rehearsal.pk).values_list("pk", flat=True).first()
    return job_id


def create_run(rehearsal: ImportJob, traceparent: str) -> UUID:
    """Write the job and its chunks, and return its ID. Call inside a transaction, with the rehearsal locked."""
    job_id = uuid4()
    columns = {name: getattr(rehearsal, name) for name in JOB_COLUMNS}
    job = ImportJob.objects.create(
        id=job_id, runs=rehearsal, language=get_language() or "", traceparent=traceparent, **columns
    )
    job.record_origin()
    chunks = rehearsal.chunks.order_by("number").values(*CHUNK_COLUMNS)
    insert_chunks(ImportChunk(job_id=job_id, **chunk) for chunk in chunks)
    return job_id
