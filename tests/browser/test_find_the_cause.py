"""Staff find out why an import does not progress, in at most two clicks from the list, on a desktop and on a phone.

The processes are real: gunicorn, the pollers, S3 and SQS. The leases are short, see `staff_settings`.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from playwright.sync_api import expect

from bulk_import.local.processes import stop_process
from demo.stack import LocalStack, local_stack
from tests.browser.chromium import chromium, needs_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = needs_chromium

LIST = "/admin/bulk_import/importjob/"
WIDTHS = {1280: 900, 390: 844}
TIMEOUT_MS = 90_000  # a message whose invocation ended late stays invisible for 60 s

REVOKE = """
from django.contrib.auth import get_user_model
get_user_model().objects.get(username="demo").user_permissions.clear()
"""


@dataclass
class Staff:
    """A running shop, and the pages of a member of staff: one for each width."""

    stack: LocalStack
    pages: list[Page]
    slow_file: Path
    cleanup: ExitStack

    def submit(self, prefix: str, rows: int) -> str:
        """Send an import as the user `demo`, and return the first 8 characters of its ID, which the list shows."""
        body: list[dict[str, Any]] = [
            {"sku": f"{prefix}-{number}", "name": prefix, "price": "1.00", "currency": "EUR", "category": "tents"}
            for number in range(rows)
        ]
        url = f"{self.stack.url}/products/bulk"
        answer = httpx.post(url, json=body, auth=("demo", "demo"), trust_env=False, timeout=30)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])[:8]

    def start_poller(self) -> int:
        """Start a worker, and return its process ID."""
        poller = self.stack.start_poller()
        self.cleanup.callback(stop_process, poller)
        return poller.pid

    def find(self, link: str, *causes: str) -> None:
        """Open the list and follow one link. Then each cause and what to do must be on the page, at both widths."""
        for page in self.pages:
            page.goto(LIST)
            page.locator("#content").get_by_role("link", name=link).click()
            for cause in causes:
                expect(page.locator("#content")).to_contain_text(cause)
            if folder := os.environ.get("SCREENSHOTS"):
                width = page.viewport_size["width"] if page.viewport_size else 0
                page.screenshot(path=Path(folder) / f"cause-{causes[0][:12]}-{width}.png", full_page=True)


@pytest.fixture
def staff(monkeypatch: pytest.MonkeyPatch) -> Iterator[Staff]:
    expect.set_options(timeout=TIMEOUT_MS)
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(local_stack())
        slow_file = stack.folder / "slow"
        stack.environment |= {"DJANGO_SETTINGS_MODULE": "tests.browser.staff_settings", "SLOW_FILE": str(slow_file)}
        cleanup.callback(stop_process, stack.start_monolith())
        browser = cleanup.enter_context(chromium())
        pages = []
        for width, height in WIDTHS.items():
            page = browser.new_page(base_url=stack.url, viewport={"width": width, "height": height}, locale="en-GB")
            page.goto("/admin/")
            page.get_by_label("Username").fill("admin")
            page.get_by_label("Password").fill("admin")
            page.get_by_role("button", name="Log in").click()
            pages.append(page)
        yield Staff(stack, pages, slow_file, cleanup)


def test_staff_find_the_cause_of_each_trouble_from_the_list(staff: Staff) -> None:
    """One test for all, because the processes take longer to start than everything else."""
    sqs = boto3.client(
        "sqs", "us-east-1", endpoint_url=staff.stack.aws_url, aws_access_key_id="x", aws_secret_access_key="x"
    )

    # A chunk is dead: SQS gave up its message.
    dead = staff.submit("dead", 10)
    (message,) = sqs.receive_message(QueueUrl=staff.stack.queue_url)["Messages"]
    sqs.delete_message(QueueUrl=staff.stack.queue_url, ReceiptHandle=message["ReceiptHandle"])
    sqs.send_message(QueueUrl=staff.stack.dead_letter_url, MessageBody=message["Body"])
    staff.cleanup.callback(stop_process, staff.stack.start_dead_letter_poller())
    poller = staff.start_poller()
    staff.find(dead, "Every attempt to import this part of the file failed.", "dead", "Run dead chunks again")
    staff.find("Imports now", "1 chunk is dead.", f"products {dead}")

    # The endpoint is slow.
    staff.slow_file.touch()
    slow = staff.submit("slow", 20)
    staff.find("Imports now", "The endpoint is slow: a call takes 1.", "Find out why in the log and the database")

    # A worker is killed. No other one runs, so its chunk stays where it is.
    os.killpg(poller, signal.SIGKILL)
    staff.find(slow, "A worker was lost. Its rows resume at", "worker lost, resumes at", "log of the worker")
    staff.find("Imports now", "lost.", "worker lost, resumes at", f"products {slow}")

    # The submitter loses the permission.
    staff.slow_file.unlink()
    forbidden = staff.submit("forbidden", 5)
    staff.stack.run("manage.py", "shell", "--no-imports", "-c", REVOKE)
    staff.start_poller()
    staff.find(
        forbidden, "the submitter no longer has permission to create these rows", "Give the sender the permission"
    )
    staff.find("Imports now", "the submitter no longer has permission", f"products {forbidden}")
