"""A mail is owed until the mail server took it, and is one mail however often it is tried."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as default_policy
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP
from django.core import mail
from django.core.mail import DNS_NAME
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command
from django.db import transaction
from django.db.models.functions import Now

from bulk_import.debts import RETRY_AFTER
from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus
from bulk_import.models.job import PAUSE_MAIL_AFTER
from bulk_import.notifications import send_due_mails
from lambda_worker.contract import PauseCode
from tests.bulk_import.conftest import call, claim, finish, in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from pytest_django import Settings
    from rest_framework.test import APIClient

    from lambda_worker.contract import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


class RaisingBackend(BaseEmailBackend):
    """A mail server that is away."""

    def send_messages(self, _messages: Any) -> int:
        raise ConnectionRefusedError("nobody listens")


class DyingBackend(BaseEmailBackend):
    """SystemExit in place of a kill, after the mail server took the mail and before anybody noted it."""

    def send_messages(self, messages: Any) -> int:
        mail.outbox.extend(messages)
        raise SystemExit


RAISING = f"{__name__}.{RaisingBackend.__name__}"
DYING = f"{__name__}.{DyingBackend.__name__}"


def end_job(worker: APIClient, messages: list[ChunkMessage]) -> None:
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count)
        assert call(worker, "finish", message, report).status_code == 200


def let_time_pass(passed: timedelta) -> None:
    for event in ImportEvent.objects.filter(mail_due_at__isnull=False):
        event.mail_due_at -= passed
        event.save()


def owed() -> int:
    return ImportEvent.objects.filter(mail_due_at__isnull=False).count()


@pytest.fixture
def owing_job(merchandiser: Any) -> ImportJob:
    """It has ended, and nobody has been told."""
    job: ImportJob = ImportJob.objects.create(
        target="products", submitter=merchandiser, rows=4, status=JobStatus.FAILED, request_sha256=b"", language="en"
    )
    job.record(EventKind.ENDED, mail_after=timedelta(0))
    return job


def test_a_mail_server_that_is_away_gets_the_mail_later(
    worker: APIClient, messages: list[ChunkMessage], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, RAISING
    end_job(worker, messages)
    assert ImportJob.objects.get().status == JobStatus.FAILED
    assert "could not be sent; it is tried again" in caplog.text
    settings.EMAIL_BACKEND = backend

    assert (send_due_mails(), owed()) == (0, 1)  # not at once
    let_time_pass(RETRY_AFTER)
    said = StringIO()
    call_command("bulk_import_relay", stdout=said)
    assert said.getvalue() == "sent: 0 messages, 1 mails, 0 webhooks, 0 signals\n"
    assert [sent.subject for sent in mail.outbox] == ["Import of products: failed"]
    assert (owed(), send_due_mails()) == (0, 0)


def test_killed_after_the_mail_was_sent_the_next_sweep_sends_the_same_mail(
    owing_job: ImportJob, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, DYING
    with pytest.raises(SystemExit):
        send_due_mails()
    assert owed() == 1
    settings.EMAIL_BACKEND = backend
    monkeypatch.setattr(DNS_NAME, "_fqdn", "another-machine", raising=False)

    assert send_due_mails() == 0  # the process may be at it still
    let_time_pass(RETRY_AFTER)
    assert send_due_mails() == 1
    first, again = (sent.message() for sent in mail.outbox)
    assert first["Message-ID"] == again["Message-ID"]
    assert first["Date"] == again["Date"]
    assert re.fullmatch(r"<[0-9a-f-]{36}@localhost>", str(first["Message-ID"]))


@pytest.mark.parametrize(
    ("sender", "domain"), [("Shop <imports@shop.example>", "shop.example"), ("imports@shop.example", "shop.example")]
)
def test_the_message_id_is_of_the_sender(owing_job: ImportJob, settings: Settings, sender: str, domain: str) -> None:
    settings.DEFAULT_FROM_EMAIL = sender
    send_due_mails()

    assert mail.outbox[0].message()["Message-ID"] == f"<{owing_job.events.get().pk}@{domain}>"


def test_two_sweeps_at_once_send_one_mail(owing_job: ImportJob) -> None:
    assert sorted(in_threads(*[send_due_mails] * 4)) == [0, 0, 0, 1]
    assert len(mail.outbox) == 1


def test_a_mail_that_cannot_be_sent_does_not_keep_back_another(
    owing_job: ImportJob, merchandiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ImportJob.objects.create(
        target="products", submitter=merchandiser, rows=1, problems=["no problem at all"], request_sha256=b""
    )
    broken.record(EventKind.ENDED, mail_after=timedelta(minutes=-1))

    assert send_due_mails() == 1
    assert [event.job_id for event in ImportEvent.objects.filter(mail_due_at__isnull=False)] == [broken.pk]


@pytest.mark.parametrize("submitter", ["without an address", "deleted"])
def test_nobody_to_mail_is_no_mail_owed(owing_job: ImportJob, merchandiser: Any, submitter: str) -> None:
    if submitter == "deleted":
        merchandiser.delete()
    else:
        merchandiser.email = ""
        merchandiser.save()
    send_due_mails()

    assert (owed(), mail.outbox) == (0, [])


def pause(job: ImportJob) -> None:
    job.status = JobStatus.PROCESSING
    job.save()
    with transaction.atomic():
        job.pause(PauseCode.ENDPOINT_BUSY, asked_seconds=0, first_seconds=30)


def test_a_pause_is_mailed_of_when_it_lasts(owing_job: ImportJob) -> None:
    owing_job.owe_no_mail()
    pause(owing_job)

    let_time_pass(PAUSE_MAIL_AFTER - timedelta(minutes=1))
    assert (send_due_mails(), owed()) == (0, 1)
    let_time_pass(timedelta(minutes=1))
    assert send_due_mails() == 1
    (sent,) = mail.outbox
    assert sent.subject == "Import of products: paused"
    assert "is paused because the endpoint that creates them is too busy; 0 were created so far." in sent.body


def test_a_pause_that_ends_sooner_is_nobodys_concern(owing_job: ImportJob) -> None:
    owing_job.owe_no_mail()
    pause(owing_job)
    owing_job.resume()
    let_time_pass(PAUSE_MAIL_AFTER)

    assert (send_due_mails(), owed(), mail.outbox) == (0, 0, [])


def test_the_mail_is_in_the_language_of_the_import(owing_job: ImportJob) -> None:
    ImportJob.objects.update(language="pt-br")
    send_due_mails()

    assert "Nada foi criado" in mail.outbox[0].body


class PostOffice:
    """What the mail server does with a mail: it takes it, or says that it is too busy."""

    def __init__(self) -> None:
        self.busy = False
        self.taken: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.busy:
            return "451 too busy, come back later"
        self.taken.append(message_from_bytes(envelope.content, policy=default_policy))
        return "250 taken"


@contextmanager
def smtp_server(settings: Settings) -> Iterator[PostOffice]:
    """A mail server on a free port, and the settings that send mail to it."""
    office, loop = PostOffice(), asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: SMTP(office, loop=loop), "127.0.0.1", 0))
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.sockets[0].getsockname()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield office
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_mail_server_takes_the_mail_when_it_is_not_too_busy(owing_job: ImportJob, settings: Settings) -> None:
    with smtp_server(settings) as office:
        office.busy = True
        assert (send_due_mails(), owed()) == (0, 1)
        office.busy = False
        let_time_pass(RETRY_AFTER)
        assert (send_due_mails(), owed()) == (1, 0)

    (taken,) = office.taken
    assert taken["To"] == "merchandiser@shop.example"
    assert taken["Message-ID"] == f"<{owing_job.events.get().pk}@localhost>"
    assert "None of the 4 products was created." in taken.get_content()
    assert ImportEvent.objects.filter(mail_due_at__lte=Now()).count() == 0
