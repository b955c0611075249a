"""The failures are attached to an email as long as they are few."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db.models.functions import Now

from bulk_import.models import ImportEvent, ImportJob
from bulk_import.outbox import notifications
from bulk_import.outbox.mail import Attachment, attach_failures
from bulk_import.outbox.notifications import ATTACH_WITHIN, send_due_emails
from bulk_import_wire.lines import failure_line
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import Aws, call, claim, finish, product
from tests.bulk_import.outbox.deliveries import let_time_pass, pending_emails
from tests.bulk_import.outbox.smtp_server import smtp_server

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "=cmd|' /C calc'!A0 \U0001f6f6\r\none\ntwo\rthree"


def reject_all(worker: APIClient, aws: Aws, messages: list[ChunkMessage]) -> None:
    """Report every row as rejected, with its reason. Each chunk is claimed for the first time."""
    for message in messages:
        key = f"{message.job_id}/{message.first_index:09}-1.jsonl"
        error = {"field": "name", "code": "invalid", "message": f"{SECRET} is not a name."}
        known = {"outcome": "rejected", "status": 400, "errors": [error], "attempts": 1, "at": "2026-01-01"}
        lines = [
            failure_line({"index": index, **known}, json.dumps(product(str(index), name=SECRET)).encode())
            for index in range(message.first_index, message.first_index + message.row_count)
        ]
        aws.s3.put_object(Bucket="bulk-import-failures", Key=key, Body=b"".join(lines))
        problems = [{**problem("name", "invalid", f"{SECRET} is not a name.", 0), "count": message.row_count}]
        report = finish(claim(worker, message).epoch, rejected=message.row_count, failures_key=key, problems=problems)
        assert call(worker, "finish", message, report).status_code == 200


@pytest.mark.parametrize(("language", "delimiter"), [("en", ","), ("pt-br", ";")])
def test_the_email_has_text_html_and_the_download_attached(
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

    (received,) = office.accepted
    text, html = received.get_body(("plain",)), received.get_body(("html",))
    (table,) = received.iter_attachments()
    assert text is not None
    assert html is not None
    assert not [line for line in text.get_content().splitlines() if line.startswith("two")]  # a value adds no line
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
    assert {row[header.index("name")] for row in rows} == {f"'{SECRET}"}  # not a formula


@pytest.mark.parametrize(("limit", "value"), [("MAX_ATTACHMENT_ROWS", 3), ("MAX_ATTACHMENT_BYTES", 300)])
def test_too_many_failures_are_a_link(
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


def test_an_email_waits_an_hour_for_failures_that_cannot_be_read(
    worker: APIClient,
    messages: list[ChunkMessage],
    aws: Aws,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
) -> None:
    storage = settings.STORAGES["bulk_import_failures"]
    without_bucket = {**storage, "OPTIONS": {**storage["OPTIONS"], "bucket_name": "gone"}}
    settings.STORAGES = {**settings.STORAGES, "bulk_import_failures": without_bucket}
    reject_all(worker, aws, messages)
    assert (mail.outbox, pending_emails()) == ([], 1)

    ImportEvent.objects.update(at=Now() - ATTACH_WITHIN)
    let_time_pass()
    assert (send_due_emails(), pending_emails()) == (1, 0)
    (sent,) = mail.outbox
    assert sent.subject == "None of the 4 products was created"
    assert sent.attachments == []
    assert "they could not be read" in sent.body
    assert "calc" not in caplog.text  # no value of a row
    assert "shop.example" not in caplog.text


def test_the_failures_are_read_once_for_all_recipients(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImportJob.objects.update(notify="ana@shop.example,bo@shop.example")
    read: list[ImportJob] = []

    def attach_and_count(job: ImportJob) -> Attachment | None:
        read.append(job)
        return attach_failures(job)

    monkeypatch.setattr(notifications, "attach_failures", attach_and_count)
    reject_all(worker, aws, messages)

    assert [len(sent.attachments) for sent in mail.outbox] == [1, 1, 1]
    assert len(read) == 1
