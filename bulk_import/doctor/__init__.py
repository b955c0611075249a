"""Checks that imports can work. It makes the same calls as an import, and says how to fix each call that fails.

The doctor leaves nothing behind: it deletes the object that it writes, sends no message, and asks the worker API only
for a chunk that does not exist. It needs the permissions of the monolith, which include sqs:GetQueueAttributes and
sqs:GetQueueUrl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulk_import.doctor.buckets import examine_failures, examine_payloads
from bulk_import.doctor.endpoints import examine_endpoints, examine_permissions
from bulk_import.doctor.findings import Finding, Level
from bulk_import.doctor.monolith import examine_database, examine_secrets, examine_settings
from bulk_import.doctor.queues import examine_queue
from bulk_import.doctor.worker_api import examine_create_calls, examine_worker_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Finding", "Level", "examine"]


def examine(
    base_url: str = "",
    function_timeout_seconds: int = 300,
    probe_user: str = "",
    probe_rows: dict[str, Any] | None = None,
) -> Iterator[Finding]:
    """Run all examinations and yield their findings. Never raises.

    `base_url` is the URL under which the worker reaches the monolith. Without it, the worker API and the create
    endpoints are not called. If `probe_user` is a user name, each create endpoint is called as this user, and what
    it writes to databases is rolled back. `probe_rows` maps the name of a target to the row that its endpoint gets. An
    endpoint without an entry gets an empty row.
    """
    examinations: list[Callable[[], Iterator[Finding]]] = [
        examine_settings,
        examine_database,
        examine_secrets,
        examine_payloads,
        examine_failures,
        lambda: examine_queue(function_timeout_seconds),
    ]
    if not (base_url and probe_user):
        examinations.append(examine_permissions)
    if base_url:
        examinations += [lambda: examine_worker_api(base_url), lambda: examine_create_calls(base_url)]
    if base_url and probe_user:
        examinations.append(lambda: examine_endpoints(base_url, probe_user, probe_rows or {}))
    for examination in examinations:
        try:
            yield from examination()
        except Exception as error:  # noqa: BLE001 - an examination that fails is a finding, and the others still run
            yield Finding(
                "settings", Level.ERROR, f"An examination could not run: {error!r}", "Fix the other findings first."
            )
