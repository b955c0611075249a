"""`python -m lambda_worker --probe USER`: asks the monolith for probes, and sends them as the worker sends rows.

It shows what the doctor cannot see from the monolith's machine: whether the worker reaches the site, with its own
secret, host names and proxies. No object is created, because the monolith rolls back what a probe writes to databases.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from bulk_import_wire.findings import Finding, Level
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.probe import PROBE_PATH, ProbeCall, ProbeRequest
from bulk_import_wire.probe_findings import (
    EMPTY_ROW,
    FIX_BASE_URL,
    judge_empty_row,
    judge_probe,
    judge_unsent,
    may_hide_errors,
)
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
        findings = await _send(monolith, config, call)
        for finding in findings:
            yield finding
        if request.row != EMPTY_ROW and may_hide_errors(findings[0], call.success_statuses):
            asked = replace(request, target=call.target, row=EMPTY_ROW)
            for finding in judge_empty_row([found async for found in _probe(monolith, config, asked)]):
                yield finding


async def _send(monolith: MonolithClient, config: Config, call: ProbeCall) -> list[Finding]:
    if call.problem:
        return [judge_unsent(call)]
    claim = call.to_claim()
    answer = await monolith.create(claim, call.key, call.row.encode(), ROW_TIMEOUT_SECONDS)
    return judge_probe(call, config.base_url + claim.create_path, answer.status, answer.headers, answer.body)
