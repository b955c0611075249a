"""Accepting an import: payload, then job and chunks, then the messages. Each step stands on the one before."""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.db import IntegrityError, transaction
from django.utils.translation import get_language

from bulk_import.conf import conf
from bulk_import.intake.idempotency import find_job
from bulk_import.intake.payload import Payload
from bulk_import.intake.quotas import check_open_job_quota, check_row_quota
from bulk_import.intake.validation import validate_rows
from bulk_import.models import ImportChunk, ImportJob, database
from bulk_import.outbox import relay
from bulk_import.storage.payloads import put_payload
from bulk_import.tracing import traceparent_of
from bulk_import_wire.logs import add_log_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.request_body import Upload


logger = logging.getLogger(__name__)


def accept(
    target: Target,
    request: Request,
    upload: Upload,
    *,
    idempotency_key: str,
    skip_invalid: bool,
    corrects: ImportJob | None = None,
    notify: str = "",
) -> UUID:
    """Judge an upload's rows and submit them, within the quotas of the request's user; returns the job's id.

    Raises BadImport and StorageUnavailable; then there is no job.
    """
    check_open_job_quota(request.user)
    with Payload() as payload:
        verdicts = validate_rows(target, upload.rows, request, payload, skip_invalid=skip_invalid)
        verdicts.check_valid(skip_invalid=skip_invalid)
        check_row_quota(request.user, verdicts.rows)
        return submit(
            target,
            request.user,
            payload,
            idempotency_key=idempotency_key,
            request_sha256=upload.sha256,
            corrects=corrects,
            notify=notify,
            traceparent=traceparent_of(request),
        )


def submit(
    target: Target,
    submitter: Any,
    payload: Payload,
    *,
    idempotency_key: str,
    request_sha256: bytes,
    corrects: ImportJob | None = None,
    notify: str = "",
    traceparent: str = "",
) -> UUID:
    """Store a payload as a job and send it on its way; returns the job's id.

    `corrects`: the job whose failures these are, mended. `notify`: whom to mail, see `recipients`.
    `traceparent`: the trace that this is part of.

    A twin of the request that was faster has made the job already; then that one is it. Raises
    StorageUnavailable; then there is no job.
    """
    job_id = uuid4()
    add_log_context(job_id=str(job_id))
    stored = put_payload(target.name, job_id, payload.open())
    try:
        with transaction.atomic(using=database(), durable=True):
            job = ImportJob.objects.create(
                id=job_id,
                target=target.name,
                submitter=submitter,
                language=get_language() or "",
                rows=len(payload.line_bytes),
                payload_bucket=stored.bucket,
                payload_key=stored.key,
                payload_etag=stored.etag,
                idempotency_key=idempotency_key,
                request_sha256=request_sha256,
                corrects=corrects,
                notify=notify,
                traceparent=traceparent,
            )
            ImportChunk.objects.bulk_create(cut_into_chunks(job, payload.line_bytes))
            relay.send_after_commit(job_id)
    except IntegrityError:
        twin = find_job(target, submitter, idempotency_key, request_sha256)
        if twin is None:
            raise
        return twin.pk  # our payload is an orphan, as after a crash
    logger.info("Job %s is accepted: %d rows for %s", job_id, len(payload.line_bytes), target.name)
    return job_id


def cut_into_chunks(job: ImportJob, line_bytes: Iterable[int]) -> Iterator[ImportChunk]:
    """Chunks of at most CHUNK_ROWS rows and, unless a single row is larger, CHUNK_BYTES bytes."""
    max_rows, max_bytes = conf().chunk_rows, conf().chunk_bytes
    numbers = count()
    first_index = first_byte = row_count = byte_count = 0

    def chunk() -> ImportChunk:
        return ImportChunk(
            job=job,
            number=next(numbers),
            first_index=first_index,
            row_count=row_count,
            first_byte=first_byte,
            byte_count=byte_count,
        )

    for size in line_bytes:
        if row_count and (row_count == max_rows or byte_count + size > max_bytes):
            yield chunk()
            first_index += row_count
            first_byte += byte_count
            row_count = byte_count = 0
        row_count += 1
        byte_count += size
    yield chunk()
