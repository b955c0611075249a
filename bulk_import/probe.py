"""Answers a probe: a create call with which `bulk_import_doctor` tests a create endpoint.

A probe is a rehearsal of one row without a job. It calls the target's view as a create call does, and then rolls back
everything that the view wrote to databases.
The response contains the status that the view returned and the databases that it wrote to. Effects outside the
databases are not rolled back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.http import HttpRequest, JsonResponse

from bulk_import.authentication import ProbeToken
from bulk_import.conf import conf
from bulk_import.models import database
from bulk_import.rehearsal import rolled_back
from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http.response import HttpResponseBase


def answer_probe(
    request: HttpRequest, text: str, get_response: Callable[[HttpRequest], HttpResponseBase]
) -> JsonResponse:
    """Call the view for a probe, and return the response to the doctor.

    It contains the `status` that the view returned, the aliases of the databases that the view has `written` to, and
    the alias of the database of the `ledger`.
    """
    try:
        token = ProbeToken.verify(text)
    except signing.BadSignature:
        return _refusal("invalid_token", 401)
    target = conf().targets.get(token.target) and conf().target(token.target)
    user = get_user_model()._base_manager.filter(pk=token.user_id).first()  # noqa: SLF001 - documented API
    if not target or user is None or request.method != "POST" or request.path_info != target.create_path:
        return _refusal("wrong_endpoint", 403)
    request.user = user
    request._force_auth_user = user  # type: ignore[attr-defined]  # noqa: SLF001 - as for a create call
    with rolled_back() as written:
        status = get_response(request).status_code
    return _answer({"status": status, "written": sorted(written), "ledger": database()}, 200, RowVerdict.NOT_CREATED)


def _refusal(code: str, status: int) -> JsonResponse:
    return _answer({"code": code}, status, RowVerdict.STALE)


def _answer(document: dict[str, Any], status: int, verdict: RowVerdict) -> JsonResponse:
    return JsonResponse(document, status=status, headers={VERDICT_HEADER: verdict.value})
