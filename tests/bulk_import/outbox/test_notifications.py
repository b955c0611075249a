"""A mail is owed until the mail server took it, and is one mail however often it is tried."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as default_policy
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.smtp import SMTP
from django.conf import settings as django_settings
from django.core import mail
from django.core.mail import DNS_NAME
from django.core.mail.backends.base import BaseEmailBackend
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models.functions import Now

from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus
from bulk_import.models.pause import PAUSE_MAIL_AFTER
from bulk_import.outbox.delivery import RETRY_AFTER
from bulk_import.outbox.notifications import ATTACH_WITHIN, send_due_mails
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.lines import failure_line
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import Aws, call, claim, finish, in_threads, product, record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.contract import ChunkMessage

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
    assert "was not taken, for 1 of 1: ConnectionRefusedError" in caplog.text
    settings.EMAIL_BACKEND = backend

    assert (send_due_mails(), owed()) == (0, 1)  # not at once
    let_time_pass(RETRY_AFTER)
    said = StringIO()
    call_command("bulk_import_relay", stdout=said)
    assert said.getvalue() == "sent: 0 messages, 1 mails, 0 webhooks, 0 signals\n"
    assert [sent.subject for sent in mail.outbox] == ["None of the 4 products was created"]
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
        target="products",
        submitter=merchandiser,
        rows=1,
        status=JobStatus.FAILED,
        problems=["no problem at all"],
        request_sha256=b"",
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
        job.pause_by_worker(PauseCode.ENDPOINT_BUSY, asked_seconds=0, first_seconds=30)


def test_a_pause_is_mailed_of_when_it_lasts(owing_job: ImportJob) -> None:
    owing_job.cancel_pending_mail()
    pause(owing_job)

    let_time_pass(PAUSE_MAIL_AFTER - timedelta(minutes=1))
    assert (send_due_mails(), owed()) == (0, 1)
    let_time_pass(timedelta(minutes=1))
    assert send_due_mails() == 1
    (sent,) = mail.outbox
    assert sent.subject == "Import of 4 products paused: the create endpoint is too busy"
    assert "0 of 4 products were created so far. It goes on by itself when that is over." in sent.body


def test_a_pause_that_ends_sooner_is_nobodys_concern(owing_job: ImportJob) -> None:
    owing_job.cancel_pending_mail()
    pause(owing_job)
    owing_job.mark_progress()
    let_time_pass(PAUSE_MAIL_AFTER)

    assert (send_due_mails(), owed(), mail.outbox) == (0, 0, [])


def test_the_mail_is_in_the_language_of_the_import(owing_job: ImportJob) -> None:
    ImportJob.objects.update(language="pt-br")
    send_due_mails()

    assert "Nada foi criado" in mail.outbox[0].body


@pytest.mark.parametrize(
    ("kind", "status"), [("ended", "processing"), ("paused", "processing"), ("dead_lettered", "failed")]
)
def test_what_is_not_so_any_more_is_not_mailed(owing_job: ImportJob, kind: str, status: str) -> None:
    """Somebody retried the job between the mail coming due and its sending, for example."""
    ImportJob.objects.update(status=status)
    ImportEvent.objects.update(kind=kind)
    send_due_mails()

    assert (owed(), mail.outbox) == (0, [])


def notify(job: ImportJob, *addresses: str) -> None:
    job.notify = ",".join(addresses)
    job.save()


def test_everybody_who_was_named_gets_a_mail_of_their_own(owing_job: ImportJob) -> None:
    notify(owing_job, "ana@shop.example", "bo@shop.example")
    assert send_due_mails() == 1

    own, ana, bo = mail.outbox
    assert [sent.to for sent in mail.outbox] == [
        ["merchandiser@shop.example"],
        ["ana@shop.example"],
        ["bo@shop.example"],
    ]
    assert len({sent.message()["Message-ID"] for sent in mail.outbox}) == 3
    for sent in (ana, bo):
        whole = sent.message().as_string()
        assert whole.count("@shop.example") == 1  # nobody sees another's address
        assert "named your address" in sent.body
        assert "http" not in sent.body  # the pages are the submitter's alone
        assert "retry" not in sent.body
    assert "because you sent this import" in own.body


def test_who_wants_no_mail_gets_none(owing_job: ImportJob) -> None:
    notify(owing_job, "none")
    send_due_mails()

    assert (owed(), mail.outbox) == (0, [])


def test_a_submitter_without_an_address_keeps_nobody_from_theirs(owing_job: ImportJob, merchandiser: Any) -> None:
    merchandiser.email = ""
    merchandiser.save()
    notify(owing_job, "ana@shop.example")

    assert send_due_mails() == 1
    assert [sent.to for sent in mail.outbox] == [["ana@shop.example"]]


def test_a_job_that_was_cancelled_says_what_had_been_created(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """From the DELETE to the mail."""
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1)
    client_of_merchandiser.delete(f"/products/bulk/{messages[0].job_id}")
    assert mail.outbox == []
    call(worker, "finish", messages[0], finish(epoch, unprocessed=1))
    call(worker, "finish", messages[1], finish(claim(worker, messages[1]).epoch, unprocessed=1))

    (sent,) = mail.outbox
    assert sent.subject == "Import cancelled: 2 of 4 products had been created"


# --- over the wire


class PostOffice:
    """What the mail server does with a mail: it takes it, or says that it is too busy, or makes the client wait."""

    def __init__(self) -> None:
        self.busy = False
        self.unknown = ""
        self.taken: list[EmailMessage] = []
        self.waits_at = ""
        self.is_waiting = threading.Event()

    async def wait_at(self, verb: str) -> None:
        if verb == self.waits_at:
            self.is_waiting.set()
            await asyncio.Event().wait()  # until the connection is lost

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await self.wait_at("MAIL")
        envelope.mail_from = address
        return "250 go on"

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if address == self.unknown:
            return f"550 nobody here is {address}"
        envelope.rcpt_tos.append(address)
        return "250 go on"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.busy:
            return "451 too busy, come back later"
        self.taken.append(message_from_bytes(envelope.content, policy=default_policy))
        await self.wait_at("DATA")
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
        asyncio.run_coroutine_threadsafe(close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def close(server: asyncio.Server) -> None:
    """With the connections that hang."""
    server.close()
    hanging = asyncio.all_tasks() - {asyncio.current_task()}
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)


def own_log(caplog: pytest.LogCaptureFixture) -> str:
    """What this app logged; the mail server of the tests logs, too."""
    own = (entry for entry in caplog.records if entry.name.startswith("bulk_import"))
    return "\n".join(caplog.handler.format(entry) for entry in own)  # with tracebacks


def test_a_mail_server_takes_the_mail_when_it_is_not_too_busy(owing_job: ImportJob, settings: Settings) -> None:
    with smtp_server(settings) as office:
        office.busy = True
        assert (send_due_mails(), owed()) == (0, 1)
        office.busy = False
        let_time_pass(RETRY_AFTER)
        assert (send_due_mails(), owed()) == (1, 0)

    (taken,) = office.taken
    assert taken["To"] == "merchandiser@shop.example"
    assert taken["Subject"] == "None of the 4 products was created"
    assert taken["Message-ID"] == f"<{owing_job.events.get().pk}@localhost>"
    assert ImportEvent.objects.filter(mail_due_at__lte=Now()).count() == 0


def test_an_address_that_nobody_has_is_tried_again_alone_and_named_in_no_log(
    owing_job: ImportJob, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    notify(owing_job, "gone@shop.example", "bo@shop.example")
    with smtp_server(settings) as office:
        office.unknown = "gone@shop.example"
        assert (send_due_mails(), owed()) == (0, 1)
        let_time_pass(RETRY_AFTER)
        assert (send_due_mails(), owed()) == (0, 1)
        office.unknown = ""
        let_time_pass(RETRY_AFTER)
        assert (send_due_mails(), owed()) == (1, 0)

    event = owing_job.events.get()
    assert [(taken["To"], taken["Message-ID"]) for taken in office.taken] == [
        ("merchandiser@shop.example", f"<{event.pk}@localhost>"),
        ("bo@shop.example", f"<{event.pk}.2@localhost>"),
        ("gone@shop.example", f"<{event.pk}.1@localhost>"),
    ]
    assert "was not taken, for 1 of 3: SMTPRecipientsRefused" in own_log(caplog)
    assert "shop.example" not in own_log(caplog)


def start_relay(settings: Settings) -> subprocess.Popen[bytes]:
    """The relay as a process of its own, on this database and mail server."""
    database = connection.settings_dict
    names = ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.bulk_import.smtp_settings",
        "TEST_DATABASE": json.dumps({name: database[name] for name in names}, default=str),
        "TEST_EMAIL_HOST": settings.EMAIL_HOST,
        "TEST_EMAIL_PORT": str(settings.EMAIL_PORT),
    }
    return subprocess.Popen([sys.executable, "manage.py", "bulk_import_relay"], env=environment, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("killed_at", "taken_then"), [("MAIL", 0), ("DATA", 1)])
def test_a_process_that_is_killed_while_it_sends_leaves_one_mail_or_the_same_one_twice(
    owing_job: ImportJob, settings: Settings, killed_at: str, taken_then: int
) -> None:
    with smtp_server(settings) as office:
        office.waits_at = killed_at
        relay = start_relay(settings)
        assert office.is_waiting.wait(60)
        relay.kill()  # -9
        relay.communicate()
        assert (len(office.taken), owed()) == (taken_then, 1)

        office.waits_at = ""
        let_time_pass(RETRY_AFTER)
        said, _ = start_relay(settings).communicate()
        assert said == b"sent: 0 messages, 1 mails, 0 webhooks, 0 signals\n"
        assert start_relay(settings).communicate()[0] == b""

    assert len(office.taken) == taken_then + 1
    assert {taken["Message-ID"] for taken in office.taken} == {f"<{owing_job.events.get().pk}@localhost>"}
    assert {taken["Date"] for taken in office.taken} == {office.taken[0]["Date"]}
    assert owed() == 0


# --- the failures, attached

SECRET = "=cmd|' /C calc'!A0 \U0001f6f6\r\none\ntwo\rthree"


def reject_all(worker: APIClient, aws: Aws, messages: list[ChunkMessage]) -> None:
    """No row is created, and the worker says why of each. The first time that a chunk of the job is claimed."""
    for message in messages:
        key = f"{message.job_id}/{message.first_index:09}-1.jsonl"
        error = {"field": "name", "code": "invalid", "message": f"{SECRET} is no name."}
        known = {"outcome": "rejected", "status": 400, "errors": [error], "attempts": 1, "at": "2026-01-01"}
        lines = [
            failure_line({"index": index, **known}, json.dumps(product(str(index), name=SECRET)).encode())
            for index in range(message.first_index, message.first_index + message.row_count)
        ]
        aws.s3.put_object(Bucket="bulk-import-failures", Key=key, Body=b"".join(lines))
        problems = [{**problem("name", "invalid", f"{SECRET} is no name.", 0), "count": message.row_count}]
        report = finish(claim(worker, message).epoch, rejected=message.row_count, failures_key=key, problems=problems)
        assert call(worker, "finish", message, report).status_code == 200


@pytest.mark.parametrize(("language", "delimiter"), [("en", ","), ("pt-br", ";")])
def test_the_mail_over_the_wire_has_text_html_and_the_download_attached(
    *,
    worker: APIClient,
    client_of_merchandiser: APIClient,
    messages: list[ChunkMessage],
    aws: Aws,
    settings: Settings,
    language: str,
    delimiter: str,
) -> None:
    ImportJob.objects.update(language=language)
    with smtp_server(settings) as office:
        reject_all(worker, aws, messages)

    (taken,) = office.taken
    text, html = taken.get_body(("plain",)), taken.get_body(("html",))
    (table,) = taken.iter_attachments()
    assert text is not None
    assert html is not None
    assert not [line for line in text.get_content().splitlines() if line.startswith("two")]  # no line by a row's will
    assert "<html" in html.get_content()
    assert (table.get_content_type(), table.get_content_charset()) == ("text/csv", "utf-8")
    assert table.get_filename() == f"products-failures-{messages[0].job_id[:8]}.csv"
    content = table.get_payload(decode=True)
    assert isinstance(content, bytes)
    download: Any = client_of_merchandiser.get(
        f"/products/bulk/{messages[0].job_id}/failures?format=csv", headers={"Accept-Language": language}
    )
    assert content == b"".join(download.streaming_content)
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=delimiter)
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert {row[header.index("name")] for row in rows} == {f"'{SECRET}"}  # no formula


@pytest.mark.parametrize(("limit", "value"), [("MAX_ATTACHMENT_ROWS", 3), ("MAX_ATTACHMENT_BYTES", 300)])
def test_failures_too_many_for_a_mail_are_a_link(
    worker: APIClient,
    messages: list[ChunkMessage],
    aws: Aws,
    *,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://shop.example/"}
    monkeypatch.setattr(f"bulk_import.outbox.mail.{limit}", value)
    reject_all(worker, aws, messages)

    (sent,) = mail.outbox
    assert sent.attachments == []
    assert f"\nhttps://shop.example/products/bulk/{messages[0].job_id}/failures?format=csv\n" in sent.body


def test_failures_that_cannot_be_read_hold_the_mail_up_for_an_hour(
    worker: APIClient,
    messages: list[ChunkMessage],
    aws: Aws,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage: Any = django_settings.STORAGES["bulk_import_failures"]
    monkeypatch.setitem(storage["OPTIONS"], "bucket_name", "gone")
    reject_all(worker, aws, messages)
    assert (mail.outbox, owed()) == ([], 1)

    ImportEvent.objects.update(at=Now() - ATTACH_WITHIN)
    let_time_pass(RETRY_AFTER)
    assert (send_due_mails(), owed()) == (1, 0)
    (sent,) = mail.outbox
    assert sent.subject == "None of the 4 products was created"
    assert sent.attachments == []
    assert "could not be read just now" in sent.body
    assert "calc" not in caplog.text  # no value of a row
    assert "shop.example" not in own_log(caplog)
