"""The email in a real browser, which renders it as mail programs do.

The environment variable SCREENSHOTS can name a folder for screenshots.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.translation import override
from playwright.sync_api import Browser, Page, expect

from bulk_import.models import EventKind, ImportJob, JobStatus
from bulk_import.outbox.mail import Attachment, compose
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.problems import problem
from tests.browser.chromium import chromium, needs_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_chromium

DESKTOP, PHONE = {"width": 760, "height": 600}, {"width": 375, "height": 667}
SCRIPT = "<script>document.title = 'run'</script><img src=//evil.example/x onerror=alert(1)>"
PROBLEMS = [
    {**problem("category", "does_not_exist", "Object with slug=kayaks does not exist.", 17), "count": 212},
    {**problem("price", "invalid", "A valid number is required.", 4), "count": 88},
    {**problem(None, "no_answer", "The endpoint did not respond.", 1403), "count": 26},
]
ATTACHMENT = Attachment("products-failures-6bb4a9f6.csv", b"", 326)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


def make_job(status: JobStatus, *counts: int, **fields: Any) -> ImportJob:
    """A job as `with_counts` gives it: created, rejected, failed, unprocessed of 1,994 rows."""
    job = ImportJob(id="6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55", target="products", status=status, rows=1994, **fields)
    job.created_count, job.rejected_count, job.failed_count, job.unprocessed_count = counts
    job.updated_count = job.unchanged_count = job.deleted_count = 0
    return job


def show(browser: Browser, html: str, viewport: Any, scheme: Any = "light") -> tuple[Page, list[str]]:
    """Render the email. Return the page and the URLs that it requested."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme, device_scale_factor=2)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.set_content(html)
    return page, requested


def take_screenshot(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


PARTIAL = make_job(JobStatus.PARTIALLY_SUCCEEDED, 1668, 300, 26, 0, problems=PROBLEMS)
EMAILS = {
    "mail": (PARTIAL, EventKind.ENDED, ATTACHMENT),
    "mail-all": (make_job(JobStatus.SUCCEEDED, 1994, 0, 0, 0), EventKind.ENDED, None),
    "mail-none": (
        make_job(JobStatus.FAILED, 0, 1994, 0, 0, problems=[{**PROBLEMS[0], "count": 1994}]),
        EventKind.ENDED,
        None,
    ),
    "mail-cancelled": (make_job(JobStatus.CANCELLED, 1200, 3, 0, 791), EventKind.ENDED, None),
    "mail-paused": (
        make_job(JobStatus.PAUSED, 1200, 0, 0, 0, pause_code=PauseCode.FORBIDDEN),
        EventKind.PAUSED,
        None,
    ),
    "mail-dead": (make_job(JobStatus.PROCESSING, 1200, 0, 0, 100), EventKind.DEAD_LETTERED, None),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("language", ["en", "pt-br"])
@pytest.mark.parametrize("name", EMAILS)
def test_an_email_fits_every_screen_and_requests_nothing_from_the_network(
    browser: Browser, name: str, language: str, viewport: dict[str, int], scheme: str
) -> None:
    job, kind, attachment = EMAILS[name]
    with override(language):
        content = compose(job, kind, attachment, to_submitter=True)
    page, requested = show(browser, content.html, viewport, scheme)
    variant = [language, *(["phone"] if viewport is PHONE else []), *(["dark"] if scheme == "dark" else [])]
    take_screenshot(page, "-".join([name, *variant]))

    expect(page.get_by_role("heading", level=1)).to_have_text(content.subject)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
    assert requested == []
    page.close()


def test_markup_in_a_row_is_shown_and_not_executed(browser: Browser) -> None:
    job = make_job(JobStatus.FAILED, 0, 1994, 0, 0, problems=[problem(SCRIPT, "invalid", SCRIPT * 2, 0)])
    content = compose(job, EventKind.ENDED, None, to_submitter=True)
    page, requested = show(browser, content.html, PHONE)

    expect(page.get_by_text(SCRIPT * 2)).to_be_visible()
    assert page.title() == content.subject
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
    assert requested == []
    page.close()
