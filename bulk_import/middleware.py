"""The middleware that turns a create call of the worker into a row and its ledger record, or into neither.

`ImportedRowMiddleware` stands last in MIDDLEWARE, right before the view. A request without an import
token passes untouched. For one with it, in a single transaction:

1. hold the chunk, so that nobody can finish it meanwhile;
2. write the ledger record: a twin of the call waits here, and finds it written;
3. let the target's view create, as the submitter and with the submitter's permissions;
4. commit if the view answered 201, otherwise keep nothing.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.http import HttpResponse
from rest_framework.exceptions import APIException, ErrorDetail

from bulk_import.conf import conf
from bulk_import.errors import flatten_errors
from bulk_import.ledger import AlreadyImported, CreateCall, Refused
from bulk_import.models import ImportedRow, LockedChunk, database
from bulk_import.tracing import request_log_context
from bulk_import_wire.contract import IMPORT_SCHEME, VERDICT_HEADER, RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


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
            with request_log_context(request), call.log_context():
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
            chunk = call.lock_chunk()
            call.check_not_cancelled(chunk)
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
        response[VERDICT_HEADER] = verdict.value  # a plain str: WSGI servers insist
        return response

    def _act_as_submitter(self, request: HttpRequest, chunk: LockedChunk) -> None:
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
    response.content = json.dumps({"errors": list(flatten_errors(data))})
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
