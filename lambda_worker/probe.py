"""`python -m lambda_worker --probe USER`: asks the monolith for probes, and sends them as the worker sends rows.

It shows what the doctor cannot see from the monolith's machine: whether the worker reaches the site, with its own
secret, host names and proxies. Nothing is created, because the monolith rolls back each probe.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from bulk_import_wire.contract import MessageError
from bulk_import_wire.findings import Finding, Level
from bulk_import_wire.probe import PROBE_PATH, ProbeCall, ProbeRequest
from bulk_import_wire.probe_findings import FIX_BASE_URL, judge_probe, judge_unsent
from lambda_worker.exceptions import Unreachable
from lambda_worker.monolith_client import MonolithClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lambda_worker.config import Config

ROW_TIMEOUT_SECONDS = 30
"""Timeout of a probe, as of a create call."""


async def probe(config: Config, request: ProbeRequest) -> list[Finding]:
    """Probe the create endpoints, and return the findings. Never raises."""
    async with MonolithClient(config, str(uuid.uuid4())) as monolith:
        try:
            return [finding async for finding in _probe(monolith, config, request)]
        except Unreachable as error:
            message = f"{config.base_url} does not respond to the worker: {error}"
            fix = "Correct BULK_IMPORT_BASE_URL, or open the network path from the worker to the site."
            return [Finding("worker", Level.ERROR, message, fix)]


async def _probe(monolith: MonolithClient, config: Config, request: ProbeRequest) -> AsyncIterator[Finding]:
    answer = await monolith.call_worker_api(PROBE_PATH, request.to_dict())
    document = answer.json()
    try:
        calls = [ProbeCall.from_dict(call) for call in document["probes"]]
    except (KeyError, TypeError, MessageError):
        reason = str(document.get("message", ""))[:300] if isinstance(document, dict) else ""
        message = f"The worker API returned {answer.status}. {reason}".strip()
        fix = f"Correct BULK_IMPORT_WORKER_SECRET, the user or the target. {FIX_BASE_URL}"
        yield Finding("worker API", Level.ERROR, message, fix)
        return
    yield Finding("worker API", Level.OK, "The worker reaches the worker API, which accepts its secret.")
    for call in calls:
        if call.problem:
            yield judge_unsent(call)
            continue
        claim = call.to_claim()
        answer = await monolith.create(claim, call.key, call.row.encode(), ROW_TIMEOUT_SECONDS)
        url = config.base_url + claim.create_path
        for finding in judge_probe(call, url, answer.status, answer.headers, answer.body):
            yield finding
