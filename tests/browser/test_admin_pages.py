"""The admin pages of imports, in a real browser."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connections
from django.utils import timezone
from playwright.sync_api import Browser, Page, Request, Route, expect

from bulk_import.models import ChunkStatus, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import_wire.calls import Calls
from bulk_import_wire.contract import PauseCode
from bulk_import_wire.problems import problem
from tests.browser.chromium import chromium, needs_chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import ConsoleMessage
    from pytest_django.live_server_helper import LiveServer


pytestmark = needs_chromium

TIMEOUT_MS = 60_000  # how long a page may take on a busy machine

CLICK_TWICE = "button => { button.click(); setTimeout(() => { button.click(); console.log('clicked twice'); }, 100); }"


@pytest.fixture(scope="module")
def browser(django_db_setup: None) -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as monkeypatch, chromium() as browser:
        # Playwright's sync API runs an event loop in this thread, where Django would refuse to touch the database.
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        expect.set_options(timeout=TIMEOUT_MS)
        yield browser
        connections.close_all()  # Django closes only the connections outside the event loop


@pytest.fixture
def page(browser: Browser, live_server: LiveServer) -> Iterator[Page]:
    """A browser page. The test fails if the page logs an error, or sends a request to another server."""
    complaints: list[str] = []

    def hear(logged: ConsoleMessage) -> None:
        is_favicon = logged.location["url"].endswith("/favicon.ico")  # a site has its own, or none
        if logged.type in {"error", "warning"} and not is_favicon:
            complaints.append(logged.text)

    def see(request: Request) -> None:
        if not request.url.startswith((f"{live_server.url}/", "data:")):
            complaints.append(f"asked {request.url}")

    opened = browser.new_page(base_url=live_server.url, viewport={"width": 1366, "height": 900}, locale="en-GB")
    opened.on("console", hear)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", see)
    yield opened
    opened.close()
    assert complaints == []


def take_screenshot(page: Page, name: str) -> None:
    """Save a screenshot in the folder that the environment variable SCREENSHOTS names, if it is set."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def make_staff(name: str) -> Any:
    user = get_user_model().objects.create_user(name, f"{name}@shop.example", "secret", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_importjob"))
    return user


def make_job(status: JobStatus, *chunks: tuple[int, int, int], **fields: Any) -> ImportJob:
    """Create a job with one chunk of 100 rows for each tuple of (created, rejected, failed)."""
    job: ImportJob = ImportJob.objects.create(target="products", status=status, rows=100 * len(chunks), **fields)
    for number, (created, rejected, failed) in enumerate(chunks):
        ImportChunk.objects.create(
            job=job,
            number=number,
            status=ChunkStatus.DONE if created + rejected + failed == 100 else ChunkStatus.PROCESSING,
            first_index=100 * number,
            row_count=100,
            first_byte=0,
            byte_count=1,
            created=created,
            rejected=rejected,
            failed=failed,
            epoch=1,
        )
    return job


def assert_accessible(page: Page, *selectors: str) -> None:
    """Axe finds no violation in these parts of the page, which are ours. The rest of the page is Django's."""
    for selector in selectors:
        page.locator(selector).wait_for()
    found = Axe().run(page, context={"include": [[selector] for selector in selectors]})
    assert found.violations_count == 0, found.generate_report()


def short_id(job: ImportJob) -> str:
    return str(job.pk)[:8]


def log_in(page: Page, name: str) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()


def test_staff_sign_in_and_open_an_import(page: Page) -> None:
    """Staff go from the sign-in page to the list, and from there to a job with its chunks and problems."""
    supervisor = make_staff("supervisor")
    now = timezone.now()
    make_job(JobStatus.PENDING, (0, 0, 0), submitter=supervisor)
    make_job(
        JobStatus.SUCCEEDED,
        *[(100, 0, 0)] * 5,
        submitter=supervisor,
        started_at=now - timedelta(seconds=20),
        finished_at=now,
    )
    make_job(JobStatus.PAUSED, (40, 2, 0), (0, 0, 0))
    job = make_job(
        JobStatus.PROCESSING,
        (97, 3, 0),
        (88, 0, 12),
        (41, 0, 0),
        submitter=supervisor,
        started_at=now - timedelta(seconds=7),
        problems=[
            {**problem(None, "unavailable", "The endpoint did not respond.", 117), "count": 12},
            {**problem("category", "does_not_exist", "Object with slug=boats does not exist.", 17), "count": 2},
            problem("price", "invalid", "A valid number is required", 4),
            problem(None, "odd", "<script>console.error('run')</script>", 4),
        ],
    )

    log_in(page, "supervisor")
    take_screenshot(page, "1-start")
    page.get_by_role("link", name="Import jobs").first.click()
    take_screenshot(page, "2-list")

    row = page.get_by_role("row").filter(has_text=short_id(job))
    expect(row).to_contain_text("processing", ignore_case=True)
    cells = [cell.strip() for cell in row.locator("td").all_inner_texts()]
    assert cells[1].startswith("241 / 300 · ")
    assert cells[2:5] == ["supervisor", "226", "15"]

    assert page.locator(".results").evaluate("table => table.scrollWidth <= table.clientWidth"), "columns are cut off"
    assert_accessible(page, "#bi-dashboard", "#result_list")
    expect(row.get_by_role("progressbar", name="241 of 300 rows finished")).to_be_visible()

    row.get_by_role("link").click()
    take_screenshot(page, "3-job")
    assert_accessible(page, "#bi-job")
    expect(page.get_by_role("progressbar", name="241 of 300 rows finished")).to_be_visible()
    expect(page.get_by_role("meter", name="Rows with this problem").first).to_have_attribute("value", "12")

    expect(page.get_by_text("category: Object with slug=boats does not exist.")).to_be_visible()
    expect(page.get_by_text("<script>console.error('run')</script>")).to_be_visible()
    chunks = page.locator("tr.bi-chunk")
    expect(chunks).to_have_count(3)
    expect(chunks.filter(has_text="88")).to_have_count(1)
    expect(page.get_by_role("button", name="Save")).to_have_count(0)
    expect(page.get_by_role("link", name="Delete")).to_have_count(0)


def test_staff_filter_and_search_the_list(page: Page) -> None:
    make_staff("supervisor")
    paused, ended = make_job(JobStatus.PAUSED, (40, 2, 0)), make_job(JobStatus.SUCCEEDED, (100, 0, 0))
    log_in(page, "supervisor")

    page.goto("/admin/bulk_import/importjob/")
    page.locator("#changelist-filter").get_by_role("link", name="paused").click()
    expect(page.get_by_role("link", name=short_id(paused))).to_be_visible()
    expect(page.get_by_role("link", name=short_id(ended))).to_have_count(0)

    page.goto("/admin/bulk_import/importjob/")
    page.locator("#searchbar").fill(str(ended.pk)[:13])
    page.locator("#searchbar").press("Enter")
    take_screenshot(page, "4-search")
    expect(page.get_by_role("link", name=short_id(ended))).to_be_visible()
    expect(page.get_by_role("link", name=short_id(paused))).to_have_count(0)


def test_a_job_is_accessible_on_a_phone_in_dark_mode(page: Page) -> None:
    make_staff("supervisor")
    job = make_job(
        JobStatus.PROCESSING, (97, 3, 0), (41, 0, 0), problems=[problem("price", "invalid", "No number.", 4)]
    )
    ImportedRow.objects.create(job=job, index=0, body_sha256=b"", object_id="500")
    page.set_viewport_size({"width": 390, "height": 800})
    page.emulate_media(color_scheme="dark")
    log_in(page, "supervisor")

    page.goto(f"/admin/bulk_import/importjob/{job.pk}/change/")
    take_screenshot(page, "5-phone")
    expect(page.get_by_text("price: No number.")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
    assert_accessible(page, "#bi-job")


def test_staff_pause_and_resume_an_import(page: Page) -> None:
    """Each action asks for confirmation. A double click on the confirmation has one effect."""
    operator = make_staff("operator")
    operator.user_permissions.add(Permission.objects.get(codename="change_importjob"))
    job = make_job(JobStatus.PROCESSING, (41, 0, 0), submitter=operator, started_at=timezone.now())
    log_in(page, "operator")

    page.goto(f"/admin/bulk_import/importjob/{job.pk}/change/")
    page.get_by_role("link", name="Pause").click()
    take_screenshot(page, "6-confirm")
    expect(page.get_by_text("No further row is created until staff resume the import.")).to_be_visible()
    sent: list[str] = []
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        """The second click comes before the response to the first one."""
        if held:
            route.continue_()
        held.append(route)

    page.on("request", lambda request: sent.append(request.method))
    page.route("**/do/pause/", hold_the_first)
    with page.expect_console_message(lambda message: message.text == "clicked twice"):
        page.get_by_role("button", name="Pause").evaluate(CLICK_TWICE)
    held[0].continue_()

    expect(page.get_by_text("The import was paused.")).to_be_visible()
    assert sent.count("POST") == 1
    expect(page.locator(".bi-summary .bi-badge")).to_have_text("paused")
    expect(page.locator(".bi-event-paused")).to_have_count(1)
    expect(page.locator(".bi-event-paused")).to_contain_text("a member of staff paused it · operator")
    take_screenshot(page, "7-paused")

    page.get_by_role("link", name="Resume").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".bi-summary .bi-badge")).to_have_text("processing")


