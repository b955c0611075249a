"""Handles one create call of the worker: who may create which row, and whether the ledger has it already."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core import signing
from django.db import IntegrityError
from django.http import JsonResponse

from bulk_import.authentication import ImportToken
from bulk_import.models import ImportChunk, ImportedRow, LockedChunk
from bulk_import_wire.contract import IDEMPOTENCY_KEY, VERDICT_HEADER, RowVerdict
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from django.http import HttpRequest


class Refused(Exception):
    """Leave the transaction, keep nothing, and answer this instead of calling the view."""

    def __init__(self, status: int, code: str, message: str, verdict: RowVerdict) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.verdict = status, code, message, verdict

    def response(self) -> JsonResponse:
        response = JsonResponse({"code": self.code, "message": self.message}, status=self.status)
        response[VERDICT_HEADER] = self.verdict.value
        return response


class AlreadyImported(Exception):
    """The ledger has this row: answer from it."""


@dataclass(frozen=True, slots=True)
class CreateCall:
    """One row's create call: who may create it, and which row of the chunk it is."""

    token: ImportToken
    job_id: UUID
    index: int
    body_sha256: bytes

    @classmethod
    def read(cls, request: HttpRequest, token: str) -> CreateCall:
        """Raises Refused when the token or the Idempotency-Key is not ours."""
        job_id, _, index = request.headers.get(IDEMPOTENCY_KEY, "").partition(":")
        try:
            return cls(
                token=ImportToken.read(token),
                job_id=UUID(job_id),
                index=int(index),
                body_sha256=hashlib.sha256(request.body).digest(),
            )
        except signing.BadSignature as error:
            raise Refused(401, "invalid_token", "The import token is invalid or expired.", RowVerdict.STALE) from error
        except ValueError as error:
            message = f"An import needs {IDEMPOTENCY_KEY}: <job id>:<row index>."
            raise Refused(400, "invalid_key", message, RowVerdict.NOT_CREATED) from error

    def log_context(self) -> AbstractContextManager[None]:
        """Lines that are logged within, also by the target's own code, tell which row they are about."""
        chunk_id, epoch = str(self.token.chunk_id), self.token.epoch
        return log_context(job_id=str(self.job_id), chunk_id=chunk_id, epoch=epoch, row_index=self.index)

    def lock_chunk(self) -> LockedChunk:
        """Hold the chunk until the transaction ends. Raises Refused for a worker that lost it."""
        try:
            chunk = LockedChunk.lock(self.token.chunk_id)
        except ImportChunk.DoesNotExist as error:
            raise Refused(410, "gone", "There is no such chunk any more.", RowVerdict.STALE) from error
        if chunk.job_id != self.job_id or not chunk.contains_index(self.index):
            message = f"The {IDEMPOTENCY_KEY} names a row that is not of the token's chunk."
            raise Refused(403, "foreign_row", message, RowVerdict.STALE)
        if not chunk.has_epoch(self.token.epoch):
            raise Refused(409, "stale_epoch", "Another worker has this chunk now.", RowVerdict.STALE)
        return chunk

    def check_not_cancelled(self, chunk: LockedChunk) -> None:
        """Raises Refused if no further row of the job may be created, AlreadyImported if this one was before."""
        if chunk.is_cancelled:
            if ImportedRow.objects.filter(job_id=self.job_id, index=self.index).exists():
                raise AlreadyImported
            raise Refused(409, "cancelled", "The import was cancelled.", RowVerdict.CANCELLED)

    def write_record(self) -> ImportedRow:
        """Write the ledger record. Raises AlreadyImported, after waiting for a twin that is under way."""
        try:
            record: ImportedRow = ImportedRow.objects.create(
                job_id=self.job_id, index=self.index, body_sha256=self.body_sha256
            )
        except IntegrityError as error:
            raise AlreadyImported from error
        return record

    def replay(self) -> JsonResponse:
        """Answer from the ledger what was answered when the row was created. Raises Refused."""
        record = ImportedRow.objects.get(job_id=self.job_id, index=self.index)
        if bytes(record.body_sha256) != self.body_sha256:
            message = f"This {IDEMPOTENCY_KEY} was used for a row with other content."
            raise Refused(422, "key_reused", message, RowVerdict.NOT_CREATED)
        response = JsonResponse({"id": record.object_id}, status=HTTPStatus.CREATED)
        response[VERDICT_HEADER] = RowVerdict.REPLAYED.value
        return response


def __getattr__(name: str) -> Any:
    """Serve `ImportedRowMiddleware` from its old path for one more release."""
    if name != "ImportedRowMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "bulk_import.ledger.ImportedRowMiddleware has moved. "
        "List bulk_import.middleware.ImportedRowMiddleware in MIDDLEWARE instead.",
        DeprecationWarning,
        stacklevel=2,
    )
    from bulk_import.middleware import ImportedRowMiddleware  # noqa: PLC0415 - the middleware imports this module

    return ImportedRowMiddleware
