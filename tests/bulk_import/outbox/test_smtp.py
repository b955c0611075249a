"""Emails are delivered to a real mail server, also when it is busy or when the sending process is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from bulk_import.models import Delivery, ImportJob
from bulk_import.outbox.delivery import MAX_RETRY_AFTER
from bulk_import.outbox.notifications import send_due_emails
from tests.bulk_import.outbox.deliveries import let_time_pass, make_failed_job, pending_emails, record_end
from tests.bulk_import.outbox.smtp_server import smtp_server

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ended_job(merchandiser: Any) -> ImportJob:
    """A job that has ended, and whose submitter has not been emailed yet."""
    job = make_failed_job(merchandiser)
    record_end(job)
    return job


def message_ids() -> dict[str, str]:
    """The Message-ID of each pending email, by its recipient."""
    pending = Delivery.objects.order_by("pk")
    return {delivery.recipient: f"<{delivery.event_id}.{delivery.pk}@localhost>" for delivery in pending}


def own_log(caplog: pytest.LogCaptureFixture) -> str:
    """What this app has logged, with tracebacks, but without the log of the tests' mail server."""
    own = (entry for entry in caplog.records if entry.name.startswith("bulk_import"))
    return "\n".join(caplog.handler.format(entry) for entry in own)


def test_a_busy_mail_server_gets_the_email_later(ended_job: ImportJob, settings: Settings) -> None:
    expected = message_ids()["submitter"]
    with smtp_server(settings) as office:
        office.busy = True
        assert (send_due_emails(), pending_emails()) == (0, 1)
        office.busy = False
        let_time_pass()
        assert (send_due_emails(), pending_emails()) == (1, 0)

    (accepted,) = office.accepted
    assert accepted["To"] == "merchandiser@shop.example"
    assert accepted["Subject"] == "None of the 4 products was created"
    assert accepted["Message-ID"] == expected


def test_an_unknown_address_is_retried_alone_and_appears_in_no_log(
    merchandiser: Any, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    record_end(make_failed_job(merchandiser, notify="gone@shop.example,bo@shop.example"))
    expected = message_ids()
    with smtp_server(settings) as office:
        office.unknown = "gone@shop.example"
        assert (send_due_emails(), pending_emails()) == (2, 1)
        let_time_pass()
        assert (send_due_emails(), pending_emails()) == (0, 1)
        office.unknown = ""
        let_time_pass(MAX_RETRY_AFTER)
        assert (send_due_emails(), pending_emails()) == (1, 0)

    assert [(accepted["To"], accepted["Message-ID"]) for accepted in office.accepted] == [
        ("merchandiser@shop.example", expected["submitter"]),
        ("bo@shop.example", expected["bo@shop.example"]),
        ("gone@shop.example", expected["gone@shop.example"]),
    ]
    assert own_log(caplog).count("was not delivered: SMTPRecipientsRefused") == 2
    assert "shop.example" not in own_log(caplog)


def start_relay(settings: Settings) -> subprocess.Popen[bytes]:
    """The relay as a separate process, with the database and the mail server of this test."""
    database = connection.settings_dict
    names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.bulk_import.smtp_settings",
        "TEST_DATABASE": json.dumps({name: database[name] for name in names}, default=str),
        "TEST_EMAIL_HOST": settings.EMAIL_HOST,
        "TEST_EMAIL_PORT": str(settings.EMAIL_PORT),
    }
    return subprocess.Popen([sys.executable, "manage.py", "bulk_import_relay"], env=environment, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("killed_at", "accepted_then"), [("MAIL", 0), ("DATA", 1)])
def test_a_process_that_is_killed_while_sending_leads_to_one_email_or_the_same_email_twice(
    ended_job: ImportJob, settings: Settings, killed_at: str, accepted_then: int
) -> None:
    expected = message_ids()["submitter"]
    with smtp_server(settings) as office:
        office.waits_at = killed_at
        relay = start_relay(settings)
        assert office.is_waiting.wait(60)
        relay.kill()  # -9
        relay.communicate()
        assert (len(office.accepted), pending_emails()) == (accepted_then, 1)

        office.waits_at = ""
        let_time_pass()
        output, _ = start_relay(settings).communicate()
        assert output == b"Sent 0 messages, 1 emails, 0 webhooks.\n"
        assert start_relay(settings).communicate()[0] == b""

    assert len(office.accepted) == accepted_then + 1
    assert {accepted["Message-ID"] for accepted in office.accepted} == {expected}
    assert {accepted["Date"] for accepted in office.accepted} == {office.accepted[0]["Date"]}
    assert pending_emails() == 0
