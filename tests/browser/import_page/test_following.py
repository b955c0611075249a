"""Tests of following an import in a real browser: reload, lost connection, hidden tab and ended session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    Shop,
    badge,
    rows,
    set_visibility,
    start_import,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

pytestmark = needs_chromium


def test_a_reload_during_an_import_shows_the_import_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        job = start_import(shop, page, rows(prefix, 120))
        page.reload()
        expect(page.get_by_role("heading", name="Importing 120 rows")).to_be_visible()
        page.get_by_role("button", name="Import another file").click()
        page.locator(f"#history-jobs a[href='?job={job}']").click()
        expect(page.get_by_role("heading", name="Importing 120 rows")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Choose a file")).to_be_visible()
        page.go_forward()

    expect(badge(page)).to_have_text("done")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_text("All 120 products were created.").first).to_be_visible()


def test_an_offline_page_says_so_and_updates_when_it_is_online_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 5))
        expect(badge(page)).to_have_text("waiting")
        page.context.set_offline(True)
        expect(page.get_by_text("You are offline. Your import continues.")).to_be_visible()
    page.context.set_offline(False)

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.get_by_text("You are offline. Your import continues.")).to_be_hidden()


def test_the_page_polls_an_unavailable_server_less_often(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 5))
        page.clock.install()
        page.route("**/products/bulk/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
        page.reload()
        expect(page.get_by_text("The server did not respond. Your import is not affected.")).to_be_visible()
        waits = []
        for _ in range(6):
            with page.expect_request("**/products/bulk/*"):
                waits.append(run_until_request(page))
        page.unroute_all()
    for _ in range(60):
        page.clock.run_for(1_000)
    page.clock.resume()

    assert waits[0] < 10
    assert waits[-1] >= 20
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()


def run_until_request(page: Page) -> int:
    """Advance the page's clock until the page sends a request; return the number of seconds."""
    requests: list[Request] = []
    page.once("request", lambda request: requests.append(request))  # noqa: PLW0108 - Playwright takes no built-in function
    seconds = 0
    while not requests and seconds < 60:
        page.clock.run_for(1000)
        seconds += 1
    return seconds


def test_a_hidden_tab_does_not_poll(shop: Shop, page: Page, prefix: str) -> None:
    page.clock.install()
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 5))
        page.clock.run_for(5_000)
        set_visibility(page, hidden=True)
        page.wait_for_load_state("networkidle")
        requests: list[Request] = []
        page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - as above
        page.clock.run_for(300_000)
        assert requests == []
        with page.expect_request("**/products/bulk/*"):
            set_visibility(page, hidden=False)


def test_the_page_asks_every_three_seconds_and_says_soon_that_the_shop_does_not_answer(
    shop: Shop, page: Page, prefix: str
) -> None:
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 5))
        page.clock.install()
        answer = page.request.get(f"/products/bulk/{page.url.partition('?job=')[2]}")
        page.route(
            "**/products/bulk/*",
            lambda route: route.fulfill(response=answer, headers={**answer.headers, "retry-after": "30"}),
        )
        page.reload()
        expect(page.locator("#updated")).to_contain_text("Updated at")
        for _ in range(3):
            with page.expect_request("**/products/bulk/*"):
                assert run_until_request(page) < 10  # the clock also runs while an answer is on its way
        page.unroute_all()
        page.route("**/products/bulk/*", lambda _route: None)  # the request hangs
        page.clock.run_for(8_000)
        expect(page.get_by_text("The shop does not answer.")).to_be_visible()
        page.unroute_all()


def test_an_import_that_is_paused_because_nearly_every_row_failed_can_be_resumed(
    shop: Shop, page: Page, prefix: str
) -> None:
    with shop.poller_stopped():
        job = start_import(shop, page, rows(prefix, 5))
        pause = f"filter(pk='{job}').update(status='paused', pause_code='most_rows_failed', paused_at=timezone.now())"
        code = "from django.utils import timezone; from bulk_import.models import ImportJob; "
        shop.stack.run("manage.py", "shell", "--verbosity=0", "--command", f"{code}ImportJob.objects.{pause}")
        set_visibility(page, hidden=False)  # makes the page poll now
        expect(page.get_by_text("is paused because nearly every row failed").first).to_be_visible()
        resume = page.get_by_role("button", name="Resume the import")
        resume.click()
        expect(resume).to_be_hidden()

    expect(badge(page)).to_have_text("done")


MEASURE = """async (module) => {
    const { speedometer } = await import(module.replace("main.js", "progress.js"));
    const measure = speedometer();
    const now = Date.now();
    const job = (status, done) => ({ rows: 1000, counts: { pending: 1000 - done }, status, eta_seconds: null });
    const left = (seconds, ...state) => {
        Date.now = () => now + 1000 * seconds;
        return measure(job(...state)).secondsLeft;
    };
    left(0, "queued", 0);
    left(600, "processing", 0);
    return [left(610, "processing", 100), left(612, "processing", 100), left(620, "processing", 200)];
}"""


def test_the_remaining_time_does_not_count_the_wait_in_the_queue_and_becomes_shorter(page: Page) -> None:
    module = page.locator("script[type=module]").get_attribute("src")
    first, later, last = page.evaluate(MEASURE, module)

    assert (first, last) == (90, 80)
    assert later == pytest.approx(900 / (100 / 12) - 2)