def test_the_list_refreshes_itself_while_an_import_is_open(page: Page) -> None:
    make_staff("supervisor")
    job = make_job(JobStatus.PROCESSING, (41, 0, 0), started_at=timezone.now())
    log_in(page, "supervisor")
    page.goto("/admin/bulk_import/importjob/")
    page.evaluate("window.isTheSamePage = true")
    row = page.get_by_role("row").filter(has_text=short_id(job))
    expect(row).to_contain_text("41 / 100")

    job.chunks.update(created=100, status=ChunkStatus.DONE)
    ImportJob.objects.filter(pk=job.pk).update(status=JobStatus.SUCCEEDED, finished_at=timezone.now())

    expect(row).to_contain_text("100 / 100")
    expect(row).to_contain_text("succeeded")
    expect(page.locator(".bi-figure").first).to_contain_text("0 open imports")
    assert page.evaluate("window.isTheSamePage")


WIDTHS = [1280, 390]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_is_live_even_if_it_was_empty_and_says_when_it_is_not(page: Page, width: int) -> None:
    """A new job appears. The page says that the server cannot be reached, and that the session has ended."""
    make_staff("supervisor")
    page.set_viewport_size({"width": width, "height": 800})
    log_in(page, "supervisor")
    page.goto("/admin/bulk_import/importjob/")

    job = make_job(JobStatus.PROCESSING, (41, 0, 0))

    expect(page.get_by_role("link", name=short_id(job))).to_be_visible()
    note = page.locator("#bi-connection")
    expect(note).to_be_hidden()
    page.evaluate("() => { window.browserFetch = fetch; window.fetch = () => Promise.reject(new TypeError()); }")
    expect(note).to_contain_text("The server cannot be reached.")
    page.evaluate("() => { window.fetch = async () => new Response('', { status: 403 }); }")
    expect(note).to_contain_text("You may no longer view imports.")
    page.evaluate("() => { window.fetch = window.browserFetch; }")
    expect(note).to_be_hidden()
    page.context.clear_cookies()
    expect(note).to_contain_text("You were signed out.")
    take_screenshot(page, f"8-signed-out-{width}")


