"""A webhook is owed until a real receiver answered 2xx, is signed, and holds up nobody else."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from django.core import mail
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.validation import validate_schema

from bulk_import.models import ChunkStatus, EventKind, ImportChunk, ImportEvent, ImportJob, JobStatus
from bulk_import.outbox import relay, webhooks
from bulk_import.outbox.delivery import GIVE_UP_AFTER, MAX_RETRY_AFTER, RETRY_AFTER, retry_delay
from bulk_import.outbox.webhooks import send_due_webhooks
from bulk_import_wire.contract import PauseCode
from demo.stack import free_port
from tests.bulk_import.conftest import call, claim, finish, in_threads
from tests.bulk_import.outbox.webhook_receiver import (
    OTHER_SECRET,
    SECRET,
    Receiver,
    answer,
    is_signed,
    webhook_receiver,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.contract import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(__file__).resolve().parents[3]
PROBLEM = {"field": "category", "code": "does_not_exist", "message": "No kayaks here.", "count": 4, "first_index": 0}


def listen(settings: Settings, url: str, *secrets: str) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WEBHOOK_URL": url, "WEBHOOK_SECRETS": list(secrets)}


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    """Programs listen there."""
    with webhook_receiver() as receiver:
        listen(settings, receiver.url, SECRET)
        yield receiver


@pytest.fixture
def owing_job(receiver: Receiver, merchandiser: Any) -> ImportJob:
    """It has ended, and nobody has been told."""
    job: ImportJob = ImportJob.objects.create(
        target="products",
        submitter=merchandiser,
        rows=4,
        status=JobStatus.FAILED,
        problems=[PROBLEM],
        request_sha256=b"",
        language="en",
    )
    job.record(EventKind.ENDED, note=JobStatus.FAILED, mail_after=timedelta(0))
    return job


@pytest.fixture
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(webhooks, "SWEEP_SECONDS", 0.3)


def let_time_pass(passed: timedelta) -> None:
    for event in ImportEvent.objects.filter(webhook_due_at__isnull=False):
        event.webhook_due_at -= passed
        event.save()


def owed() -> int:
    return ImportEvent.objects.filter(webhook_due_at__isnull=False).count()


def test_the_tests_check_a_signature_as_the_specifications_own_libraries_do() -> None:
    """Or else the tests below would prove nothing. The example is the one that those are tested with."""
    secret, signature = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    example = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')

    assert is_signed(secret, *example, signature)
    assert not is_signed(SECRET, *example, signature)


def test_the_end_of_a_job_is_told_with_the_job_as_the_api_shows_it(
    receiver: Receiver, client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count, problems=[PROBLEM])
        assert call(worker, "finish", message, report).status_code == 200
    assert receiver.deliveries == []  # no worker waits for a receiver

    said = StringIO()
    call_command("bulk_import_relay", stdout=said)
    call_command("bulk_import_relay", stdout=said)

    assert said.getvalue() == "sent: 0 messages, 0 mails, 1 webhooks, 0 signals\n"
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
    assert owed() == 0


SPECTACULAR: tuple[Any, ...] = (SchemaGenerator, spectacular_settings, validate_schema)  # they have no types


def test_a_schema_that_asks_for_it_describes_the_webhook(owing_job: ImportJob, receiver: Receiver) -> None:
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


def pause(job: ImportJob) -> None:
    job.pause_by_worker(PauseCode.ENDPOINT_BUSY, asked_seconds=0, first_seconds=30)


def kill_chunk(job: ImportJob) -> None:
    chunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=4, first_byte=0, byte_count=9, status=ChunkStatus.DEAD
    )
    job.handle_finished_chunk(chunk)


HAPPENINGS: list[tuple[list[str], list[Callable[[ImportJob], Any]]]] = [
    (["import.paused"], [pause]),
    (["import.paused", "import.resumed"], [pause, ImportJob.mark_progress]),
    (["import.dead_lettered", "import.failed"], [kill_chunk]),
    (["import.dead_lettered", "import.failed", "import.redriven"], [kill_chunk, ImportJob.redrive]),
    (["import.dead_lettered", "import.failed", "import.retried"], [kill_chunk, ImportJob.retry]),
    ([], [lambda job: job.cancel(None)]),
]


@pytest.mark.parametrize(("types", "happenings"), HAPPENINGS, ids=lambda value: " ".join(map(str, value))[:60])
def test_each_thing_that_happens_to_a_job_is_told_under_its_name(
    types: list[str], happenings: list[Callable[[ImportJob], Any]], receiver: Receiver, merchandiser: Any
) -> None:
    """That somebody wants it cancelled is told by its end."""
    job = ImportJob.objects.create(
        target="products", submitter=merchandiser, rows=4, status=JobStatus.PROCESSING, request_sha256=b""
    )
    for happens in happenings:
        with transaction.atomic():
            happens(job)
    send_due_webhooks()

    assert sorted(delivery.document["type"] for delivery in receiver.deliveries) == sorted(types)


@pytest.mark.parametrize("status", ["succeeded", "partially_succeeded", "failed", "cancelled"])
def test_the_type_is_that_of_the_end_and_the_data_are_those_of_now(
    status: str, owing_job: ImportJob, receiver: Receiver
) -> None:
    owing_job.events.update(note=status)
    ImportJob.objects.update(status=JobStatus.PENDING)  # it was retried before anybody was told
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    assert (delivery.document["type"], delivery.document["data"]["status"]) == (f"import.{status}", "pending")


def test_the_job_is_told_of_in_its_own_language(owing_job: ImportJob, receiver: Receiver) -> None:
    ImportJob.objects.update(language="pt-br")
    send_due_webhooks()

    assert "Nada foi criado" in receiver.deliveries[0].body.decode()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_is_taken(status: int, owing_job: ImportJob, receiver: Receiver) -> None:
    receiver.answer = answer(status)

    assert (send_due_webhooks(), owed()) == (1, 0)


@pytest.mark.parametrize("failure", [500, 404, 429, 307, "hang", "drip", "hang up"])
@pytest.mark.usefixtures("_in_a_hurry")
def test_what_is_not_taken_comes_again_under_the_same_id(
    failure: int | str, owing_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    taking = receiver.answer
    failures = {"hang": receiver.hang, "drip": receiver.drip, "hang up": lambda _handler: None}
    receiver.answer = answer(failure, Location=receiver.url) if isinstance(failure, int) else failures[failure]
    assert (send_due_webhooks(), owed()) == (0, 1)
    assert f"webhook about job {owing_job.pk} was not taken" in caplog.text
    assert "it is tried again in 0:02:00" in caplog.text
    receiver.answer = taking

    assert send_due_webhooks() == 0  # not at once
    let_time_pass(RETRY_AFTER)
    assert (send_due_webhooks(), owed()) == (1, 0)
    first, again = receiver.deliveries
    assert first.id == again.id
    assert first.body == again.body
    assert again.is_signed_with(SECRET)


def test_a_receiver_that_is_away_gets_it_later(
    owing_job: ImportJob, receiver: Receiver, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    listen(settings, f"http://127.0.0.1:{free_port()}", SECRET)
    assert (send_due_webhooks(), owed()) == (0, 1)
    assert "ConnectError" in caplog.text
    listen(settings, receiver.url, SECRET)

    let_time_pass(RETRY_AFTER)
    assert (send_due_webhooks(), owed(), len(receiver.deliveries)) == (1, 0, 1)


def test_the_time_between_tries_grows_and_differs() -> None:
    assert retry_delay(timedelta(0)) == RETRY_AFTER
    rests = {retry_delay(timedelta(hours=1)) for _ in range(100)}
    assert len(rests) > 1
    assert timedelta(minutes=45) <= min(rests) <= max(rests) <= timedelta(minutes=75)
    assert retry_delay(timedelta(days=2)) == MAX_RETRY_AFTER


def test_a_receiver_that_never_takes_it_is_given_up_and_the_log_says_so(
    owing_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = answer(500)
    ImportEvent.objects.update(at=timezone.now() - GIVE_UP_AFTER + timedelta(hours=1))
    send_due_webhooks()
    assert "was not taken, the answer was 500; it is given up" in caplog.text

    ImportEvent.objects.update(at=timezone.now() - GIVE_UP_AFTER)
    let_time_pass(MAX_RETRY_AFTER)
    assert (send_due_webhooks(), len(receiver.deliveries), owed()) == (0, 1, 1)


def test_while_the_secret_is_rotated_both_sign(owing_job: ImportJob, receiver: Receiver, settings: Settings) -> None:
    listen(settings, receiver.url, OTHER_SECRET, SECRET)
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    assert len(delivery.headers["webhook-signature"].split(" ")) == 2
    assert delivery.is_signed_with(SECRET)
    assert delivery.is_signed_with(OTHER_SECRET)


def test_two_sweeps_at_once_send_one_webhook(owing_job: ImportJob, receiver: Receiver) -> None:
    assert sorted(in_threads(*[send_due_webhooks] * 4)) == [0, 0, 0, 1]
    assert len(receiver.deliveries) == 1


def test_a_webhook_that_cannot_be_written_does_not_keep_back_another(
    owing_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    ImportJob.objects.update(target="boats")  # whose URLs are gone
    ImportEvent.objects.update(at=timezone.now() - timedelta(minutes=1))
    other = ImportJob.objects.create(target="products", rows=1, request_sha256=b"")
    other.record(EventKind.RESUMED)

    assert send_due_webhooks() == 1
    assert [delivery.document["data"]["id"] for delivery in receiver.deliveries] == [str(other.pk)]
    assert "could not be sent; it is tried again" in caplog.text


def test_where_no_program_listens_any_more_nothing_is_owed_or_tried(
    owing_job: ImportJob, receiver: Receiver, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    listen(settings, "")
    owing_job.record(EventKind.RESUMED)
    caplog.clear()

    assert (send_due_webhooks(), owed(), receiver.deliveries, caplog.text) == (0, 1, [], "")


@pytest.mark.usefixtures("_in_a_hurry")
def test_a_receiver_that_hangs_holds_up_neither_mails_nor_more_than_one_webhook_a_sweep(
    owing_job: ImportJob, receiver: Receiver
) -> None:
    for _ in range(5):
        owing_job.record(EventKind.RESUMED)
    mailed_before: list[int] = []

    def hang(handler: Any) -> None:
        mailed_before.append(len(mail.outbox))
        receiver.hang(handler)

    receiver.answer = hang
    assert relay.sweep() == relay.Sent(messages=0, mails=1, webhooks=0, signals=0)
    assert mailed_before == [1]
    assert relay.sweep().webhooks == 0
    assert len({delivery.id for delivery in receiver.deliveries}) == 2  # another one's turn


@pytest.mark.usefixtures("_in_a_hurry")
def test_an_endless_answer_is_not_read(owing_job: ImportJob, receiver: Receiver) -> None:
    receiver.answer = receiver.talk

    assert (send_due_webhooks(), owed()) == (1, 0)


@pytest.mark.parametrize("status", [204, 500])
def test_the_log_holds_neither_secrets_nor_bodies_nor_signatures(
    status: int, owing_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever level, and whoever logs."""
    caplog.set_level(logging.DEBUG)
    receiver.answer = answer(status)
    send_due_webhooks()

    (delivery,) = receiver.deliveries
    signature = delivery.headers["webhook-signature"].removeprefix("v1,")
    assert caplog.text
    for hidden in (SECRET, SECRET.removeprefix("whsec_"), PROBLEM["message"], signature):
        assert str(hidden) not in caplog.text


def database_url() -> str:
    """The tests' database, for another process."""
    if connection.vendor == "sqlite":
        return f"sqlite:///{connection.settings_dict['NAME']}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def test_killed_after_the_webhook_was_sent_the_next_sweep_sends_the_same(
    owing_job: ImportJob, receiver: Receiver
) -> None:
    """A real relay; the receiver kills it before it answers."""
    taking = receiver.answer
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings.local", "DATABASE_URL": database_url()}
    command = [sys.executable, "manage.py", "bulk_import_relay"]
    process = subprocess.Popen(command, cwd=PROJECT, env={**environment, "WEBHOOK_URL": receiver.url})
    receiver.answer = lambda _handler: os.kill(process.pid, signal.SIGKILL)

    assert process.wait() == -signal.SIGKILL
    assert owed() == 1
    receiver.answer = taking
    assert send_due_webhooks() == 0  # the process may be at it still
    let_time_pass(RETRY_AFTER)
    assert (send_due_webhooks(), owed()) == (1, 0)
    first, again = receiver.deliveries
    assert first.id == again.id
    assert first.document == again.document
