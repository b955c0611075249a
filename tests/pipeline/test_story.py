"""Tests a complete import with HTTP, S3, SQS and SMTP: rejected rows, an email, a correction and a second email."""

from __future__ import annotations

import csv
import email
import email.policy
import io
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiosmtpd.controller import Controller

from bulk_import.local.processes import free_port, stop_process
from demo.stack import local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage

    from demo.stack import LocalStack

pytestmark = pytest.mark.timeout(180)

DEADLINE_SECONDS = 90
CATALOGUE = """\
sku;name;price;currency;category
POT-1;Pot;39.90;EUR;cookware
POT-2;Large pot;49.90;EUR;cookware
POT-3;=Kayak pot;59.90;EUR;kayaks
POT-4;Small pot;free;EUR;cookware
POT-5;Kayak cup;9.90;EUR;kayaks
"""


class Mailbox:
    """The emails that a mail server has accepted, in order."""

    def __init__(self) -> None:
        self.emails: list[EmailMessage] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd requires this name
        mail: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.emails.append(mail)
        return "250 OK"

    def expect(self, count: int) -> EmailMessage:
        """Wait until there are `count` emails, and return the last one."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while len(self.emails) < count:
            assert time.monotonic() < give_up_at, f"{len(self.emails)} emails"
            time.sleep(0.1)
        assert len(self.emails) == count
        return self.emails[-1]


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    """A mailbox, and the port of its SMTP server."""
    mailbox = Mailbox()
    port = free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    yield mailbox, port
    server.stop()


@pytest.fixture
def shop(mailbox: tuple[Mailbox, int]) -> Iterator[LocalStack]:
    with ExitStack() as parts:
        stack = parts.enter_context(local_stack())
        settings = {"DJANGO_SETTINGS_MODULE": "tests.pipeline.smtp_settings", "SMTP_PORT": str(mailbox[1])}
        stack.environment |= settings
        parts.callback(stop_process, stack.start_monolith())
        parts.callback(stop_process, stack.start_poller())
        yield stack


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def test_rejected_rows_are_reported_corrected_and_created(shop: LocalStack, mailbox: tuple[Mailbox, int]) -> None:
    box, _port = mailbox
    as_csv = {"Content-Type": "text/csv"}
    with httpx.Client(base_url=shop.url, auth=("demo", "demo"), timeout=60, trust_env=False) as client:
        answer = client.post("/products/bulk?on_invalid=skip", content=CATALOGUE, headers=as_csv)
        assert answer.status_code == httpx.codes.ACCEPTED, answer.text
        job = answer.headers["Location"]

        email_ = box.expect(1)
        assert "2 of 5 products" in email_["Subject"]
        assert "category: There is no category “kayaks”. (2 rows, first in line 4)" in text_of(email_)
        assert "price: This is not a number. Write it like this: 12.50. (1 row, in line 5)" in text_of(email_)
        (attached,) = email_.iter_attachments()
        content: Any = attached.get_payload(decode=True)
        table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
        assert [(line["index"], line["sku"]) for line in table] == [("2", "POT-3"), ("3", "POT-4"), ("4", "POT-5")]
        assert table[0]["name"] == "'=Kayak pot"  # a spreadsheet program must not run it as a formula

        rows = client.get(f"{job}/failures?format=csv&part=rows").content.decode("utf-8-sig")
        corrected = rows.replace("kayaks", "cookware").replace("free", "29.90")
        job_id = client.get(job).json()["id"]
        again = client.post(f"/products/bulk?corrects={job_id}", content=corrected.encode(), headers=as_csv)
        assert again.status_code == httpx.codes.ACCEPTED, again.text

        email_ = box.expect(2)
        assert "3 products" in email_["Subject"]
        assert list(email_.iter_attachments()) == []
        correction = client.get(again.headers["Location"]).json()
        assert (correction["status"], correction["corrects"]) == ("succeeded", job_id)
        shown = client.get("/products/").json()["results"]
        names = {product["sku"]: product["name"] for product in shown}
        assert names["POT-3"] == "=Kayak pot"
        assert {f"POT-{number}" for number in range(1, 6)} <= names.keys()
