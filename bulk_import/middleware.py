"""The middleware that creates an imported row and its ledger record in one transaction.

`ImportedRowMiddleware` comes last in MIDDLEWARE, directly before the view. A request without an import token passes
through unchanged. For a request with one, which is a worker's create call, it does these steps in one transaction:

1. Lock the chunk, so that nobody can finish it before this transaction ends, and check that the worker still has it.
2. Check that the job is not cancelled and that the submitter may act.
3. Write the ledger record. If a call for the same row is in flight, this waits for it.
4. Call the target's view, as the submitter and with the submitter's permissions.
5. Commit if the view returned 201. Roll back everything otherwise.

After the transaction, the middleware adds the verdict header (`Bulk-Import-Row`). It tells the worker what happened to
the row, whatever the HTTP status says:

- `created`: the row and its ledger record are committed.
- `replayed`: an earlier call committed them. The row was not created a second time.
- `not-created`: nothing was kept. The HTTP status says whether the worker should retry (429, 503) or give up (400).
- `refused`: nothing was kept, and the reason is this row. The worker does not pause the job, even if the status is 403.
- `stale`: nothing was kept, because the worker no longer has the chunk. It must stop.
- `cancelled`: nothing was kept, because the job was cancelled. The worker must not try further rows.

The worker counts a row as created only if the response has this header. A 201 without it may come from a proxy or a
site without this middleware, and then there is no ledger record.
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
from bulk_import.ledger import CreateCall, CreateCallError, RowAlreadyCreated
from bulk_import.models import ImportedRow, LockedChunk, database
from bulk_import.tracing import request_log_context
from bulk_import_wire.contract import IMPORT_SCHEME, VERDICT_HEADER, RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


class ImportedRowMiddleware:
    """Creates each imported row at most once, together with its ledger record."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != IMPORT_SCHEME:
            return self.get_response(request)
        try:
            call = CreateCall.from_request(request, token)
            with request_log_context(request), call.log_context():
                return self._create_once(request, call)
        except CreateCallError as error:
            return error.response()

    def _create_once(self, request: HttpRequest, call: CreateCall) -> HttpResponseBase:
        try:
            return self._create(request, call)
        except RowAlreadyCreated:
            return call.replayed_response()
        except IntegrityError as error:
            # The database checks a deferred constraint, such as every foreign key of Django, only at the commit. The
            # view has returned 201 by then, but the row is not stored.
            message = "The database refused the row."
            raise CreateCallError(HTTPStatus.CONFLICT, "integrity", message, RowVerdict.REFUSED) from error

    def _create(self, request: HttpRequest, call: CreateCall) -> HttpResponseBase:
        using = database()
        # `durable` raises an error unless this is the outermost transaction, so leaving the block commits. Within a
        # transaction that another middleware had opened, the commit would come after the verdict, and could still fail.
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
        # The transaction has ended, so the verdict is final. For example, if the process dies during the commit, the
        # worker gets no response and repeats the call. It never gets `created` for a row that is lost.
        verdict = RowVerdict.CREATED
        if not created:
            verdict = RowVerdict.REFUSED if _is_denied_for_this_row(response) else RowVerdict.NOT_CREATED
            response = _with_error_codes(response)
        response[VERDICT_HEADER] = verdict.value  # `value`, because WSGI servers accept only exact `str` objects
        return response

    def _act_as_submitter(self, request: HttpRequest, chunk: LockedChunk) -> None:
        """Authenticate the request as the job's submitter, whatever authentication the view uses.

        Raises CreateCallError if the request is not for the job's create endpoint, or if the submitter is disabled.
        """
        if request.method != "POST" or request.path != conf().target(chunk.target).create_path:
            message = "An import token is only valid for the create endpoint of its job."
            raise CreateCallError(403, "wrong_endpoint", message, RowVerdict.STALE)
        submitter = chunk.submitter
        if submitter is None or not submitter.is_active:
            message = "The user who submitted this import is disabled."
            raise CreateCallError(403, "submitter_disabled", message, RowVerdict.NOT_CREATED)
        request.user = submitter
        # DRF's own hook for a request that is already authenticated. Its test client uses it for `force_authenticate`.
        request._force_auth_user = submitter  # type: ignore[attr-defined]  # noqa: SLF001 - see above


def _is_denied_for_this_row(response: Any) -> bool:
    """Return whether a 403 is about this row only.

    If the view's own permissions would still let the submitter create another row, the 403 is about this row, and the
    row is rejected. Otherwise the submitter has lost the permission, and the worker pauses the job.
    """
    view = (getattr(response, "renderer_context", None) or {}).get("view")
    if response.status_code != HTTPStatus.FORBIDDEN or view is None:
        return False
    try:
        view.check_permissions(view.request)
    except APIException:
        return False
    return True


def _with_error_codes(response: Any) -> Any:
    """Return the response with its errors as `{"errors": [{"field", "code", "message"}]}`.

    DRF renders the errors without their codes. Here the response's `data` still has them.
    """
    data = getattr(response, "data", None)
    if response.status_code < HTTPStatus.BAD_REQUEST:
        # For example a 200. The row was rolled back, so do not send its data as if it existed.
        message = f"The endpoint returned {response.status_code}. Only 201 counts as created."
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
    """Return the "id" (or "pk") in the view's response, for links to the created object; "" if there is none."""
    data = getattr(response, "data", None)
    if not isinstance(data, dict):
        return ""
    object_id = data.get("id", data.get("pk", ""))
    max_length = ImportedRow._meta.get_field("object_id").max_length or 0
    return str(object_id)[:max_length]
