"""Checks that imports can work. It makes the same calls as an import, and says how to fix each call that fails.

The doctor leaves nothing behind: it deletes the object that it writes, sends no message, and asks the worker API only
for a chunk that does not exist. The site rolls back the rows that the doctor tries. It needs the permissions of the
monolith, which include sqs:GetQueueAttributes and sqs:GetQueueUrl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_import.conf import conf
from bulk_import.doctor.buckets import examine_failures, examine_payloads
from bulk_import.doctor.endpoints import examine_create_calls, examine_endpoints, examine_permissions
from bulk_import.doctor.monolith import examine_database, examine_relay, examine_secrets, examine_settings
from bulk_import.doctor.queues import examine_queue
from bulk_import.doctor.worker_api import examine_worker_api
from bulk_import_wire.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["Finding", "Level", "examine"]


def examine(
    base_url: str = "",
    function_timeout_seconds: int = 300,
    user: str = "",
    rows: Mapping[str, str] | None = None,
    host: str = "",
) -> Iterator[Finding]:
    """Run all examinations and yield their findings. Never raises.

    `base_url` is the URL under which the worker reaches the monolith. Without it, the running server is not asked. If
    `user` is a user name, each create endpoint is tried as this user, and what it writes to databases is rolled back.
    What is not tried is an error. `rows` maps a target to the row that its endpoint gets, as JSON text. `host` is the
    host under which the user reaches the site.
    """
    examinations: list[Callable[[], Iterator[Finding]]] = [
        examine_settings,
        examine_database,
        examine_secrets,
        examine_payloads,
        examine_failures,
        lambda: examine_queue(function_timeout_seconds),
        examine_relay,
    ]
    if base_url:
        examinations.append(lambda: examine_worker_api(base_url))
    if base_url and user:
        examinations.append(lambda: examine_endpoints(base_url, user, rows or {}, host))
    else:
        examinations.append(lambda: examine_create_calls(base_url, conf().targets) if base_url else report_unchecked())
        examinations.append(examine_permissions)
    for examination in examinations:
        try:
            yield from examination()
        except Exception as error:  # noqa: BLE001 - an examination that fails is a finding, and the others still run
            yield Finding(
                "settings", Level.ERROR, f"An examination could not run: {error!r}", "Fix the other findings first."
            )


def report_unchecked() -> Iterator[Finding]:
    """Say what the doctor cannot know without the running server."""
    message = "NOT CHECKED: whether the worker reaches the site, whether the server accepts the worker's secret, and "
    message += "whether proxies and middleware let an import through. This needs the running server."
    yield Finding("server", Level.ERROR, message, "Pass --base-url with the URL of the site, as the worker has it.")
