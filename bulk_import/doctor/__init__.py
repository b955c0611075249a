"""Tries what an import needs, as the import does it, and says how to mend what is broken.

It leaves nothing behind: the object that it writes is deleted, no message is sent, and the worker API is asked for a
chunk that there is not. It needs the rights of the monolith, among them sqs:GetQueueAttributes and sqs:GetQueueUrl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_import.doctor.buckets import examine_failures, examine_payloads
from bulk_import.doctor.findings import Finding, Level
from bulk_import.doctor.monolith import examine_database, examine_secrets, examine_settings
from bulk_import.doctor.queues import examine_queue
from bulk_import.doctor.worker_api import examine_create_calls, examine_worker_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Finding", "Level", "examine"]


def examine(base_url: str = "", function_timeout_seconds: int = 300) -> Iterator[Finding]:
    """Everything. The worker API only at a base URL, as the worker reaches the monolith. Never raises."""
    examinations: list[Callable[[], Iterator[Finding]]] = [
        examine_settings,
        examine_database,
        examine_secrets,
        examine_payloads,
        examine_failures,
        lambda: examine_queue(function_timeout_seconds),
    ]
    if base_url:
        examinations += [lambda: examine_worker_api(base_url), lambda: examine_create_calls(base_url)]
    for examination in examinations:
        try:
            yield from examination()
        except Exception as error:  # noqa: BLE001 - what cannot be examined is a finding, and the rest still is
            yield Finding(
                "settings", Level.ERROR, f"Something cannot be examined: {error!r}", "Mend the other findings first."
            )
