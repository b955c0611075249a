"""The way back: a create call of the worker becomes a product and its ledger record, or neither.

`ImportedRowMiddleware` stands last in MIDDLEWARE, right before the view. A request without an import
token passes untouched. For one with it, in a single transaction:

1. hold the chunk, so that nobody can finish it meanwhile;
2. write the ledger record: a twin of the call waits here, and finds it written;
3. let the target's view create, as the submitter and with the submitter's permissions;
4. commit if the view answered 201, otherwise keep nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core import signing
from django.db import IntegrityError, transaction
from django.http import HttpResponse, JsonResponse
from rest_framework.exceptions import APIException, ErrorDetail

from bulk_import.authentication import ImportToken
from bulk_import.conf import conf
from bulk_import.models import HeldChunk, ImportChunk, ImportedRow, database
from bulk_import.tracing import about_request
from bulk_import.validation import flatten
from lambda_worker.contract import IDEMPOTENCY_KEY, IMPORT_SCHEME, ROW_HEADER, RowVerdict
from lambda_worker.logs import about

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class Refused(Exception):
    """Leave the transaction, keep nothing, and answer this instead of calling the view."""

    def __init__(self, status: int, code: str, message: str, verdict: RowVerdict) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.verdict = status, code, message, verdict

    def response(self) -> JsonResponse:
        response = JsonResponse({"code": self.code, "message": self.message}, status=self.status)
        response[ROW_HEADER] = self.verdict.value
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

    def about(self) -> AbstractContextManager[None]:
        """Lines that are logged within, also by the target's own code, tell which row they are about."""
        chunk_id, epoch = str(self.token.chunk_id), self.token.epoch
        return about(job_id=str(self.job_id), chunk_id=chunk_id, epoch=epoch, row_index=self.index)

    def hold_chunk(self) -> HeldChunk:
        """Hold the chunk until the transaction ends. Raises Refused for a worker that lost it."""
        try:
            chunk = HeldChunk.hold(self.token.chunk_id)
        except ImportChunk.DoesNotExist as error:
            raise Refused(410, "gone", "There is no such chunk any more.", RowVerdict.STALE) from error
        if chunk.job_id != self.job_id or not chunk.holds_index(self.index):
            message = f"The {IDEMPOTENCY_KEY} names a row that is not of the token's chunk."
            raise Refused(403, "foreign_row", message, RowVerdict.STALE)
        if not chunk.is_held_by(self.token.epoch):
            raise Refused(409, "stale_epoch", "Another worker has this chunk now.", RowVerdict.STALE)
        return chunk

    def expect_not_cancelled(self, chunk: HeldChunk) -> None:
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
        response[ROW_HEADER] = RowVerdict.REPLAYED.value
        return response


class ImportedRowMiddleware:
    """Creates each imported row once, together with its ledger record."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != IMPORT_SCHEME:
            return self.get_response(request)
        try:
            call = CreateCall.read(request, token)
            with about_request(request), call.about():
                return self._create_once(request, call)
        except Refused as refused:
            return refused.response()

    def _create_once(self, request: HttpRequest, call: CreateCall) -> HttpResponseBase:
        try:
            return self._create(request, call)
        except AlreadyImported:
            return call.replay()
        except IntegrityError as error:  # found at the commit, as deferred constraints are
            message = "The database refused the row."
            raise Refused(HTTPStatus.CONFLICT, "integrity", message, RowVerdict.REFUSED) from error

    def _create(self, request: HttpRequest, call: CreateCall) -> HttpResponseBase:
        using = database()
        # Durable: when the block is left, the row is committed, whatever happens to the answer.
        with transaction.atomic(using=using, durable=True):
            chunk = call.hold_chunk()
            call.expect_not_cancelled(chunk)
            self._act_as_submitter(request, chunk)
            record = call.write_record()
            response = self.get_response(request)
            created = response.status_code == HTTPStatus.CREATED and not transaction.get_rollback(using=using)
            if created:
                record.object_id = _object_id(response)
                record.save(update_fields=["object_id"])
            else:
                transaction.set_rollback(True, using=using)
        verdict = RowVerdict.CREATED
        if not created:
            verdict = RowVerdict.REFUSED if _is_denied_for_itself(response) else RowVerdict.NOT_CREATED
            response = _spell_out_errors(response)
        response[ROW_HEADER] = verdict.value  # a plain str: WSGI servers insist
        return response

    def _act_as_submitter(self, request: HttpRequest, chunk: HeldChunk) -> None:
        """Let the view see the submitter, whatever authentication it lists. Raises Refused."""
        if request.method != "POST" or request.path != conf().target(chunk.target).create_path:
            message = "An import token opens the create endpoint of its job and nothing else."
            raise Refused(403, "wrong_endpoint", message, RowVerdict.STALE)
        submitter = chunk.submitter
        if submitter is None or not submitter.is_active:
            message = "The user who sent this import was disabled."
            raise Refused(403, "submitter_disabled", message, RowVerdict.NOT_CREATED)
        request.user = submitter
        # DRF's own hook for a request that is authenticated already (it serves its test client, too).
        request._force_auth_user = submitter  # type: ignore[attr-defined]  # noqa: SLF001 - see above


def _is_denied_for_itself(response: Any) -> bool:
    """Whether a 403 is about this row: the view's own permissions would let the submitter create another."""
    view = (getattr(response, "renderer_context", None) or {}).get("view")
    if response.status_code != HTTPStatus.FORBIDDEN or view is None:
        return False
    try:
        view.check_permissions(view.request)
    except APIException:
        return False
    return True


def _spell_out_errors(response: Any) -> Any:
    """The response, with an endpoint's refusal spelled out as `{"errors": [{"field", "code", "message"}]}`.

    DRF's own answer has lost the codes; here they are still there.
    """
    data = getattr(response, "data", None)
    if response.status_code < HTTPStatus.BAD_REQUEST:
        # The answer holds what would have been created, which is no reason and nobody's to read.
        message = f"The endpoint answered {response.status_code} without having created the row (201)."
        data = [ErrorDetail(message, code="not_created")]
        if response.streaming:
            response.close()
            response = HttpResponse(status=response.status_code)
    if not isinstance(data, dict | list):
        return response
    if isinstance(data, dict) and data.keys() == {"detail"}:
        data = [data["detail"]]
    response.content = json.dumps({"errors": list(flatten(data))})
    response["Content-Type"] = "application/json"
    return response


def _object_id(response: Any) -> str:
    """The "id" (or "pk") that the target's view answered, for links to what was created; else ""."""
    data = getattr(response, "data", None)
    if not isinstance(data, dict):
        return ""
    object_id = data.get("id", data.get("pk", ""))
    max_length = ImportedRow._meta.get_field("object_id").max_length or 0
    return str(object_id)[:max_length]
