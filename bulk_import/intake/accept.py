"""Accepts an import in three steps: store the payload, create the job and its chunks, send the messages.

In this order, no import is lost. If the process dies after the first step, an unused payload remains, and the bucket's
lifecycle rule deletes it. If it dies after the second step, the relay sends the missing messages later.
"""

from __future__ import annotations

import logging
from bisect import bisect
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.db import IntegrityError
from django.utils.translation import get_language

from bulk_import.conf import conf
from bulk_import.intake.idempotency import find_job
from bulk_import.intake.payload import Payload
from bulk_import.intake.quotas import check_open_job_quota, check_row_quota, count_dry_run
from bulk_import.intake.validation import validate_rows
from bulk_import.intake.validation_slots import slots
from bulk_import.models import ImportChunk, ImportJob, JobMode, durable_transaction
from bulk_import.models.new_chunks import insert_chunks
from bulk_import.models.row import ROW_HASH_BYTES, pack_lines
from bulk_import.outbox import relay
from bulk_import.storage.payloads import put_payload
from bulk_import.tracing import traceparent_of
from bulk_import_wire.logs import add_log_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.corrections import Corrections
    from bulk_import.intake.request_body import Upload
    from bulk_import.intake.validation_result import ValidationResult


logger = logging.getLogger(__name__)

MAX_CHUNK_BYTES = 4 * 1024 * 1024
"""Maximum size of a chunk, unless a single row is larger. It is limited because a worker keeps a chunk in memory."""


def accept(
    target: Target,
    request: Request,
    upload: Upload | Corrections,
    *,
    mode: str = JobMode.CREATE,
    idempotency_key: str,
    skip_invalid: bool,
    rehearsal: bool = False,
    corrects: ImportJob | None = None,
    check: Callable[[], None] | None = None,
    notify: str = "",
) -> ImportJob:
    """Validate the rows of an upload, submit them within the quotas of the user, and return the job.

    Raises BadImport or Unavailable; in both cases there is no job.
    """
    check_open_job_quota(request.user)
    check_row_quota(request.user, rows=1)  # do not validate rows for a user whose quota is used up
    with Payload() as payload:
        with slots.acquire(request.user):
            rows = upload.rows(target, request, mode)
            result = validate_rows(
                target, rows, request, payload, mode=mode, skip_invalid=skip_invalid, unknown=upload.unknown
            )
        result.check_valid(skip_invalid=skip_invalid, rehearsal=rehearsal)
        check_row_quota(request.user, result.rows)  # reads again what other requests of the user have sent meanwhile
        return submit(
            target,
            request.user,
            payload,
            mode=mode,
            rehearsal=rehearsal,
            reading=result.reading,
            file_name=upload.file_name,
            idempotency_key=idempotency_key,
            request_sha256=upload.sha256 if idempotency_key else b"",
            corrects=corrects,
            check=check,
            notify=notify,
            traceparent=traceparent_of(request),
            host=corrects.host if corrects else _host(request),  # rows are corrected where they were sent to
        )


def dry_run(
    target: Target, request: Request, upload: Upload, mode: str = JobMode.CREATE, *, list_rows: bool = False
) -> ValidationResult:
    """Only validate the rows of an upload, and compare their values with the database.

    They count for the user's row quota, because they are as much work. With `list_rows`, the result has all errors, and
    the rows that have them.

    Raises BadImport or Busy.
    """
    check_row_quota(request.user, rows=1)
    with slots.acquire(request.user):
        rows, unknown = upload.rows(target, request, mode), upload.unknown
        result = validate_rows(
            target, rows, request, mode=mode, check_database=True, unknown=unknown, list_rows=list_rows
        )
    check_row_quota(request.user, result.rows)
    count_dry_run(request.user, result.rows)
    return result


def _host(request: Request) -> str:
    """Return the host that the request was sent to; "" if the management command started the import without a host."""
    return request.get_host() if request.META else ""


def submit(
    target: Target,
    submitter: Any,
    payload: Payload,
    *,
    mode: str = JobMode.CREATE,
    rehearsal: bool = False,
    reading: dict[str, Any] | None = None,
    file_name: str = "",
    idempotency_key: str,
    request_sha256: bytes,
    corrects: ImportJob | None = None,
    undoes: ImportJob | None = None,
    check: Callable[[], None] | None = None,
    notify: str = "",
    traceparent: str = "",
    host: str = "",
) -> ImportJob:
    """Store a payload, create its job and send the messages for the workers. Return the job as it was created.

    With `rehearsal`, every row is tried and rolled back. `reading` says how the file named `file_name` was read.
    `corrects` is the job whose failed rows these rows correct, and `undoes` the job whose objects they delete. `notify`
    says who gets an email, see `recipients`. `traceparent` is the trace that the request belongs to, and `host` the
    host that it was sent to. `check` is called in the transaction, before the job is created.

    If an identical request with the same Idempotency-Key has created a job meanwhile, this returns that job.
    Raises StorageUnavailable; then there is no job.
    """
    job_id = uuid4()
    add_log_context(job_id=str(job_id))
    stored = put_payload(target.name, job_id, payload.content())
    try:
        with durable_transaction():
            if check:
                check()
            job: ImportJob = ImportJob.objects.create(
                id=job_id,
                target=target.name,
                submitter=submitter,
                language=get_language() or "",
                mode=mode,
                rehearsal=rehearsal,
                reading=reading or {},
                file_name=file_name,
                rows=len(payload.line_bytes),
                **stored.columns(),
                idempotency_key=idempotency_key,
                request_sha256=request_sha256,
                corrects=corrects,
                undoes=undoes,
                notify=notify,
                traceparent=traceparent,
                host=host,
            )
            job.record_origin()
            insert_chunks(split_into_chunks(job, payload))
            relay.send_next_chunks(target.name, job)
    except IntegrityError:
        # Two identical requests ran at the same time, and the unique constraint let only the other one create a job.
        # The payload that this request stored stays unused until the bucket's lifecycle rule deletes it.
        existing = find_job(target, submitter, idempotency_key, request_sha256) if idempotency_key else None
        if existing is None:
            raise
        return existing
    logger.info("Job %s was accepted: %d rows for %s", job_id, len(payload.line_bytes), target.name)
    return job


def split_into_chunks(job: ImportJob, payload: Payload) -> Iterator[ImportChunk]:
    """Yield chunks of at most CHUNK_ROWS rows and, unless a single row is larger, MAX_CHUNK_BYTES bytes."""
    max_rows = conf().chunk_rows
    index = first_byte = 0
    for number in count():
        sizes = payload.line_bytes[index : index + max_rows]
        if not sizes:
            return
        if sum(sizes) > MAX_CHUNK_BYTES:
            sizes = sizes[: max(1, bisect(list(accumulate(sizes)), MAX_CHUNK_BYTES))]
        end, byte_count = index + len(sizes), sum(sizes)
        yield ImportChunk(
            job=job,
            number=number,
            first_index=index,
            row_count=len(sizes),
            first_byte=first_byte,
            byte_count=byte_count,
            row_hashes=bytes(payload.row_hashes[index * ROW_HASH_BYTES : end * ROW_HASH_BYTES]),
            row_lines=pack_lines(payload.row_lines[index:end]),
        )
        index, first_byte = end, first_byte + byte_count
