"""A rolling deployment: for a while, the monolith and the worker have different releases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bulk_import.models import ImportJob, JobStatus
from bulk_import_wire.contract import CONTRACT_HEADER, CONTRACT_VERSION
from lambda_worker.handler import handler
from lambda_worker.monolith_client import MonolithClient
from tests.bulk_import.conftest import Context, call, claim_body

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.monolith_client import Answer

pytestmark = pytest.mark.django_db(transaction=True)

ADDED = {"added_by_the_next_release": {"a": [1]}}
OPTIONAL = ("give_up", "has_failed")
"""Fields with a default. The previous release did not have them."""


def next_release(document: dict[str, Any]) -> dict[str, Any]:
    return document | ADDED


def previous_release(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in OPTIONAL}


@pytest.mark.parametrize("other", [next_release, previous_release])
@pytest.mark.parametrize("side", ["worker", "monolith"])
def test_an_import_succeeds_although_one_side_has_another_release(
    messages: list[ChunkMessage], run_worker: Any, monkeypatch: pytest.MonkeyPatch, other: Any, side: str
) -> None:
    """The adapter changes the bodies that one side sends to those of another release."""
    post = MonolithClient._post

    async def adapted(
        self: MonolithClient, path: str, headers: dict[str, str], content: bytes, timeout_seconds: float
    ) -> Answer:
        if CONTRACT_HEADER not in headers:  # a create call
            return await post(self, path, headers, content, timeout_seconds)
        if side == "worker":
            content = json.dumps(other(json.loads(content))).encode()
        answer = await post(self, path, headers, content, timeout_seconds)
        if side == "monolith":
            body = json.dumps(other(answer.json())).encode()
            answer = type(answer)(answer.status, httpx.Headers(dict(answer.headers)), body)
        return answer

    monkeypatch.setattr(MonolithClient, "_post", adapted)
    bodies = [json.dumps(other(message.to_dict())) for message in messages]
    records: Any = [
        {"messageId": str(place), "receiptHandle": "handle", "body": body, "attributes": {}, "messageAttributes": {}}
        for place, body in enumerate(bodies)
    ]

    assert handler({"Records": records}, Context()) == {"batchItemFailures": []}
    assert ImportJob.objects.get().status == JobStatus.SUCCEEDED


@pytest.mark.parametrize("version", ["0", str(CONTRACT_VERSION + 1), "", "new"])
def test_a_worker_with_an_unsupported_version_is_refused_with_the_reason(
    worker: APIClient, messages: list[ChunkMessage], version: str
) -> None:
    worker.credentials(**{f"HTTP_{CONTRACT_HEADER.replace('-', '_').upper()}": version})
    answer = call(worker, "claim", messages[0], claim_body(messages[0]))

    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_contract")
    assert "Deploy the monolith before the worker" in answer.json()["message"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_every_answer_carries_the_version_of_the_monolith(
    worker: APIClient, messages: list[ChunkMessage], headers: dict[str, str]
) -> None:
    path = f"/bulk-import/worker/chunks/{messages[0].chunk_id}/claim"
    answer = worker.post(path, {}, format="json", headers=headers)

    assert answer.status_code in {400, 401}
    assert answer[CONTRACT_HEADER] == str(CONTRACT_VERSION)


def test_an_error_of_the_monolith_is_json_and_carries_the_version(
    worker: APIClient, messages: list[ChunkMessage], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("bulk_import.models.ImportChunk.created_ranges", fail)
    worker.raise_request_exception = False
    answer = call(worker, "claim", messages[0])

    assert (answer.status_code, answer.json()["code"]) == (500, "error")
    assert answer[CONTRACT_HEADER] == str(CONTRACT_VERSION)
    assert "broken" in caplog.text
