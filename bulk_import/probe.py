"""Answers a probe: a create call with which the doctor or a worker learns whether a create endpoint works.

A probe is a rehearsal of one row without a job. It calls the target's view as a create call does, and then rolls back
everything that the view wrote to databases. The response is a `ProbeReport` about what the view saw and did. Effects
outside the databases are not rolled back, so only targets that allow rehearsals can be probed.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import time
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.db import IntegrityError, connections
from django.http import HttpRequest, JsonResponse
from rest_framework.exceptions import APIException
from rest_framework.throttling import AnonRateThrottle, ScopedRateThrottle

from bulk_import.authentication import ProbeToken
from bulk_import.conf import Target, conf
from bulk_import.errors import flatten_errors
from bulk_import.models import database, durable_transaction, table_places
from bulk_import.rehearsal import rolled_back
from bulk_import.row_response import call_view, exception_place
from bulk_import.target_views import ViewFormat, act_as, error_detail
from bulk_import_wire.contract import IDEMPOTENCY_KEY, VERDICT_HEADER, RowVerdict
from bulk_import_wire.probe import ProbeReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http.response import HttpResponseBase

CACHED_USERS = ("_cached_user", "_acached_user")
"""Attributes in which Django's AuthenticationMiddleware keeps the user of the session, once something has read it.

