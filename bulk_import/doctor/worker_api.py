"""The way from the worker to the monolith, by HTTP."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from django.urls import reverse

from bulk_import.conf import conf
from bulk_import.doctor.findings import Finding, Level
from bulk_import_wire.contract import (
    IDEMPOTENCY_KEY,
    IMPORT_SCHEME,
    VERDICT_HEADER,
    ChunkMessage,
    ClaimRequest,
    RowVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

TIMEOUT_SECONDS = 10
"""For each call."""


def examine_worker_api(base_url: str) -> Iterator[Finding]:
    """Claim a chunk that there is not, by HTTP: with each secret, and with a wrong one."""
    chunk_id = uuid.uuid4()
    url = base_url.rstrip("/") + reverse("bulk-import-claim", kwargs={"chunk_id": chunk_id})
    body = _foreign_claim(chunk_id)
    for number, secret in enumerate(["wrong-" + uuid.uuid4().hex, *conf().worker_secrets]):
        try:
            answer = _post(url, {"Authorization": f"Bearer {secret}"}, body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield _no_answer("worker API", url, error)
            return
        if finding := _judge_claim(answer, is_wrong_secret=not number):
            yield finding
            return
    yield Finding("worker API", Level.OK, "It refuses what is not its own, and a wrong secret, in its own words.")


def examine_create_calls(base_url: str) -> Iterator[Finding]:
    """A create call with a wrong token: the ledger must see it, and its word must come back."""
    headers = {"Authorization": f"{IMPORT_SCHEME} doctor", IDEMPOTENCY_KEY: f"{uuid.uuid4()}:0"}
    for name in conf().targets:
        url = base_url.rstrip("/") + conf().target(name).create_path
        try:
            answer = _post(url, headers, {})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield _no_answer(f"target {name}", url, error)
            continue
        if answer.status_code == HTTPStatus.UNAUTHORIZED and answer.headers.get(VERDICT_HEADER) == RowVerdict.STALE:
            yield Finding(f"target {name}", Level.OK, "The ledger's word comes back.")
        else:
            yield Finding(
                f"target {name}",
                Level.ERROR,
                f"{url} answered {answer.status_code} without the ledger's word, so no row would count as created.",
                f"Put ImportedRowMiddleware last in MIDDLEWARE, and let proxies pass the headers Authorization, "
                f"{IDEMPOTENCY_KEY} and {VERDICT_HEADER}.",
            )


def _foreign_claim(chunk_id: UUID) -> dict[str, Any]:
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
    """None for the answer that there should be."""
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
        message, mend = f"leads to {answer.headers.get('Location')}", "Give a base URL that answers itself, https://…"
    elif is_wrong_secret and code == "unknown_chunk":
        message = "let a wrong secret in"
        mend = "See that nothing between the worker and the monolith sets the Authorization header."
    elif status == HTTPStatus.UNAUTHORIZED:
        message = "does not know a secret that this process knows"
        mend = "Give all processes of the monolith the same WORKER_SECRETS; let proxies pass Authorization."
    elif status == HTTPStatus.BAD_REQUEST:
        message = "does not want this host name or this contract"
        mend = "Add the host to ALLOWED_HOSTS; run the same version everywhere."
    elif status == HTTPStatus.NOT_FOUND:
        message = "is not there"
        mend = "Mount bulk_import.worker_urls, and let proxies pass its path."
    elif status == HTTPStatus.FORBIDDEN:
        message, mend = "is forbidden", "Let the worker pass the firewall, and middleware leave its path alone."
    else:
        message, mend = "is in trouble", "The monolith's log tells why."
    return Finding("worker API", Level.ERROR, f"It answered {status}: it {message}.", mend)


def _no_answer(subject: str, url: str, error: Exception) -> Finding:
    mend = "Start the monolith, give the base URL that the worker has, or open the way between them."
    return Finding(subject, Level.ERROR, f"{url} does not answer: {type(error).__name__}", mend)
