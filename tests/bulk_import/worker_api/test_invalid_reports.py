"""The worker API refuses values that no worker of ours sends, and never answers 500."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.models import ImportChunk
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import call, claim, claim_body, finish, post_bytes, release

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

DEEP = 100_000
KNOWN = problem("price", "invalid", "A valid number is required.", 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"problems": [{}]},
        {"problems": [7]},
        {"problems": [{**KNOWN, "count": 10**30}]},
        {"problems": [{**KNOWN, "count": 0}]},
        {"problems": [{**KNOWN, "count": True}]},
        {"problems": [{**KNOWN, "first_index": -1}]},
        {"problems": [{**KNOWN, "first_index": 10**30}]},
        {"problems": [{**KNOWN, "field": ["price"]}]},
        {"problems": [{**KNOWN, "code": None}]},
        {"problems": [{**KNOWN, "message": "x" * 301}]},
        {"problems": [KNOWN] * 52},
        {"failures_key": "{job_id}/\x00"},
        {"failures_key": "{job_id}/" + "x" * 1024},
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["finish", "dead"])
def test_a_report_out_of_range_is_400_and_changes_nothing(
    worker: APIClient, messages: list[ChunkMessage], verb: str, wrong: dict[str, Any]
) -> None:
    epoch = claim(worker, messages[0]).epoch
    if "failures_key" in wrong:
        wrong = {"failures_key": wrong["failures_key"].replace("{job_id}", messages[0].job_id)}

    refused = call(worker, verb, messages[0], finish(epoch, **{"rejected": 3, **wrong}))

    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
    assert ImportChunk.objects.get(pk=messages[0].chunk_id).status == "processing"


@pytest.mark.parametrize("verb", ["claim", "heartbeat", "release", "finish", "dead"])
@pytest.mark.parametrize("body", [b"[" * DEEP, b'{"epoch": 1, "more": ' + b"[" * DEEP + b"]" * DEEP + b"}"], ids=len)
def test_json_that_is_nested_too_deeply_is_400(
    worker: APIClient, messages: list[ChunkMessage], verb: str, body: bytes
) -> None:
    refused = post_bytes(worker, f"/bulk-import/worker/chunks/{messages[0].chunk_id}/{verb}", body, "application/json")

    assert (refused.status_code, "code" in refused.json()) == (400, True)


def test_a_problem_may_count_more_errors_than_the_chunk_has_rows(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """A row with several errors counts in several problems, and the last problem stands for all others."""
    many = {**KNOWN, "count": 3 * messages[0].row_count}

    finished = call(
        worker, "finish", messages[0], finish(claim(worker, messages[0]).epoch, rejected=3, problems=[many])
    )

    assert finished.status_code == 200, finished.json()


def test_what_the_database_refuses_is_replaced_and_unknown_keys_are_dropped(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    reported = {**KNOWN, "message": "NUL \x00 and half a pair \ud83d", "colour": "red"}
    report = finish(claim(worker, messages[0]).epoch, rejected=3, problems=[reported])
    path = f"/bulk-import/worker/chunks/{messages[0].chunk_id}/finish"

    answer = worker.generic("POST", path, json.dumps(report), content_type="application/json")

    assert answer.status_code == 200
    stored = ImportChunk.objects.get(pk=messages[0].chunk_id).problems
    assert stored == [{**KNOWN, "message": "NUL \N{REPLACEMENT CHARACTER} and half a pair ?"}]


@pytest.mark.parametrize("seconds", [-1, 10**30])
def test_a_release_out_of_range_is_400(worker: APIClient, messages: list[ChunkMessage], seconds: int) -> None:
    epoch = claim(worker, messages[0]).epoch

    refused = call(worker, "release", messages[0], release(epoch, pause="busy", retry_after_seconds=seconds))

    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


@pytest.mark.parametrize("claimant", ["", "\x00", "é" * 36, "x" * 37])
def test_a_claimant_that_cannot_be_stored_is_400(
    worker: APIClient, messages: list[ChunkMessage], claimant: str
) -> None:
    refused = call(worker, "claim", messages[0], {**claim_body(messages[0]), "claimant": claimant})

    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
