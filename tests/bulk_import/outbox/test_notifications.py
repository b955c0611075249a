"""Who gets an email about a job and when, and that no email is lost."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.core.mail import DNS_NAME
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command
from django.db import transaction

from bulk_import.models import Delivery, ImportEvent, ImportJob, JobStatus
from bulk_import.models.pause import PAUSE_MAIL_AFTER
from bulk_import.outbox.notifications import send_due_emails
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.conftest import call, claim, finish, in_threads, record
from tests.bulk_import.outbox.deliveries import let_time_pass, make_failed_job, pending_emails, record_end

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


class UnavailableBackend(BaseEmailBackend):
    """A mail server that refuses connections."""

    def send_messages(self, _messages: Any) -> int:
        raise ConnectionRefusedError("connection refused")


class KilledBackend(BaseEmailBackend):
    """SystemExit stands for a kill after the mail server has accepted the email, and before that was recorded."""

    def send_messages(self, messages: Any) -> int:
        mail.outbox.extend(messages)
        raise SystemExit


UNAVAILABLE = f"{__name__}.{UnavailableBackend.__name__}"
KILLED = f"{__name__}.{KilledBackend.__name__}"


@pytest.fixture
def ended_job(merchandiser: Any) -> ImportJob:
    """A job that has ended, and whose submitter has not been emailed yet."""
    job = make_failed_job(merchandiser)
    record_end(job)
    return job


def end_job(worker: APIClient, messages: list[ChunkMessage]) -> None:
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count)
        assert call(worker, "finish", message, report).status_code == 200


def test_when_the_mail_server_is_unavailable_the_relay_sends_the_email_later(
    worker: APIClient, messages: list[ChunkMessage], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, UNAVAILABLE
    end_job(worker, messages)
    assert ImportJob.objects.get().status == JobStatus.FAILED
    assert "was not delivered: ConnectionRefusedError" in caplog.text
    settings.EMAIL_BACKEND = backend

    assert (send_due_emails(), pending_emails()) == (0, 1)  # the retry is not due yet
    let_time_pass()
    output = StringIO()
    call_command("bulk_import_relay", stdout=output)
    assert output.getvalue() == "Sent 0 messages, 1 emails, 0 webhooks.\n"
    assert [sent.subject for sent in mail.outbox] == ["None of the 4 products was created"]
    assert (pending_emails(), send_due_emails()) == (0, 0)


def test_when_a_process_is_killed_after_sending_the_next_sweep_sends_the_same_email(
    ended_job: ImportJob, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, KILLED
    with pytest.raises(SystemExit):
        send_due_emails()
    assert pending_emails() == 1
    settings.EMAIL_BACKEND = backend
    monkeypatch.setattr(DNS_NAME, "_fqdn", "another-machine", raising=False)

    assert send_due_emails() == 0  # the first process could still be sending
    let_time_pass()
    assert send_due_emails() == 1
    first, second = (sent.message() for sent in mail.outbox)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Date"] == second["Date"]
    assert re.fullmatch(r"<[0-9a-f-]{36}\.\d+@localhost>", str(first["Message-ID"]))


@pytest.mark.parametrize(
    ("sender", "domain"), [("Shop <imports@shop.example>", "shop.example"), ("imports@shop.example", "shop.example")]
)
def test_the_message_id_has_the_domain_of_the_sender(
    ended_job: ImportJob, settings: Settings, sender: str, domain: str
) -> None:
    delivery = Delivery.objects.get()
    settings.DEFAULT_FROM_EMAIL = sender
    send_due_emails()

    assert mail.outbox[0].message()["Message-ID"] == f"<{delivery.event_id}.{delivery.pk}@{domain}>"


def test_two_sweeps_at_the_same_time_send_one_email(ended_job: ImportJob) -> None:
    assert sorted(in_threads(*[send_due_emails] * 4)) == [0, 0, 0, 1]
    assert len(mail.outbox) == 1


def test_an_email_that_cannot_be_written_does_not_delay_another(ended_job: ImportJob, merchandiser: Any) -> None:
    broken = make_failed_job(merchandiser, problems=["not a problem document"])
    record_end(broken, mail_after=timedelta(minutes=-1))

    assert send_due_emails() == 1
    assert [delivery.event.job_id for delivery in Delivery.objects.all()] == [broken.pk]


def test_the_email_is_written_in_the_language_of_the_import(ended_job: ImportJob) -> None:
    ImportJob.objects.update(language="pt-br")
    send_due_emails()

    assert "Não foi possível criar" in mail.outbox[0].body


# --- emails that are no longer needed


def test_nobody_gets_an_email_if_the_submitter_is_disabled(merchandiser: Any) -> None:
    """The other recipients do not get one either: they see the rows only because the submitter may see them."""
    job = make_failed_job(merchandiser, notify="ana@shop.example")
    record_end(job)
    assert pending_emails() == 2
    merchandiser.is_active = False
    merchandiser.save()
    send_due_emails()
    assert (pending_emails(), mail.outbox) == (0, [])

    later = make_failed_job(merchandiser, notify="ana@shop.example")
    record_end(later)
    assert pending_emails() == 0


@pytest.mark.parametrize("submitter", ["without an address", "deleted"])
def test_nobody_gets_an_email_if_the_submitter_has_no_address_or_is_deleted(
    ended_job: ImportJob, merchandiser: Any, submitter: str
) -> None:
    if submitter == "deleted":
        merchandiser.delete()
    else:
        merchandiser.email = ""
        merchandiser.save()
    send_due_emails()

    assert (pending_emails(), mail.outbox) == (0, [])


def pause(job: ImportJob) -> None:
    job.status = JobStatus.PROCESSING
    job.save()
    with transaction.atomic():
        job.pause_by_worker(PauseCode.ENDPOINT_BUSY, asked_seconds=0, first_seconds=30)


def test_a_pause_is_emailed_when_it_has_lasted_ten_minutes(merchandiser: Any) -> None:
    pause(make_failed_job(merchandiser))

    let_time_pass(PAUSE_MAIL_AFTER - timedelta(minutes=1))
    assert (send_due_emails(), pending_emails()) == (0, 1)
    let_time_pass(timedelta(minutes=1))
    assert send_due_emails() == 1
    (sent,) = mail.outbox
    assert sent.subject.startswith("Import of 4 products paused: ")
    assert "0 of 4 products were created so far. We retry automatically" in sent.body


def test_the_pause_email_is_cancelled_when_the_job_makes_progress(merchandiser: Any) -> None:
    job = make_failed_job(merchandiser)
    pause(job)
    job.refresh_from_db()
    with transaction.atomic():
        job.mark_progress()
    let_time_pass(PAUSE_MAIL_AFTER)

    assert (send_due_emails(), pending_emails(), mail.outbox) == (0, 0, [])


@pytest.mark.parametrize(
    ("kind", "status"), [("ended", "processing"), ("paused", "processing"), ("dead_lettered", "failed")]
)
def test_an_event_that_no_longer_describes_the_job_is_not_emailed(ended_job: ImportJob, kind: str, status: str) -> None:
    """For example, somebody retried the job after the email became due and before it was sent."""
    ImportJob.objects.update(status=status)
    ImportEvent.objects.update(kind=kind)
    send_due_emails()

    assert (pending_emails(), mail.outbox) == (0, [])


# --- recipients


def end_with_recipients(submitter: Any, *addresses: str) -> ImportJob:
    job = make_failed_job(submitter, notify=",".join(addresses))
    record_end(job)
    return job


def test_every_recipient_gets_an_email_of_their_own(merchandiser: Any) -> None:
    end_with_recipients(merchandiser, "ana@shop.example", "bo@shop.example")
    assert send_due_emails() == 3

    own, ana, bo = mail.outbox
    assert [sent.to for sent in mail.outbox] == [
        ["merchandiser@shop.example"],
        ["ana@shop.example"],
        ["bo@shop.example"],
    ]
    assert len({sent.message()["Message-ID"] for sent in mail.outbox}) == 3
    for sent in (ana, bo):
        whole = sent.message().as_string()
        assert whole.count("@shop.example") == 1  # nobody sees another recipient's address
        assert "added your address" in sent.body
        assert "http" not in sent.body  # only the submitter may open the pages
        assert "retry" not in sent.body
    assert "because you started this import" in own.body


def test_the_submitter_gets_the_email_at_the_address_of_today(ended_job: ImportJob, merchandiser: Any) -> None:
    merchandiser.email = "new@shop.example"
    merchandiser.save()
    send_due_emails()

    assert [sent.to for sent in mail.outbox] == [["new@shop.example"]]


def test_notify_none_means_that_nobody_gets_an_email(merchandiser: Any) -> None:
    end_with_recipients(merchandiser, "none")
    assert pending_emails() == 0
    send_due_emails()

    assert mail.outbox == []


def test_the_other_recipients_get_the_email_if_the_submitter_has_no_address(merchandiser: Any) -> None:
    merchandiser.email = ""
    merchandiser.save()
    end_with_recipients(merchandiser, "ana@shop.example")
    send_due_emails()

    assert [sent.to for sent in mail.outbox] == [["ana@shop.example"]]


def test_the_email_about_a_cancelled_job_says_how_many_rows_were_created(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """From the DELETE to the email."""
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1)
    client_of_merchandiser.delete(f"/products/bulk/{messages[0].job_id}")
    assert mail.outbox == []
    call(worker, "finish", messages[0], finish(epoch, unprocessed=1))
    call(worker, "finish", messages[1], finish(claim(worker, messages[1]).epoch, unprocessed=1))

    (sent,) = mail.outbox
    assert sent.subject == "Import cancelled: 2 of 4 products were created"