@pytest.mark.parametrize("width", WIDTHS)
def test_twenty_imports_are_retried_in_three_clicks(page: Page, width: int) -> None:
    operator = make_staff("operator")
    operator.user_permissions.add(Permission.objects.get(codename="change_importjob"))
    name = "spring-catalogue-of-the-northern-branch"
    submitter = get_user_model().objects.create_user(name, f"{name}@shop.example", "secret")
    jobs = [
        make_job(
            JobStatus.PARTIALLY_SUCCEEDED,
            (90, 2, 8),
            submitter=submitter,
            finished_at=timezone.now(),
            problems=[{**problem(None, "unavailable", "The endpoint did not respond.", 117), "count": 8}],
        )
        for _number in range(20)
    ]
    wide = make_job(
        JobStatus.PROCESSING,
        (97, 3, 0),
        submitter=submitter,
        started_at=timezone.now(),
        file_name=f"{'catalogue' * 20}.csv",
        mode="upsert",
    )
    an_hour_ago = timezone.now() - timedelta(minutes=59)
    ImportJob.objects.filter(pk=wide.pk).update(rows=2_500_000, created_at=an_hour_ago, target="warehouse-positions")
    wide.chunks.update(row_count=2_500_000, created=1_234_567)
    page.set_viewport_size({"width": width, "height": 800})
    log_in(page, "operator")
    for language in ("pt-BR", "en"):
        page.set_extra_http_headers({"Accept-Language": language})
        page.goto("/admin/bulk_import/importjob/")
        take_screenshot(page, f"9-list-{language}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
        is_whole = page.locator(".results").evaluate("table => table.scrollWidth <= table.clientWidth")
        assert is_whole, "columns are cut off"
    assert_accessible(page, "#bi-dashboard", ".bi-actions")

    page.locator("#action-toggle").click()
    page.get_by_role("button", name="Retry").click()
    take_screenshot(page, f"10-confirm-bulk-{width}")
    page.get_by_role("button", name="Retry (20)").click()

    expect(page.get_by_text("Retry: 20 imports changed.")).to_be_visible()
    assert all(job.events.get().kind == "retried" for job in jobs)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_cause_of_a_dead_chunk_and_a_lost_worker_is_two_clicks_from_the_list(page: Page, width: int) -> None:
    make_staff("supervisor")
    now = timezone.now()
    job = make_job(JobStatus.PROCESSING, *[(100, 0, 0)] * 60, (0, 0, 0), (10, 0, 0), started_at=now)
    job.chunks.filter(number=60).update(status=ChunkStatus.DEAD, unprocessed=100, failed_deliveries=5)
    job.chunks.filter(number=61).update(lease_expires_at=now - timedelta(seconds=1))
    ImportedRow.objects.create(job=job, index=17, body_sha256=b"", object_id="500")
    page.set_viewport_size({"width": width, "height": 800})
    log_in(page, "supervisor")
    page.goto("/admin/bulk_import/importjob/")

    page.get_by_role("link", name=short_id(job)).click()

    take_screenshot(page, f"11-problems-{width}")
    chunks = page.locator("tr.bi-chunk")
    expect(chunks.nth(0)).to_contain_text("dead")
    expect(chunks.nth(1)).to_contain_text("worker lost, resumes at")
    expect(page.locator(".bi-message")).to_contain_text("A worker was lost.")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"
    assert_accessible(page, "#bi-job")
    page.get_by_label("Show the row with the index").fill("17")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".bi-row")).to_contain_text("created")
    take_screenshot(page, f"12-row-{width}")


