"""Examines the HTTP calls from the worker to the worker API."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from bulk_import.conf import conf
from bulk_import.doctor.findings import one_line
from bulk_import.exceptions import OuterTransaction
from bulk_import.site_paths import find_path
from bulk_import_wire.contract import ClaimRequest
from bulk_import_wire.findings import Finding, Level
from bulk_import_wire.message import ChunkMessage
from bulk_import_wire.probe_findings import FIX_BASE_URL, FIX_LOG, FIX_OUTER_TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

TIMEOUT_SECONDS = 10
"""Timeout of each HTTP call."""

FAILURES = {
    OuterTransaction.code: (
        "A middleware opens a database transaction around the request.",
        FIX_OUTER_TRANSACTION,
    ),
}
"""The reason and the fix for each `code` with which the worker API reports a wrong configuration."""


def examine_worker_api(base_url: str) -> Iterator[Finding]:
    """Claim a chunk that does not exist: first with a wrong secret, then with each secret of this process."""
    chunk_id = uuid.uuid4()
    url = worker_api_url(base_url, "bulk-import-claim", chunk_id=chunk_id)
    body = _claim_of_unknown_chunk(chunk_id)
    for number, secret in enumerate(["wrong-" + uuid.uuid4().hex, *conf().worker_secrets]):
        try:
            answer = _post(url, {"Authorization": f"Bearer {secret}"}, body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield no_answer("worker API", url, error)
            return
        if finding := _judge_claim(answer, is_wrong_secret=not number):
            yield finding
            return
    yield Finding("worker API", Level.OK, "The worker API accepts the secret and rejects a wrong one.")


def worker_api_url(base_url: str, name: str, **kwargs: Any) -> str:
    """Return the URL of a call of the worker API below this base URL."""
    return base_url.rstrip("/") + find_path(name, kwargs)


def _claim_of_unknown_chunk(chunk_id: UUID) -> dict[str, Any]:
    message = ChunkMessage(
        job_id=str(uuid.uuid4()),
        chunk_id=str(chunk_id),
        bucket="doctor",
        key="doctor",
        etag='"doctor"',
        first_byte=0,
        byte_count=1,
        first_index=0,
        row_count=1,
    )
    return ClaimRequest(message.to_dict(), claimant=str(uuid.uuid4())).to_dict()


def _post(url: str, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, headers=headers, json=body, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)


def _judge_claim(answer: httpx.Response, *, is_wrong_secret: bool) -> Finding | None:
    """Return None for the expected response: 401 to a wrong secret, and 404 with `unknown_chunk` to a right one."""
    status = answer.status_code
    try:
        code = answer.json()["code"]
    except (ValueError, KeyError, TypeError):
        code = ""
    if status == HTTPStatus.UNAUTHORIZED and is_wrong_secret:
        return None
    if status == HTTPStatus.NOT_FOUND and code == "unknown_chunk" and not is_wrong_secret:
        return None
    if answer.is_redirect:
        reason = f"It redirects to {answer.headers.get('Location')}."
        fix = "Pass a base URL that responds without a redirect, for example https://…"
    elif is_wrong_secret and code == "unknown_chunk":
        reason = "It accepted a wrong secret."
        fix = "Check that nothing between the worker and the monolith sets the Authorization header."
    elif status == HTTPStatus.UNAUTHORIZED:
        reason = "It rejected a secret of this process."
        fix = "Give all processes of the monolith the same WORKER_SECRETS, and let proxies forward Authorization."
    elif status == HTTPStatus.BAD_REQUEST:
        reason = "It rejected the host name or the contract version."
        fix = "Add the host to ALLOWED_HOSTS, and run the same version everywhere."
    elif status == HTTPStatus.NOT_FOUND:
        reason = "The URL does not exist."
        fix = "Include bulk_import.worker_urls in the URL configuration, and let proxies forward its path. "
        fix += FIX_BASE_URL
    elif status == HTTPStatus.FORBIDDEN:
        reason = "The request is forbidden."
        fix = "Let the worker pass the firewall, and exempt this path from middleware that blocks requests."
    else:
        reason, fix = FAILURES.get(code, ("It failed.", FIX_LOG))
    return Finding("worker API", Level.ERROR, f"The worker API returned {status}. {reason}", fix)


def no_answer(subject: str, url: str, error: Exception) -> Finding:
    """Return the finding for a call without a response."""
    fix = "Start the site, pass the base URL that the worker uses, or open the network path to it."
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        fix = "Write the base URL with http:// or https:// at the beginning, for example https://shop.example."
    elif "SSL" in str(error):
        fix = "If the server does not use TLS there, write http://, or correct the port. If it does, correct its "
        fix += "certificate, which the worker has to trust."
    message = f"{url} does not respond: {type(error).__name__}: {one_line(error)}"
    return Finding(subject, Level.ERROR, message, fix)