After that middleware, `act_as` replaces `request.user`. So only code that got hold of it earlier can have read it.
"""

SETS_MORE = re.compile(
    r"\brequest\.(?:_request\.)?(?!(?:user|auth)\b)\w+\s*=(?!=)|\b(?:setattr|set_tenant|set_schema)\("
)
"""What the source of an authentication class looks like if it sets more than the user, for example the tenant."""

MAX_ERRORS = 10
"""Most errors of the row in a report."""

MAX_TEXT_CHARACTERS = 300
"""Longest exception text in a report."""


def answer_probe(
    request: HttpRequest, text: str, get_response: Callable[[HttpRequest], HttpResponseBase]
) -> JsonResponse:
    """Call the view for a probe, roll it back, and return the report. Raises OuterTransaction.

    A token is good for one probe. So whoever has one cannot make the site work in a loop.
    """
    try:
        token = ProbeToken.verify(text)
    except signing.BadSignature:
        return _refusal("invalid_token", HTTPStatus.UNAUTHORIZED, RowVerdict.STALE)
    target = conf().target(token.target) if token.target in conf().targets else None
    if target is None or not target.rehearse or not token.use_up():
        return _refusal("invalid_token", HTTPStatus.FORBIDDEN, RowVerdict.STALE)
    if request.method != "POST" or request.path_info != target.create_path:
        return _refusal("wrong_endpoint", HTTPStatus.FORBIDDEN, RowVerdict.WRONG_ENDPOINT)
    report = ProbeReport(
        view="No view",
        status=HTTPStatus.FORBIDDEN,
        verdict=RowVerdict.NOT_CREATED.value,
        errors=[],
        milliseconds=0,
        user=token.user_id,
        host=request.get_host(),
        body_sha256=hashlib.sha256(request.body).hexdigest(),  # before the view reads it as a stream
        ledger=database(),
        isolation="",
        key=request.headers.get(IDEMPOTENCY_KEY, ""),
        places=table_places(),
    )
    user = get_user_model()._base_manager.filter(pk=token.user_id).first()  # noqa: SLF001 - documented API
    if user is None or not user.is_active:
        message = f"There is no active user with the ID {token.user_id} here."
        report = replace(report, errors=[{"field": None, "code": "no_user", "message": message}])
    else:
        act_as(request, user)
        report = _try(request, target, report, get_response)
    return _answer(report.to_dict(), HTTPStatus.BAD_REQUEST, RowVerdict.NOT_CREATED)


def _try(
    request: HttpRequest, target: Target, report: ProbeReport, get_response: Callable[[HttpRequest], HttpResponseBase]
) -> ProbeReport:
    """Call the view as `ImportedRowMiddleware` does, and complete the report. Nothing is committed."""
    using = report.ledger
    with durable_transaction(), rolled_back() as use:
        isolation = _isolation(using)
        use.used.clear()
        began_at = time.perf_counter()
        answer = call_view(request, using, get_response)
        milliseconds = round((time.perf_counter() - began_at) * 1000)
        response, errors = answer.response, answer.errors
        is_created = answer.is_done(target.success_statuses, using)
        hooks = sum(len(connections[alias].run_on_commit) for alias in connections)
        if is_created:
            try:
                connections[using].check_constraints()  # as the commit of an import does
            except IntegrityError as error:
                is_created, errors = False, [*errors, error]
    view = (getattr(response, "renderer_context", None) or {}).get("view")
    throttles, rows_per_second = _throttles(view)
    exception = errors[-1] if errors and not isinstance(errors[-1], APIException) else None
    return replace(
        report,
        view=_dotted(getattr(request.resolver_match, "func", None)) or "No view",
        status=response.status_code,
        verdict=RowVerdict.CREATED.value if is_created else RowVerdict.NOT_CREATED.value,
        errors=[] if is_created else _errors(view, response, errors),
        milliseconds=milliseconds,
        user=str(getattr(getattr(view, "request", request).user, "pk", None) or ""),
        isolation=isolation,
        used=sorted(use.used),
        written=sorted(use.written),
        hooks=hooks,
        tenant=str(getattr(request, "tenant", None) or getattr(connections[using], "schema_name", "") or ""),
        serializer=_serializer(view),
        ignored=_ignored(view, target),
        throttles=throttles,
        rows_per_second=rows_per_second,
        location=response.headers.get("Location", ""),
        is_user_read_early=any(hasattr(request, name) for name in CACHED_USERS),
        setters=_setters(view),
        exception=f"{exception_place(exception)}: {exception}"[:MAX_TEXT_CHARACTERS] if exception else "",
    )


def _isolation(using: str) -> str:
    if connections[using].vendor != "postgresql":
        return ""
    with connections[using].cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        return str(cursor.fetchone()[0])


def _errors(view: Any, response: Any, errors: list[Exception]) -> list[dict[str, Any]]:
    """Return the first errors of the row, with the names of the fields as a client sends them."""
    data = (error_detail(errors[-1]) if errors else None) or getattr(response, "data", None)
    if not isinstance(data, dict | list):
        return []
    if isinstance(data, dict) and data.keys() == {"detail"}:
        data = [data["detail"]]
    found = list(flatten_errors(data))[:MAX_ERRORS]
    return ViewFormat(view).name_fields(found) if view else found


def _dotted(found: Any) -> str:
    """Return the dotted path of a view class, of the class behind a view function, or of a function."""
    found = getattr(found, "cls", None) or getattr(found, "view_class", None) or found
    return f"{found.__module__}.{found.__qualname__}" if hasattr(found, "__qualname__") else ""


def _serializer(view: Any) -> str:
    with suppress(Exception):  # the target's own code may raise anything
        return _dotted(view.get_serializer_class())
    return ""


def _ignored(view: Any, target: Target) -> list[str]:
    """Return the fields of the row, as the view's parser read it, that the target's serializer cannot set."""
    with suppress(Exception):  # as above
        fields = target.serializer_class(context={"request": view.request, "view": view}).fields
        return sorted(name for name in view.request.data if name not in fields or fields[name].read_only)
    return []


def _setters(view: Any) -> list[str]:
    """Return the authentication classes of the site whose source sets more than the user of the request."""
    return sorted({name for found in _authenticators(view) if (name := _dotted(type(found))) and _sets_more(found)})


def _authenticators(view: Any) -> list[Any]:
    with suppress(Exception):  # as above
        return list(view.get_authenticators())
    return []


def _sets_more(authenticator: Any) -> bool:
    for base in type(authenticator).__mro__:
        with suppress(OSError, TypeError):  # a class without Python source, such as object
            if not base.__module__.startswith("rest_framework.") and SETS_MORE.search(inspect.getsource(base)):
                return True
    return False


def _throttles(view: Any) -> tuple[list[str], float]:
    """Return the throttles that apply to the user, and the most rows per second that they allow; 0 for no limit."""
    limits: list[tuple[str, float]] = []
    with suppress(Exception):  # as above
        limits = list(_limits(view))
    rates = [rate for _, rate in limits if rate]
    return [name for name, _ in limits], min(rates, default=0.0)


def _limits(view: Any) -> Iterator[tuple[str, float]]:
    for throttle in view.get_throttles():
        if isinstance(throttle, AnonRateThrottle):
            continue  # an import acts as a user
        if isinstance(throttle, ScopedRateThrottle):
            throttle.scope = getattr(view, throttle.scope_attr, None)
            if not throttle.scope:
                continue
            throttle.rate = throttle.get_rate()
        if rate := getattr(throttle, "rate", None):
            count, seconds = throttle.parse_rate(rate)
            yield f"{type(throttle).__name__} {rate}", count / seconds
        else:
            yield type(throttle).__name__, 0.0


def _refusal(code: str, status: int, verdict: RowVerdict) -> JsonResponse:
    return _answer({"code": code}, status, verdict)


def _answer(document: dict[str, Any], status: int, verdict: RowVerdict) -> JsonResponse:
    return JsonResponse(document, status=status, headers={VERDICT_HEADER: verdict.value})