@pytest.mark.parametrize("width", WIDTHS)
def test_imports_now_is_live_and_names_what_needs_attention(page: Page, width: int) -> None:
    """The page is one click from the list. A new alert appears without a reload."""
    make_staff("supervisor")
    ana = get_user_model().objects.create_user("ana", "ana@shop.example", "secret")
    now = timezone.now()
    job = make_job(JobStatus.PROCESSING, *[(100, 0, 0)] * 30, (41, 0, 0), (12, 0, 0), started_at=now, submitter=ana)
    calls = Calls(in_flight=4, oldest_ms=900, total_ms=90_000, answers={"created": 1200, "400": 14, "503": 2})
    job.chunks.filter(number__lt=30).update(calls=calls.to_dict())
    for chunk in job.chunks.filter(number__lt=30):
        ended_at = now - timedelta(minutes=chunk.number * 7 % 60)
        ImportChunk.objects.filter(pk=chunk.pk).update(ended_at=ended_at)
    claimed = job.chunks.filter(number__gte=30)
    worker = "5f1c8b0e-7c1f-4f0e-9f0a-1f2e3d4c5b6a"
    claimed.update(heartbeat_at=now, lease_expires_at=now + timedelta(hours=1), worker=worker, calls=calls.to_dict())
    make_job(JobStatus.PENDING, (0, 0, 0), (0, 0, 0), submitter=ana)
    ImportChunk.objects.filter(job__status=JobStatus.PENDING).update(status=ChunkStatus.PENDING)
    page.set_viewport_size({"width": width, "height": 800})
    log_in(page, "supervisor")
    page.goto("/admin/bulk_import/importjob/")
    page.emulate_media(color_scheme="dark" if width == min(WIDTHS) else "light")
    page.get_by_role("link", name="Imports now").last.click()
    expect(page.get_by_text("Nothing needs your attention.")).to_be_visible()
    expect(page.locator("#bi-waiting")).to_contain_text("ana")
    take_screenshot(page, f"13-now-{width}")
    assert_accessible(page, ".bi-now")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "wider than the screen"

    claimed.filter(number=31).update(heartbeat_at=now - timedelta(seconds=60))
    job.chunks.filter(number=3).update(status=ChunkStatus.DEAD)
    make_job(JobStatus.PAUSED, (40, 2, 0), pause_code=PauseCode.FORBIDDEN, paused_at=now, paused_until=now)

    expect(page.locator("#bi-alerts")).to_contain_text("1 worker is lost.")
    expect(page.locator("#bi-workers tr.bi-chunk").first).to_contain_text("worker lost, resumes at")
    expect(page.locator("#bi-paused")).to_contain_text("Give the sender the permission")
    take_screenshot(page, f"14-now-trouble-{width}")
    assert_accessible(page, ".bi-now")
    page.context.clear_cookies()
    expect(page.locator("#bi-connection")).to_contain_text("You were signed out.")
