"""Examines the create endpoints: the code of their permissions, and with probes.

A probe is a create call whose writes to databases are rolled back.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
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

READS_AUTH = re.compile(r"\brequest\.auth\b")

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


def examine_permissions() -> Iterator[Finding]:
    """Look for permission classes that read `request.auth`, which an import does not have, such as OAuth scopes.

    This reads only their source. A class that reads it may still let an import pass, and only a probe shows that.
    """
    for name in conf().targets:
        subject, how = f"target {name}", "Pass --base-url and --probe-user"
        permissions = conf().target(name).create_view().get_permissions()
        if reading := sorted({found for permission in permissions for found in _reads_auth(permission)}):
            message = f"{', '.join(reading)} of the endpoint reads request.auth, which an import does not have."
            fix = f"{how} to see whether imports pass. If not, let this class accept a request without request.auth."
            yield Finding(subject, Level.WARNING, message, fix)
        else:
            message = "The endpoint's permissions were not tried. None of their classes names request.auth."
            yield Finding(subject, Level.OK, f"{message} {how} to try them.")


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
