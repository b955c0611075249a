"""Claim, heartbeat and finish: the answers of the worker API."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db.models.functions import Now
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportJob
from bulk_import_wire.contract import HeartbeatAnswer
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import call, claim, expire_lease, finish, record
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_claim_returns_all_that_a_worker_needs(worker: APIClient, messages: list[ChunkMessage]) -> None:
    got = claim(worker, messages[0])

    assert (got.epoch, got.create_path, got.created) == (1, "/products/", [])
    assert (got.lease_seconds, got.heartbeat_seconds, got.concurrency, got.language) == (20, 2, 16, "en")
    assert ImportJob.objects.get().status == "processing"
    assert ImportJob.objects.get().started_at


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "Basic bWVyY2hhbmRpc2VyOnNlY3JldA=="])
def test_a_claim_without_the_worker_secret_is_refused(messages: list[ChunkMessage], authorization: str | None) -> None:
    stranger = APIClient(headers={"Authorization": authorization} if authorization else None)

    assert call(stranger, "claim", messages[0]).status_code == 401
    assert ImportChunk.objects.filter(epoch=0).count() == 2


def test_each_of_several_worker_secrets_is_valid_so_that_they_can_be_rotated(
    messages: list[ChunkMessage], worker: APIClient, settings: Settings
) -> None:
    old = settings.BULK_IMPORT["WORKER_SECRETS"]
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WORKER_SECRETS": ["the-new-secret-of-32-characters!", *old]}

    assert call(worker, "claim", messages[0]).status_code == 200


def test_an_empty_secret_is_never_valid(messages: list[ChunkMessage], settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WORKER_SECRETS": [""]}
    stranger = APIClient(headers={"Authorization": "Bearer "})

    assert call(stranger, "claim", messages[0]).status_code == 401


def test_a_submitter_cannot_call_the_worker_api(
    client_of_merchandiser: APIClient, messages: list[ChunkMessage]
) -> None:
    assert call(client_of_merchandiser, "claim", messages[0]).status_code == 401


def test_a_chunk_with_a_live_lease_cannot_be_claimed(worker: APIClient, messages: list[ChunkMessage]) -> None:
    claim(worker, messages[0])
    second = call(worker, "claim", messages[0])

    assert (second.status_code, second.json()["code"]) == (409, "lease_held")
    assert 0 < int(second["Retry-After"]) <= 20


def test_a_claim_after_the_lease_has_a_new_epoch_and_the_created_rows(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    claim(worker, messages[0])
    record(messages[0], 0, 2)
    expire_lease(messages[0])
    second = claim(worker, messages[0])

    assert (second.epoch, second.created) == (2, [[0, 0], [2, 2]])


@pytest.mark.parametrize(
    "forgery",
    [
        {"key": "products/other.jsonl"},
        {"bucket": "other"},
        {"etag": '"other"'},
        {"first_byte": 7},
        {"row_count": 2},
        {"job_id": str(uuid.UUID(int=1))},
    ],
)
def test_a_message_that_is_not_the_chunks_own_is_refused(
    worker: APIClient, messages: list[ChunkMessage], forgery: dict[str, Any]
) -> None:
    answer = call(worker, "claim", replace(messages[0], **forgery))

    assert (answer.status_code, answer.json()["code"]) == (422, "foreign_message")
    assert ImportChunk.objects.filter(epoch=0).count() == 2


def test_an_unknown_chunk_is_404(worker: APIClient, messages: list[ChunkMessage]) -> None:
    answer = call(worker, "claim", replace(messages[0], chunk_id=str(uuid.uuid4())))

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_chunk")


def test_a_malformed_body_is_400(worker: APIClient, messages: list[ChunkMessage]) -> None:
    answer = call(worker, "claim", messages[0], {"version": 1})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_a_heartbeat_extends_the_lease_and_counts_the_created_rows(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1)
    expire_lease(messages[0])
    answer = call(worker, "heartbeat", messages[0], {"epoch": epoch})

    chunk = ImportChunk.objects.get(pk=messages[0].chunk_id)
    assert HeartbeatAnswer.from_dict(answer.json()) == HeartbeatAnswer(
        lease_seconds=20, cancelled=False, paused=False, concurrency=16
    )
    assert chunk.created == 2
    assert ImportChunk.objects.filter(pk=chunk.pk, lease_expires_at__gt=Now()).exists()


def test_a_late_heartbeat_or_finish_of_a_stale_worker_is_refused(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    stale = claim(worker, messages[0]).epoch
    expire_lease(messages[0])
    claim(worker, messages[0])

    for verb, body in [("heartbeat", {"epoch": stale}), ("finish", finish(stale, failed=3))]:
        answer = call(worker, verb, messages[0], body)
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_epoch")


def test_a_finish_that_does_not_add_up_with_the_ledger_is_refused(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """Example: the answer to a create call was lost, so the worker reports a row as failed that the ledger has."""
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1, 2)
    answer = call(worker, "finish", messages[0], finish(epoch, failed=1))

    assert (answer.status_code, answer.json()["code"]) == (409, "ledger_disagrees")
    assert ImportChunk.objects.get(pk=messages[0].chunk_id).status == "processing"


def test_a_second_finish_has_no_effect(worker: APIClient, messages: list[ChunkMessage]) -> None:
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1)
    report = finish(epoch, rejected=1, problems=[problem("sku", "unique", "Taken.", 2)])

    assert [call(worker, "finish", messages[0], report).status_code for _ in range(2)] == [200, 200]
    assert ImportJob.objects.get().problems[0]["count"] == 1


def test_a_late_copy_of_the_message_cannot_claim_a_finished_chunk(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1, 2)
    call(worker, "finish", messages[0], finish(epoch))
    late = call(worker, "claim", messages[0])

    assert (late.status_code, late.json()["code"]) == (410, "closed")


@pytest.mark.parametrize(
    ("created", "status"),
    [([0, 1, 2, 3], "succeeded"), ([0, 3], "partially_succeeded"), ([], "failed")],
)
def test_the_job_ends_with_its_last_chunk(
    worker: APIClient, messages: list[ChunkMessage], created: list[int], status: str
) -> None:
    for message in messages:
        epoch = claim(worker, message).epoch
        indexes = [index for index in created if message.first_index <= index < message.first_index + message.row_count]
        record(message, *indexes)
        call(worker, "finish", message, finish(epoch, rejected=message.row_count - len(indexes)))
        if message is messages[0]:
            assert ImportJob.objects.get().status == "processing"

    job = ImportJob.objects.for_reports().get()
    assert job.status == status
    assert job.finished_at
    assert job.counts == counts(created=len(created), rejected=4 - len(created))


def test_the_submitter_gets_one_email_when_the_job_ends(worker: APIClient, messages: list[ChunkMessage]) -> None:
    for message in messages:
        epoch = claim(worker, message).epoch
        problems = [problem("category", "does_not_exist", "No such category.", message.first_index)]
        report = finish(epoch, rejected=message.row_count, problems=problems)
        for _ in range(2):
            call(worker, "finish", message, report)

    (sent,) = mail.outbox
    assert sent.to == ["merchandiser@shop.example"]
    assert sent.subject == "None of the 4 products was created"
    assert "category: No such category. (2 rows, first at index 0)" in sent.body
