"""Examines the create endpoints: with probes as a user, or else as far as that is possible without one.

A probe is a create call whose writes to databases are rolled back; see `bulk_import_wire.probe`. It goes over HTTP to
the running server, through all of its middleware, to the real view.
"""

from __future__ import annotations

import inspect
import json
import re
import uuid
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from bulk_import.conf import conf
from bulk_import.doctor.worker_api import no_answer, worker_api_url
from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    IDEMPOTENCY_KEY,
    VERDICT_HEADER,
    Claim,
    RowVerdict,
)
from bulk_import_wire.findings import Finding, Level
from bulk_import_wire.probe import ProbeCall, ProbeRequest
from bulk_import_wire.probe_findings import (
    EMPTY_ROW,
    judge_empty_row,
    judge_no_verdict,
    judge_probe,
    judge_unsent,
    may_hide_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

READS_AUTH = re.compile(r"\brequest\.auth\b")

TIMEOUT_SECONDS = 30
"""Timeout of each call. A worker's create call has the same timeout."""


def examine_endpoints(base_url: str, user: str, rows: Mapping[str, str], host: str) -> Iterator[Finding]:
    """Try each create endpoint as this user.

    `rows` maps a target to its row as JSON text. The other targets get a row that is generated from their serializer.
    """
    for name in conf().targets:
        asked = ProbeRequest(user, name, host, rows.get(name, ""))
        findings = list(_examine_endpoint(base_url, asked))
        yield from findings
        if may_hide_errors(findings[0], conf().target(name).success_statuses):
            yield from judge_empty_row(_examine_endpoint(base_url, replace(asked, row=EMPTY_ROW)))


def _examine_endpoint(base_url: str, asked: ProbeRequest) -> Iterator[Finding]:
    url = worker_api_url(base_url, "bulk-import-probe")
    headers = {
        "Authorization": f"Bearer {next(iter(conf().worker_secrets), '')}",
        CONTRACT_HEADER: str(CONTRACT_VERSION),
    }
    try:
        answer = _post(url, headers, json.dumps(asked.to_dict()))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield no_answer(f"target {asked.target}", url, error)
        return
    try:
        calls = [ProbeCall.from_dict(call) for call in answer.json()["probes"]]
    except (ValueError, KeyError, TypeError):
        reason = _message(answer) or "The other findings may say why."
        message = f"The endpoint was not tried: the worker API returned {answer.status_code}. {reason}"
        fix = "Pass a user and a target that exist on the running server, which must have the same release."
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            fix = "Wait, and run the doctor again."
        yield Finding(f"target {asked.target}", Level.ERROR, message, fix)
        return
    for call in calls:
        yield from _probe(base_url, call)


def _probe(base_url: str, call: ProbeCall) -> Iterator[Finding]:
    subject = f"target {call.target}"
    if call.problem:
        if not call.is_allowed:
            yield from examine_create_calls(base_url, [call.target])
        yield judge_unsent(call)
        return
    claim = call.to_claim()
    url = base_url.rstrip("/") + claim.create_path
    headers = {**claim.create_call_headers(), IDEMPOTENCY_KEY: call.key}
    try:
        answer = _post(url, headers, call.row)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        yield no_answer(subject, url, error)
        return
    yield from judge_probe(call, url, answer.status_code, answer.headers, answer.content)


def examine_create_calls(base_url: str, targets: Iterable[str]) -> Iterator[Finding]:
    """Send the create endpoints of these targets a row with an invalid import token.

    ImportedRowMiddleware rejects the token and sets the verdict header. If that header does not arrive here, the
    worker would not get it either, and could not count a row as created.
    """
    settings = conf()
    host = httpx.URL(settings.public_url or base_url).netloc.decode() if settings.host_header else ""
    for name in targets:
        subject, url = f"target {name}", base_url.rstrip("/") + settings.target(name).create_path
        claim = Claim(
            epoch=0,
            lease_seconds=0,
            heartbeat_seconds=0,
            create_path=url,
            token="doctor",  # noqa: S106 - no valid token
            language="",
            created=[],
            failures_key="",
            concurrency=1,
            cancelled=False,
            token_header=settings.token_header,
            host=host,
            host_header=settings.host_header,
        )
        try:
            answer = _post(url, {**claim.create_call_headers(), IDEMPOTENCY_KEY: f"{uuid.uuid4()}:0"}, "{}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield no_answer(subject, url, error)
            continue
        if answer.headers.get(VERDICT_HEADER) != RowVerdict.STALE:
            yield judge_no_verdict(subject, url, answer.status_code, answer.headers, claim)
            continue
        yield Finding(subject, Level.OK, f"The response carries the {VERDICT_HEADER} header.")


def examine_permissions() -> Iterator[Finding]:
    """Look for permission classes that read `request.auth`, which an import does not have, such as OAuth scopes.

    This reads only their source. A class that reads it may still let an import pass, and only a probe shows that.
    """
    fix = "Pass --base-url and --user, to try a row as this user. Nothing is kept."
    for name in conf().targets:
        permissions = conf().target(name).create_view().get_permissions()
        message = "NOT CHECKED: whether a user's import creates rows here."
        if reading := sorted({found for permission in permissions for found in _reads_auth(permission)}):
            message += f" {', '.join(reading)} of the endpoint reads request.auth, which an import does not have."
        yield Finding(f"target {name}", Level.ERROR, message, fix)


def _reads_auth(permission: Any) -> Iterator[str]:
    """Yield the name of the class of this permission if its source reads `request.auth`; look into `A & B` as well."""
    for operand in ("op1", "op2"):
        if hasattr(permission, operand):
            yield from _reads_auth(getattr(permission, operand))
    for base in type(permission).__mro__:
        with suppress(OSError, TypeError):  # a class without Python source, such as object
            if READS_AUTH.search(inspect.getsource(base)):
                yield type(permission).__name__
                return


def _post(url: str, headers: dict[str, str], body: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", **headers}
    return httpx.post(
        url, headers=headers, content=body.encode(), timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False
    )


def _message(answer: httpx.Response) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(answer.json()["message"])
    return ""
