"""A webhook is retried until the receiver answers with 2xx, and a slow receiver delays nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from bulk_import.local.processes import free_port
from bulk_import.models import Delivery, EventKind, ImportEvent, ImportJob
from bulk_import.models.delivery import GIVE_UP_AFTER
from bulk_import.outbox import relay
from bulk_import.outbox.delivery import MAX_RETRY_AFTER, RETRY_AFTER, backoff
from bulk_import.outbox.webhooks import send_due_webhooks
from tests.bulk_import.conftest import in_threads
from tests.bulk_import.outbox.deliveries import let_time_pass, make_failed_job, pending_webhooks, record_end
from tests.bulk_import.outbox.webhook_receiver import SECRET, Receiver, answer, use_receiver

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def ended_job(receiver: Receiver, merchandiser: Any) -> ImportJob:
    """A job that has ended, and whose webhook has not been sent yet."""
    job = make_failed_job(merchandiser)
    record_end(job)
    return job


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_means_that_the_receiver_accepted_it(status: int, ended_job: ImportJob, receiver: Receiver) -> None:
    receiver.answer = answer(status)

    assert (send_due_webhooks(), pending_webhooks()) == (1, 0)


@pytest.mark.parametrize("failure", [500, 404, 429, 307, "hang", "drip", "hang up"])
@pytest.mark.usefixtures("_short_timeouts")
def test_a_webhook_that_was_not_accepted_is_retried_under_the_same_id(
    failure: int | str, ended_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    accept = receiver.answer
    failures = {"hang": receiver.hang, "drip": receiver.drip, "hang up": lambda _handler: None}
    receiver.answer = answer(failure, Location=receiver.url) if isinstance(failure, int) else failures[failure]
    assert (send_due_webhooks(), pending_webhooks()) == (0, 1)
    assert f"webhook about job {ended_job.pk} was not delivered: " in caplog.text
    assert "The next attempt is in 0:02:" in caplog.text
    receiver.answer = accept

    assert send_due_webhooks() == 0  # the retry is not due yet
    let_time_pass()
    assert (send_due_webhooks(), pending_webhooks()) == (1, 0)
    first, second = receiver.deliveries
    assert first.id == second.id
    assert first.body == second.body
    assert second.is_signed_with(SECRET)


def test_a_receiver_that_is_unavailable_gets_the_webhook_later(
    ended_job: ImportJob, receiver: Receiver, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    use_receiver(settings, f"http://127.0.0.1:{free_port()}", SECRET)
    assert (send_due_webhooks(), pending_webhooks()) == (0, 1)
    assert "ConnectError" in caplog.text
    use_receiver(settings, receiver.url, SECRET)

    let_time_pass()
    assert (send_due_webhooks(), pending_webhooks(), len(receiver.deliveries)) == (1, 0, 1)


def test_the_delay_between_attempts_doubles_and_is_partly_random() -> None:
    for attempts, minutes in enumerate([2, 4, 8, 16]):
        delays = {backoff(attempts) for _ in range(100)}
        assert len(delays) > 1
        assert timedelta(minutes=minutes) <= min(delays) <= max(delays) <= timedelta(minutes=minutes * 1.25)
    assert backoff(0) >= RETRY_AFTER
    assert backoff(30) == MAX_RETRY_AFTER


def test_each_attempt_is_counted_and_makes_the_next_delay_longer(ended_job: ImportJob, receiver: Receiver) -> None:
    receiver.answer = answer(500)
    delays = []
    for _ in range(3):
        let_time_pass(MAX_RETRY_AFTER)
        send_due_webhooks()
        delays.append(Delivery.objects.get(channel="webhook").due_at - timezone.now())

    assert Delivery.objects.get(channel="webhook").attempts == 3
    assert delays[0] * 1.5 < delays[1] < delays[2] / 1.5


def test_after_three_days_a_delivery_is_abandoned_and_logged(
    ended_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = answer(500)
    ImportEvent.objects.update(at=timezone.now() - GIVE_UP_AFTER + timedelta(minutes=1))
    send_due_webhooks()
    assert "was not delivered: the receiver returned 500. We stop trying." in caplog.text

    ImportEvent.objects.update(at=timezone.now() - GIVE_UP_AFTER)
    let_time_pass(MAX_RETRY_AFTER)
    assert (send_due_webhooks(), len(receiver.deliveries), pending_webhooks()) == (0, 1, 1)


def test_two_sweeps_at_the_same_time_send_one_webhook(ended_job: ImportJob, receiver: Receiver) -> None:
    assert sorted(in_threads(*[send_due_webhooks] * 4)) == [0, 0, 0, 1]
    assert len(receiver.deliveries) == 1


def test_a_webhook_that_cannot_be_written_does_not_delay_another(
    ended_job: ImportJob, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    ImportJob.objects.update(target="boats")  # this target's URLs no longer exist
    let_time_pass(timedelta(minutes=1))
    other = ImportJob.objects.create(target="products", rows=1, request_sha256=b"")
    other.record(EventKind.RESUMED)

    assert send_due_webhooks() == 1
    assert [delivery.document["data"]["id"] for delivery in receiver.deliveries] == [str(other.pk)]
    assert "could not be sent. The next attempt is in" in caplog.text


def test_without_a_webhook_url_nothing_is_recorded_or_sent(
    ended_job: ImportJob, receiver: Receiver, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    use_receiver(settings, "")
    ended_job.record(EventKind.RESUMED)
    caplog.clear()

    assert (send_due_webhooks(), pending_webhooks(), receiver.deliveries, caplog.text) == (0, 1, [], "")


@pytest.mark.usefixtures("_short_timeouts")
def test_a_receiver_that_hangs_delays_no_email_and_only_one_webhook_per_sweep(
    ended_job: ImportJob, receiver: Receiver
) -> None:
    for _ in range(5):
        ended_job.record(EventKind.RESUMED)
    emails_before: list[int] = []

    def hang(handler: Any) -> None:
        emails_before.append(len(mail.outbox))
        receiver.hang(handler)

    receiver.answer = hang
    assert relay.sweep() == relay.Sent(messages=0, emails=1, webhooks=0)
    assert emails_before == [1]
    assert relay.sweep().webhooks == 0
    assert len({delivery.id for delivery in receiver.deliveries}) == 2  # the second sweep starts with another webhook


def test_the_body_of_the_response_is_not_read(ended_job: ImportJob, receiver: Receiver) -> None:
    receiver.answer = receiver.talk

    assert (send_due_webhooks(), pending_webhooks()) == (1, 0)


def database_url() -> str:
    """The URL of the tests' database, for another process."""
    if connection.vendor == "sqlite":
        return f"sqlite:///{connection.settings_dict['NAME']}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def test_when_the_relay_is_killed_after_sending_the_next_sweep_sends_the_same_webhook(
    ended_job: ImportJob, receiver: Receiver
) -> None:
    """The relay is a real process, and the receiver kills it before it answers."""
    accept = receiver.answer
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings.local", "DATABASE_URL": database_url()}
    command = [sys.executable, "manage.py", "bulk_import_relay"]
    process = subprocess.Popen(command, cwd=PROJECT, env={**environment, "WEBHOOK_URL": receiver.url})
    receiver.answer = lambda _handler: os.kill(process.pid, signal.SIGKILL)

    assert process.wait() == -signal.SIGKILL
    assert pending_webhooks() == 1
    receiver.answer = accept
    assert send_due_webhooks() == 0  # the first process could still be sending
    let_time_pass()
    assert (send_due_webhooks(), pending_webhooks()) == (1, 0)
    first, second = receiver.deliveries
    assert first.id == second.id
    assert first.document == second.document
