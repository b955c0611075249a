"""An expired job says so, and nothing that arrives late creates a row."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.utils.dateparse import parse_datetime

from bulk_import.authentication import ImportToken
from bulk_import.models import RETAINED_DATA, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import_wire.contract import IDEMPOTENCY_KEY, IMPORT_SCHEME
from products.models import Product
from tests.bulk_import.conftest import Aws, call, post_rows
from tests.bulk_import.retention.retained import (
    ROWS,
    end,
    expire,
    set_end_days_ago,
    set_retention,
)

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage


pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("path", ["failures", "failures?part=rows", "failures?format=csv", "failures/1", "failures/0"])
def test_the_failures_of_an_expired_job_answer_410(
    client_of_merchandiser: APIClient, location: str, aws: Aws, path: str
) -> None:
    assert client_of_merchandiser.get(f"{location}/{path}").status_code == (404 if path == "failures/0" else 200)
    set_end_days_ago(31)
    expire()
    answer = client_of_merchandiser.get(f"{location}/{path}")

    assert (answer.status_code, answer["Content-Type"]) == (410, "application/json")
    assert answer.json() == {"code": "expired", "message": "The failures of this import are no longer kept."}


@pytest.mark.parametrize("verb", ["retry", "redrive"])
@pytest.mark.parametrize("kind", RETAINED_DATA)
def test_a_job_with_expired_data_cannot_run_again(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings, *, kind: str, verb: str
) -> None:
    """Without its ledger, it would create every row twice. Without its payload or failures, it could not run."""
    set_retention(settings, **{**dict.fromkeys(RETAINED_DATA, 90), kind: 28})
    set_end_days_ago(29)
    expire()
    before = [*ImportJob.objects.values(), *ImportChunk.objects.values()]
    answer = client_of_merchandiser.post(f"{location}/{verb}", headers={"Accept-Language": "pt-BR"})

    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert answer.json()["message"].startswith("As linhas desta importação não são mais guardadas.")
    assert [*ImportJob.objects.values(), *ImportChunk.objects.values()] == before
    assert aws.messages() == []


def test_the_redrive_command_says_that_the_job_has_expired(job: ImportJob, aws: Aws) -> None:
    set_end_days_ago(31)
    expire()

    with pytest.raises(CommandError, match=r"no longer kept\. Send them as a new import"):
        call_command("bulk_import_redrive", str(job.pk))


def test_the_job_shows_when_it_expires_and_when_it_has_expired(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings
) -> None:
    set_retention(settings, failures=7)
    ended = client_of_merchandiser.get(location).json()
    finished_at, expires_at = (parse_datetime(ended[name]) for name in ("finished_at", "expires_at"))
    assert finished_at
    assert expires_at == finished_at + timedelta(days=7)
    assert ended["expired_at"] is None
    assert ended["links"]["failures"].endswith("/failures")
    assert ended["links"]["retry"].endswith("/retry")
    set_end_days_ago(8)
    expire()

    expired = client_of_merchandiser.get(location).json()
    assert expired["expired_at"] == expired["expires_at"] != ended["expires_at"]
    assert [expired["links"][name] for name in ("failures", "retry", "redrive")] == [None, None, None]
    assert expired["message"].endswith("The failures are no longer kept.")
    assert (expired["counts"], expired["problems"]) == (ended["counts"], ended["problems"])


def test_failures_can_be_read_after_the_payload_has_expired(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings
) -> None:
    set_retention(settings, payload=7)
    set_end_days_ago(8)
    expire()
    expired = client_of_merchandiser.get(location).json()

    assert (expired["links"]["retry"], expired["expired_at"] is None) == (None, False)
    assert client_of_merchandiser.get(expired["links"]["failures"]).status_code == 200


@pytest.mark.parametrize("days", [30, None])
def test_a_job_without_an_end_or_a_retention_period_has_no_expiry_time(
    client_of_merchandiser: APIClient, location: str, settings: Settings, days: int | None
) -> None:
    set_retention(settings, payload=days, failures=days, ledger=days)
    if days:
        ImportJob.objects.update(status=JobStatus.PROCESSING, finished_at=None)

    assert client_of_merchandiser.get(location).json()["expires_at"] is None


def test_the_idempotency_key_is_kept_longer_than_the_payload(
    client_of_merchandiser: APIClient, aws: Aws, worker: APIClient
) -> None:
    key = {"Idempotency-Key": "once"}
    first = post_rows(client_of_merchandiser, ROWS, headers=key)
    end(aws, worker, aws.messages())
    set_end_days_ago(31)
    expire()
    again = post_rows(client_of_merchandiser, ROWS, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert aws.messages() == []


def test_a_message_that_arrives_after_the_expiry_creates_nothing(
    job: ImportJob, aws: Aws, run_worker: Any, messages: list[ChunkMessage]
) -> None:
    set_end_days_ago(31)
    expire()
    for message in messages:
        aws.sqs.send_message(QueueUrl=aws.queue_url, MessageBody=message.encode())
    before = ImportJob.objects.values().get()
    run_worker()

    assert (Product.objects.count(), ImportedRow.objects.count()) == (0, 0)
    assert ImportJob.objects.values().get() == before
    assert aws.messages() == []


def test_a_create_call_that_arrives_after_the_expiry_creates_nothing(
    job: ImportJob, client: Any, messages: list[ChunkMessage]
) -> None:
    """The token of the call is still valid."""
    set_end_days_ago(31)
    expire()
    for message in messages:
        for epoch in (1, 2):
            token = ImportToken(uuid.UUID(message.chunk_id), epoch).sign()
            headers = {
                "Authorization": f"{IMPORT_SCHEME} {token}",
                IDEMPOTENCY_KEY: f"{job.pk}:{message.first_index}",
            }
            answer = client.post("/products/", ROWS[0], content_type="application/json", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "stale_epoch")

    assert (Product.objects.count(), ImportedRow.objects.count()) == (0, 0)


def test_the_message_of_a_deleted_job_gets_404(
    job: ImportJob, worker: APIClient, settings: Settings, messages: list[ChunkMessage]
) -> None:
    set_retention(settings, job=40)
    set_end_days_ago(41)
    expire()

    assert call(worker, "claim", messages[0]).status_code == 404
