"""What a webhook says, and that it is signed."""

from __future__ import annotations

import logging
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.validation import validate_schema

from bulk_import.models import ChunkStatus, EventKind, ImportChunk, ImportEvent, ImportJob, JobStatus
from bulk_import.outbox.webhooks import send_due_webhooks
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.logs import LogContextFilter
from tests.bulk_import.conftest import call, claim, finish
from tests.bulk_import.outbox.deliveries import make_failed_job, pending_webhooks, record_end
from tests.bulk_import.outbox.webhook_receiver import OTHER_SECRET, SECRET, Receiver, answer, is_signed, use_receiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

PROBLEM = {"field": "category", "code": "does_not_exist", "message": "No kayaks here.", "count": 4, "first_index": 0}


@pytest.fixture
def ended_job(receiver: Receiver, merchandiser: Any) -> ImportJob:
    """A job that has ended, and whose webhook has not been sent yet."""
    job = make_failed_job(merchandiser, problems=[PROBLEM])
    record_end(job)
    return job


def test_our_signature_check_agrees_with_the_libraries_of_the_specification() -> None:
    """Otherwise the tests below would prove nothing. The example is the one that those libraries are tested with."""
    secret, signature = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    example = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')

    assert is_signed(secret, *example, signature)
    assert not is_signed(SECRET, *example, signature)


def test_the_webhook_about_an_end_contains_the_job_as_the_api_shows_it(
    receiver: Receiver, client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count, problems=[PROBLEM])
        assert call(worker, "finish", message, report).status_code == 200
    assert receiver.deliveries == []  # no worker waits for a receiver

    output = StringIO()
    call_command("bulk_import_relay", stdout=output)
    call_command("bulk_import_relay", stdout=output)

    assert output.getvalue() == "Sent 0 messages, 0 emails, 1 webhooks.\n"
    (delivery,) = receiver.deliveries
    event = ImportEvent.objects.get(kind=EventKind.ENDED)
    assert delivery.id == str(event.pk)
    assert delivery.is_signed_with(SECRET)
    assert not delivery.is_signed_with(OTHER_SECRET)
    assert delivery.headers["Content-Type"] == "application/json"
    assert abs(int(delivery.headers["webhook-timestamp"]) - timezone.now().timestamp()) < 60
    shown = client_of_merchandiser.get(f"/products/bulk/{event.job_id}").json()
    for name, url in shown["links"].items():
        shown["links"][name] = url and url.removeprefix("http://testserver")
    assert {**delivery.document, "timestamp": None} == {"type": "import.failed", "timestamp": None, "data": shown}
    assert datetime.fromisoformat(delivery.document["timestamp"]) == event.at
    assert pending_webhooks() == 0


SPECTACULAR: tuple[Any, ...] = (SchemaGenerator, spectacular_settings, validate_schema)  # they have no types


def test_the_openapi_schema_can_describe_the_webhook(ended_job: ImportJob, receiver: Receiver) -> None:
    send_due_webhooks()
    generator, described_by, is_valid = SPECTACULAR
    described_by.apply_patches({"OAS_VERSION": "3.1.0", "WEBHOOKS": ["bulk_import.api.openapi.JOB_WEBHOOK"]})
    try:
        schema = generator().get_schema(request=None, public=True)
    finally:
        described_by.clear_patches()
    is_valid(schema)
    body = schema["webhooks"]["importJob"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert body == {"$ref": "#/components/schemas/ImportJobWebhook"}
    (delivery,) = receiver.deliveries
    jsonschema.validate(delivery.document, {**body, "components": schema["components"]})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**delivery.document, "type": "import.ended"}, {**body, "components": schema["components"]})


def test_each_line_of_the_log_about_a_request_names_its_job(
    receiver: Receiver, merchandiser: Any, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [make_failed_job(merchandiser) for _job in range(2)]
    for job in jobs:
        record_end(job)
    caplog.handler.addFilter(LogContextFilter())
    caplog.set_level(logging.INFO, "httpx")

    send_due_webhooks()

    lines: list[Any] = [line for line in caplog.records if line.name == "httpx"]
    assert sorted(line.job_id for line in lines) == sorted(str(job.pk) for job in jobs)


def pause(job: ImportJob) -> None:
    job.pause_by_worker(PauseCode.ENDPOINT_BUSY, asked_seconds=0, first_seconds=30)


def end_with_a_dead_chunk(job: ImportJob) -> None:
    chunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=4, first_byte=0, byte_count=9, status=ChunkStatus.DEAD
    )
    job.handle_finished_chunk(chunk)


ACTIONS: list[tuple[list[str], list[Callable[[ImportJob], Any]]]] = [
    (["import.paused"], [pause]),
    (["import.paused", "import.resumed"], [pause, ImportJob.mark_progress]),
    (["import.dead_lettered", "import.failed"], [end_with_a_dead_chunk]),
    (["import.dead_lettered", "import.failed", "import.redriven"], [end_with_a_dead_chunk, ImportJob.redrive]),
    (["import.dead_lettered", "import.failed", "import.retried"], [end_with_a_dead_chunk, ImportJob.retry]),
    ([], [lambda job: job.cancel(None)]),
]


@pytest.mark.parametrize(("types", "actions"), ACTIONS, ids=lambda value: " ".join(map(str, value))[:60])
def test_every_event_is_sent_under_its_own_type(
    types: list[str], actions: list[Callable[[ImportJob], Any]], receiver: Receiver, merchandiser: Any
) -> None:
    """A request to cancel has no webhook of its own: the webhook about the end reports the cancellation."""
    make_failed_job(merchandiser, status=JobStatus.PROCESSING)
    for act in actions:
        with transaction.atomic():
            act(ImportJob.objects.get())
    send_due_webhooks()

    assert sorted(delivery.document["type"] for delivery in receiver.deliveries) == sorted(types)


@pytest.mark.parametrize("status", ["succeeded", "partially_succeeded", "failed", "cancelled"])
def test_the_type_says_how_the_job_ended_and_the_data_is_current(
    status: str, ended_job: ImportJob, receiver: Receiver
) -> None:
    ended_job.events.update(note=status)
    ImportJob.objects.update(status=JobStatus.PENDING)  # it was retried before the webhook was sent
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    assert (delivery.document["type"], delivery.document["data"]["status"]) == (f"import.{status}", "pending")


def test_the_job_is_described_in_its_own_language(ended_job: ImportJob, receiver: Receiver) -> None:
    ImportJob.objects.update(language="pt-br")
    send_due_webhooks()

    assert "Não foi possível criar" in receiver.deliveries[0].body.decode()


def test_while_the_secret_is_rotated_there_are_two_signatures(
    ended_job: ImportJob, receiver: Receiver, settings: Settings
) -> None:
    use_receiver(settings, receiver.url, OTHER_SECRET, SECRET)
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2
    assert delivery.is_signed_with(SECRET)
    assert delivery.is_signed_with(OTHER_SECRET)


@pytest.mark.parametrize("status", [204, 500])
def test_the_log_contains_no_secret_no_body_and_no_signature(
    status: int, ended_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """All loggers are checked, at every level."""
    caplog.set_level(logging.DEBUG)
    receiver.answer = answer(status)
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    signature = delivery.headers["webhook-signature"].removeprefix("v1,")
    assert caplog.text
    for hidden in (SECRET, SECRET.removeprefix("whsec_"), PROBLEM["message"], signature):
        assert str(hidden) not in caplog.text
