"""What the middleware needs to handle one create call: who may create which row, and whether it exists already.

A create call is a worker's POST to the target's own endpoint. Its import token says which chunk and epoch the worker
has, and its Idempotency-Key says which row it creates.
"""

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
from bulk_import.conf import conf
from bulk_import.models import ImportChunk, ImportedRow, LockedChunk
from bulk_import.models.row import ROW_HASH_BYTES
from bulk_import_wire.contract import IDEMPOTENCY_KEY, VERDICT_HEADER, RowVerdict

if TYPE_CHECKING:
    from django.http import HttpRequest

    from bulk_import.conf import Target


MAX_INDEX = 2**27
"""Largest index that a create call may have. No import has so many rows.

`LockedChunk` multiplies the index in SQL, where a larger one could exceed the database's integers.
"""


class CreateCallError(Exception):
    """The call does not create its row. Roll back the transaction and send `response()`."""

    def __init__(self, status: int, code: str, message: str, verdict: RowVerdict, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.verdict, self.field = status, code, message, verdict, field

    def response(self) -> JsonResponse:
        document = {"field": self.field, "code": self.code, "message": self.message}
        response = JsonResponse(document, status=self.status)
        response[VERDICT_HEADER] = self.verdict.value
        return response


def wrong_endpoint() -> CreateCallError:
    message = "An import token is only valid for the create endpoint of its job."
    return CreateCallError(403, "wrong_endpoint", message, RowVerdict.WRONG_ENDPOINT)


class RowAlreadyCreated(Exception):
    """The ledger has a record of this row. Roll back the transaction and send `replayed_response()`."""


@dataclass(frozen=True, slots=True)
class CreateCall:
    """A worker's call that creates one row.

    `body_sha256` is the hash of the request's body: a call that is repeated must have the same body.
    """

    token: ImportToken
    job_id: UUID
    index: int
    body_sha256: bytes

    @classmethod
    def from_request(cls, request: HttpRequest, token: str) -> CreateCall:
        """Build the call from its headers and body. Raises CreateCallError if the token or the key is not valid."""
        job_id, _, index = request.headers.get(IDEMPOTENCY_KEY, "").partition(":")
        try:
            return cls(
                token=ImportToken.verify(token),
                job_id=UUID(job_id),
                index=_read_index(index),
                body_sha256=hashlib.sha256(request.body).digest(),
            )
        except signing.BadSignature as error:
            # The doctor sends no valid token. It must learn all the same whether its calls reach a create endpoint.
            if request.path_info not in {conf().target(name).create_path for name in conf().targets}:
                raise wrong_endpoint() from error
            message = "The import token is invalid or has expired."
            raise CreateCallError(401, "invalid_token", message, RowVerdict.STALE) from error
        except ValueError as error:
            message = f"A create call needs the header {IDEMPOTENCY_KEY}: <job id>:<row index>."
            raise CreateCallError(400, "invalid_key", message, RowVerdict.NOT_CREATED) from error

    @property
    def log_fields(self) -> dict[str, str | int]:
        """The row's IDs, which all log lines contain, including those of the target's own code."""
        chunk_id, epoch = str(self.token.chunk_id), self.token.epoch
        return {"job_id": str(self.job_id), "chunk_id": chunk_id, "epoch": epoch, "row_index": self.index}

    def check_endpoint(self, request: HttpRequest, target: Target) -> None:
        """Raise CreateCallError if the request is not for the create endpoint of the target."""
        # `path_info` has no prefix of FORCE_SCRIPT_NAME or of the server, and neither has `create_path`.
        if request.method != "POST" or request.path_info != target.create_path:
            raise wrong_endpoint()

    def lock_chunk(self) -> LockedChunk:
        """Lock the chunk until the transaction ends. Raises CreateCallError if the worker no longer has it."""
        try:
            chunk = LockedChunk.lock(self.token.chunk_id, self.index)
        except ImportChunk.DoesNotExist as error:
            raise CreateCallError(410, "gone", "This chunk no longer exists.", RowVerdict.STALE) from error
        if chunk.job_id != self.job_id or not chunk.contains_index(self.index):
            message = f"The row in {IDEMPOTENCY_KEY} does not belong to the token's chunk."
            raise CreateCallError(403, "foreign_row", message, RowVerdict.STALE)
        # Check the epoch only after the lock: between a check and a later lock, another worker could finish the chunk,
        # and this call would then add a row that the finish did not count.
        if not chunk.has_epoch(self.token.epoch):
            raise CreateCallError(409, "stale_epoch", "This worker no longer has the chunk.", RowVerdict.STALE)
        return chunk

    def check_not_stopped(self, chunk: LockedChunk) -> None:
        """Raise CreateCallError if the job is paused until resumed or cancelled, RowAlreadyCreated if the row exists.

        No row is created by a call that begins after the pause or the cancel was committed. On PostgreSQL, "begins"
        means the statement that locks the chunk, because that statement also reads the job.
        """
        if chunk.is_cancelled or chunk.is_paused_until_resumed:
            # A worker may ask again for a row because the first answer was lost. It must learn that the row exists,
            # although the job was stopped in between; otherwise it would count the row as unprocessed.
            if ImportedRow.objects.filter(job_id=self.job_id, index=self.index).exists():
                raise RowAlreadyCreated
            if chunk.is_cancelled:
                raise CreateCallError(409, "cancelled", "The import was cancelled.", RowVerdict.CANCELLED)
            raise CreateCallError(409, "paused", "The import is paused until somebody resumes it.", RowVerdict.PAUSED)

    def check_is_stored_row(self, chunk: LockedChunk) -> None:
        """Raise CreateCallError unless the body is the row that the user submitted, byte for byte.

        So a stolen worker secret does not give the right to create other content as the user.
        """
        # Chunks of jobs that were accepted before the hashes were introduced have none.
        if chunk.row_hash and self.body_sha256[:ROW_HASH_BYTES] != chunk.row_hash:
            message = "The body is not the row that was submitted."
            raise CreateCallError(422, "not_the_stored_row", message, RowVerdict.NOT_CREATED)

    def write_record(self) -> ImportedRow:
        """Write the ledger record of the row. Raises RowAlreadyCreated if the row has one already.

        If a call for the same row is in flight, this waits until that call's transaction ends. For example, SQS
        delivers a message twice and two calls create row 7. The unique constraint (job, index) makes the second INSERT
        wait for the first transaction. If that commits, the second call raises RowAlreadyCreated. If it rolls back, the
        second call continues and creates the row.
        """
        record = ImportedRow(job_id=self.job_id, index=self.index, body_sha256=self.body_sha256)
        try:
            record.insert()
        except IntegrityError as error:
            raise RowAlreadyCreated from error
        return record

    def replayed_response(self) -> JsonResponse:
        """Return the response for a row that an earlier call created. Raises CreateCallError if the bodies differ."""
        record = ImportedRow.objects.get(job_id=self.job_id, index=self.index)
        if bytes(record.body_sha256) != self.body_sha256:
            message = f"This {IDEMPOTENCY_KEY} was used before for a row with a different content."
            raise CreateCallError(422, "key_reused", message, RowVerdict.NOT_CREATED)
        response = JsonResponse({"id": record.object_id}, status=HTTPStatus.CREATED)
        response[VERDICT_HEADER] = RowVerdict.REPLAYED.value
        return response


def _read_index(text: str) -> int:
    index = int(text)
    if abs(index) > MAX_INDEX:
        raise ValueError("too large")
    return index


def __getattr__(name: str) -> Any:
    """Provide `ImportedRowMiddleware` under its old path for one more release."""
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
