"""Examines the create endpoints with probes: create calls whose writes to databases are rolled back."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from django.contrib.auth import get_user_model

from bulk_import.authentication import ProbeToken
from bulk_import.conf import conf
from bulk_import.doctor.findings import Finding, Level
from bulk_import.doctor.worker_api import create_call_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 30
"""Timeout of each call. A worker's create call has the same timeout."""


def examine_endpoints(base_url: str, user_name: str, rows: dict[str, Any]) -> Iterator[Finding]:
    """Call each create endpoint as this user, as an import does, and check the answer and the databases it used."""
    user = get_user_model()._default_manager.get_by_natural_key(user_name)  # noqa: SLF001 - documented API
    for name in conf().targets:
        answer = httpx.post(
            base_url.rstrip("/") + conf().target(name).create_path,
            headers=create_call_headers(base_url, ProbeToken(name, str(user.pk)).sign()),
            json=rows.get(name, {}),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
        )
        yield judge(name, user_name, answer, has_row=name in rows)


def judge(name: str, user_name: str, answer: httpx.Response, *, has_row: bool) -> Finding:
    """Return the finding for the answer to a probe."""
    subject = f"target {name}"
    try:
        document = answer.json()
        status, written, ledger = document["status"], document["written"], document["ledger"]
    except (ValueError, KeyError, TypeError):
        fix = "Read the monolith's log. Run the doctor with the settings of the monolith that the base URL leads to."
        return Finding(subject, Level.ERROR, f"The probe returned {answer.status_code}.", fix)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Finding(
            subject,
            Level.ERROR,
            f"The endpoint answers {status} when an import calls it as {user_name}, so an import of this user pauses.",
            "Give the user the permission. If the user has it, a permission class of the view needs request.auth, for "
            "example an OAuth scope. An import has no request.auth, so let this class accept a request without it.",
        )
    if others := [alias for alias in written if alias != ledger]:
        return Finding(
            subject,
            Level.ERROR,
            f"The endpoint writes to {', '.join(others)}, and the ledger is in {ledger}. One transaction cannot cover "
            "both, so rows can be created twice or counted wrongly.",
            "Keep the rows, the users and bulk_import in one database.",
        )
    if has_row and status not in conf().target(name).success_statuses:
        fix = "Pass a row that the endpoint accepts and that does not exist yet."
        return Finding(subject, Level.WARNING, f"The endpoint returned {status} to the row of the probe.", fix)
    return Finding(subject, Level.OK, f"The endpoint accepts calls of an import as {user_name}.")
