"""The middleware that creates an imported row and its ledger record in one transaction.

`ImportedRowMiddleware` comes last in MIDDLEWARE, directly before the view. A request without an import token passes
through unchanged. For a request with one, which is a worker's create call, it does these steps in one transaction:

1. Lock the chunk, so that nobody can finish it before this transaction ends, and check that the worker still has it.
2. Check that the job is neither cancelled nor paused until somebody resumes it, and that the submitter may act.
3. Check that the body is the row that the user submitted, and write the ledger record. If a call for the same row is
   in flight, this waits for it.
4. For an update or upsert, lock the object that the row is about, and make the call a PATCH of this object. For an
   undo, make it a DELETE.
5. Call the view, as the submitter and with the submitter's permissions.
6. Commit if the view answered 201, or another of the target's `success_statuses`. Roll back everything otherwise.
   In a rehearsal, roll back what the view wrote also after a success. Then only the ledger record is committed.

After the transaction, the middleware adds the verdict header (`Bulk-Import-Row`). It tells the worker what happened to
the row, whatever the HTTP status says:

- `created`, `updated`, `deleted`: the row and its ledger record are committed.
- `unchanged`: the object already had the values of the row, so only the ledger record is committed.
- `replayed`: an earlier call committed them. The row was not created a second time.
- `not-created`: nothing was kept. The HTTP status says whether the worker should retry (429, 503) or give up (400).
- `refused`: nothing was kept, and the reason is this row. The worker does not pause the job, even if the status is 403.
- `wrong-endpoint`: nothing was kept, because the call did not reach the create endpoint of its job.
- `stale`: nothing was kept, because the worker no longer has the chunk. It must stop.
- `cancelled`: nothing was kept, because the job was cancelled. The worker must not try further rows.
- `paused`: nothing was kept, because the job is paused until somebody resumes it. The worker must release the chunk.

With REPORT_LOAD, the response also says how fast this process serves its other requests (`Bulk-Import-Load`, see
`shop_load`).

The worker counts a row as created only if the response has the verdict header. A 201 without it may come from a proxy
or a site without this middleware, and then there is no ledger record.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.db import IntegrityError, connections, transaction
from django.http import JsonResponse

from bulk_import.authentication import PROBE_PREFIX
from bulk_import.conf import SUCCESS, conf, reports_load, token_header
from bulk_import.created_object import check_not_protected, find_created_object
from bulk_import.exceptions import OuterTransaction
from bulk_import.existing_object import find_object
from bulk_import.ledger import CreateCall, CreateCallError, RowAlreadyCreated
from bulk_import.ledger_record import fill_record
from bulk_import.models import (
    JobMode,
    LockedChunk,
    database,
    durable_transaction,
    record_inserts,
)
from bulk_import.probe import answer_probe
from bulk_import.rehearsal import rolled_back
from bulk_import.row_response import (
    ViewAnswer,
    call_view,
    forget_session,
    is_denied_for_this_row,
    with_error_codes,
)
from bulk_import.shared_permissions import shared_permissions
from bulk_import.shop_load import ShopLoad
from bulk_import.target_views import act_as, error_detail
from bulk_import.tracing import request_log_context
from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    IMPORT_SCHEME,
    LOAD_HEADER,
    SUBMITTER_DISABLED,
    UNUSED,
    VERDICT_HEADER,
    Outcome,
    RowVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from bulk_import.conf import Target
    from bulk_import.existing_object import ExistingObject

logger = logging.getLogger(__name__)


class ImportedRowMiddleware:
    """Creates each imported row at most once, together with its ledger record.

    Under ASGI it handles other requests in the event loop and create calls in a thread, because they use the database.
    """

    sync_capable = async_capable = True
    shop_load = ShopLoad()  # of the process: batches are replayed by another instance than the one of other requests

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.is_async = iscoroutinefunction(get_response)
        self.get_response: Callable[[HttpRequest], HttpResponseBase] = get_response
        if self.is_async:
            markcoroutinefunction(self)
            self.get_response = async_to_sync(get_response)  # for create calls
            self._get_response_async: Callable[[HttpRequest], Awaitable[HttpResponseBase]] = get_response
            self._answer_create_async = sync_to_async(self._answer_create)

    def __call__(self, request: HttpRequest) -> Any:
        """Return the response, or under ASGI a coroutine that returns it."""
        scheme, _, token = request.headers.get(token_header(), "").partition(" ")
        if scheme == IMPORT_SCHEME:
            return (self._answer_create_async if self.is_async else self._answer_create)(request, token)
        if not reports_load() or CONTRACT_HEADER in request.headers:
            return (self._get_response_async if self.is_async else self.get_response)(request)
        return (self._measure_async if self.is_async else self._measure)(request)

    def _measure(self, request: HttpRequest) -> HttpResponseBase:
        """Answer a request that is not a worker's, and record how long it took."""
        began_at = self.shop_load.begin_request()
        try:
            return self.get_response(request)
        finally:
            self.shop_load.end_request(request, began_at)

    async def _measure_async(self, request: HttpRequest) -> HttpResponseBase:
        began_at = self.shop_load.begin_request()
        try:
            return await self._get_response_async(request)
        finally:
            self.shop_load.end_request(request, began_at)

    def _answer_create(self, request: HttpRequest, token: str) -> HttpResponseBase:
        """Answer a create call, and report the load of the shop."""
        if not reports_load():
            return self._handle_create(request, token)
        self.shop_load.begin_create()
        try:
            response = self._handle_create(request, token)
        finally:
            load = self.shop_load.end_create()
        if load == UNUSED and connections[database()].vendor == "sqlite":
            load = 0.0  # more calls in flight would only wait for SQLite's write lock
        response[LOAD_HEADER] = f"{load:.2f}"
        return response

    def _handle_create(self, request: HttpRequest, token: str) -> HttpResponseBase:
        try:
            if token.startswith(PROBE_PREFIX):
                return answer_probe(request, token, self.get_response)
            call = CreateCall.from_request(request, token)
            with request_log_context(request, **call.log_fields):
                return self._create_once(request, call)
        except CreateCallError as error:
            return error.response()
        except OuterTransaction as error:  # no verdict: the worker pauses the job and blames no row
            return JsonResponse({"code": error.code, "message": str(error)}, status=HTTPStatus.SERVICE_UNAVAILABLE)
        finally:
            forget_session(request)

    def _create_once(self, request: HttpRequest, call: CreateCall) -> HttpResponseBase:
        try:
            try:
                response: HttpResponseBase = self._create(request, call)
            except NothingCreated as failed:
                response = self._create(request, call, failed)
        except RowAlreadyCreated:
            return call.replayed_response()
        except IntegrityError as error:
            # The database checks a deferred constraint, such as every foreign key of Django, only at the commit. The
            # view has returned 201 by then, but the row is not stored.
            message = "The database refused the row."
            raise CreateCallError(HTTPStatus.CONFLICT, "integrity", message, RowVerdict.REFUSED) from error
        return response

    def _create(self, request: HttpRequest, call: CreateCall, failed: NothingCreated | None = None) -> Any:
        """Carry out the row, and return the response with its verdict. `failed` is the first try of an upsert.

        Raises NothingCreated if the view did not create the object of an upsert. Then try again: another call may have
        created the object in the meantime, and the second try changes it.
        """
        using = database()
        with _committed_transaction(using):
            chunk = call.lock_chunk()
            call.check_not_stopped(chunk)
            target = conf().target(chunk.target)
            call.check_endpoint(request, target)
            call.check_is_stored_row(chunk)
            self._act_as_submitter(request, chunk)
            record = call.write_record()
            existing = _find(request, call, target, chunk.mode)
            is_undo = chunk.mode == JobMode.UNDO
            inserts: list[str] = []
            with rolled_back() if chunk.is_rehearsal else record_inserts(using, inserts):
                if existing and not is_undo and (chunk.mode == JobMode.SKIP or existing.is_unchanged()):
                    answer = ViewAnswer(JsonResponse({"id": existing.object_id}), errors=[])
                    record.outcome = Outcome.UNCHANGED.value
                elif failed and not existing:
                    answer = failed.answer
                else:
                    answer = call_view(request, using, self.get_response)
                response, errors = answer.response, answer.errors
                if is_undo:
                    record.outcome = Outcome.DELETED.value
                    check_not_protected(errors)
                statuses = SUCCESS if existing else target.success_statuses
                is_success = answer.is_success(statuses)
                done = answer.is_done(statuses, using)
                if done and chunk.is_rehearsal:
                    connections[using].check_constraints()  # as the commit of an import does
            if done:
                is_rehearsal = chunk.is_rehearsal
                fill_record(record, request, response, target, existing, is_rehearsal=is_rehearsal, inserts=inserts)
            elif chunk.mode in {JobMode.UPSERT, JobMode.SKIP} and not (is_success or existing or failed):
                raise NothingCreated(answer)
            else:
                transaction.set_rollback(True, using=using)
        if done and not chunk.is_rehearsal and (shared := shared_permissions(request)):
            shared.keep_from(chunk.submitter)
        # The transaction has ended, so the verdict is final. For example, if the process dies during the commit, the
        # worker gets no response and repeats the call. It never gets `created` for a row that is lost.
        verdict = RowVerdict(record.outcome)
        if not done:
            verdict = RowVerdict.REFUSED if is_denied_for_this_row(response) else RowVerdict.NOT_CREATED
            if errors and response.status_code < HTTPStatus.BAD_REQUEST:
                response.status_code = getattr(errors[-1], "status_code", HTTPStatus.BAD_REQUEST)
            response = with_error_codes(response, error_detail(errors[-1]) if errors else None, statuses)
        response[VERDICT_HEADER] = verdict.value  # `value`, because WSGI servers accept only exact `str` objects
        return response

    def _act_as_submitter(self, request: HttpRequest, chunk: LockedChunk) -> None:
        """Authenticate the request as the job's submitter, whatever authentication the view uses.

        Raises CreateCallError if the submitter is disabled.
        """
        submitter = chunk.submitter
        if submitter is None or not submitter.is_active:
            message = "The user who submitted this import is disabled."
            raise CreateCallError(403, SUBMITTER_DISABLED, message, RowVerdict.NOT_CREATED)
        if shared := shared_permissions(request):
            shared.give_to(submitter)
        act_as(request, submitter)


def _find(request: HttpRequest, call: CreateCall, target: Target, mode: str) -> ExistingObject | None:
    """Return the locked object that the row changes or deletes; None if the row creates one."""
    if mode == JobMode.CREATE:
        return None
    if mode == JobMode.UNDO:
        return find_created_object(request, call, target)
    return find_object(request, call, target, mode)


class NothingCreated(Exception):
    """The view did not create the object of an upsert. Raising this rolls back the transaction."""

    def __init__(self, answer: ViewAnswer) -> None:
        super().__init__()
        self.answer = answer


@contextmanager
def _committed_transaction(using: str) -> Iterator[None]:
    """Run the block in a transaction of its own, which is committed afterwards unless the block rolls it back.

    An error of a function that the view passed to `transaction.on_commit` is logged and not raised. Such a function
    runs after the commit, so the row exists whatever the function does.
    """
    committed: list[bool] = []
    try:
        # Leaving the block commits. Within a transaction that another middleware had opened, the commit would come
        # after the verdict, and could still fail.
        with durable_transaction():
            # Django calls the functions in the order in which they were registered, so this one runs before the view's.
            transaction.on_commit(lambda: committed.append(True), using=using)
            yield
    except Exception:
        if not committed:
            raise
        logger.exception("The row was created, but a function that the view passed to on_commit failed.")
