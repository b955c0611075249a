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


MEASURE = """async ([module, polls]) => {
    const { speedometer } = await import(module.replace("main.js", "progress.js"));
    const measure = speedometer();
    const start = Date.now();
    return polls.map(([seconds, status, rows, done]) => {
        Date.now = () => start + 1000 * seconds;
        return measure({ rows, counts: { pending: rows - done }, status, eta_seconds: null }).secondsLeft;
    });
}"""
Poll = tuple[float, str, int, int]


def seconds_left(page: Page, polls: list[Poll]) -> list[float | None]:
    """Return the remaining time that the page shows after each answer: seconds, status, rows, finished rows."""
    module = page.locator("script[type=module]").get_attribute("src")
    found: list[float | None] = page.evaluate(MEASURE, [module, polls])
    return found


def test_the_remaining_time_does_not_count_the_wait_in_the_queue_and_becomes_shorter(page: Page) -> None:
    done = [(0, "queued", 0), (600, "processing", 0), (610, "processing", 100), (612, "processing", 100)]
    polls: list[Poll] = [(seconds, status, 1000, rows) for seconds, status, rows in [*done, (620, "processing", 200)]]

    assert seconds_left(page, polls)[-3:] == [90, 88, 80]


def polls_of(speeds: list[tuple[float, float]], chunks: int, poll_seconds: float) -> list[Poll]:
    """Simulate an import, and return the answers that a page gets.

    `speeds` are the seconds of each phase and the rows per second in it; 0 is a pause. Each of the `chunks` that are
    processed at the same time reports its finished rows every two seconds.
    """
    step = 0.1
    finished = [0.0]
    for seconds, speed in speeds:
        finished += [finished[-1] + speed * step * number for number in range(1, round(seconds / step) + 1)]
    total, end = int(finished[-1]), (len(finished) - 1) * step

    def reported(seconds: float) -> int:
        """Each chunk has a part of the finished rows, and its last heartbeat was up to two seconds ago."""
        beats = [(seconds - chunk * 2 / chunks) // 2 * 2 + chunk * 2 / chunks for chunk in range(chunks)]
        return int(sum(finished[max(0, round(beat / step))] for beat in beats) / chunks)

    def is_paused(seconds: float) -> bool:
        ends = 0.0
        for length, speed in speeds:
            ends += length
            if seconds < ends:
                return speed == 0
        return False

    times = [poll_seconds * number + 0.37 for number in range(int(end / poll_seconds))]
    return [(time, "paused" if is_paused(time) else "processing", total, reported(time)) for time in times]


SPEEDS: dict[str, tuple[list[tuple[float, float]], int]] = {
    "constant": ([(120, 200)], 4),
    "constant in one chunk": ([(120, 30)], 1),
    "slow": ([(300, 0.7)], 1),
    "a slow start": ([(3, 40), (90, 200)], 4),
    "half as fast while another import runs": ([(60, 200), (60, 100), (60, 200)], 4),
    "a shop that slows down": ([(40, 200), (80, 60)], 2),
    "a pause": ([(40, 150), (45, 0), (60, 150)], 4),
}


@pytest.mark.parametrize("name", SPEEDS)
def test_ten_seconds_after_each_change_the_remaining_time_is_right_within_a_quarter(page: Page, name: str) -> None:
    """What will change later cannot be known, so the true time is that at the present speed."""
    speeds, chunks = SPEEDS[name]
    polls = polls_of(speeds, chunks, poll_seconds=2)

    judged = 0
    for (seconds, status, total, done), shown in zip(polls, seconds_left(page, polls), strict=True):
        starts = 0.0
        for length, speed in speeds:
            if starts + 12 <= seconds < starts + length:  # ten seconds, and the wait for the next answer
                finished = sum_until(speeds, seconds)
                left = (total - finished) / speed if speed else None
                if left and left > 8:
                    assert status == "processing"
                    assert shown == pytest.approx(left, rel=0.25), (seconds, done)
                    judged += 1
            starts += length
    assert judged > 15


def sum_until(speeds: list[tuple[float, float]], seconds: float) -> float:
    """Return the number of rows that are finished after so many seconds."""
    finished = 0.0
    for length, speed in speeds:
        finished += speed * min(length, max(seconds, 0))
        seconds -= length
    return finished


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.2, "46 seconds"), (91, "1.5 minutes"), (125, "2 minutes"), (1900, "32 minutes")]
)
def test_a_remaining_time_is_not_rounded_by_more_than_a_fifth(page: Page, seconds: float, text: str) -> None:
    module = page.locator("script[type=module]").get_attribute("src")
    show = 'async ([module, seconds]) => (await import(module.replace("main.js", "texts.js"))).duration(seconds)'

    assert page.evaluate(show, [module, seconds]) == text


def test_what_staff_do_is_shown_at_once(shop: Shop, page: Page, prefix: str) -> None:
    """A pause and a cancel by staff, and the end of the pause."""
    with shop.poller_stopped():
        job = start_import(shop, page, rows(prefix, 5))

        def act(statement: str) -> None:
            code = (
                "from django.contrib.auth.models import User; from django.db import transaction; "
                "from bulk_import.models import ImportJob; from bulk_import.operations import cancel; "
                f"job = ImportJob.objects.for_reports().get(pk='{job}'); staff = User.objects.get(username='admin'); "
                f"\n{statement}"
            )
            shop.stack.run("manage.py", "shell", "--verbosity=0", "--command", code)
            set_visibility(page, hidden=False)  # makes the page poll now

        act("with transaction.atomic(): job.pause_by_staff(staff)")
        expect(badge(page)).to_have_text("paused")
        expect(page.locator("#job-message")).to_contain_text("The import continues when staff resume it.")
        expect(page.locator("#pace")).not_to_contain_text("left")
        act("with transaction.atomic(): job.resume_by_staff(staff)")
        expect(badge(page)).not_to_have_text("paused")
        act("cancel(job, actor=staff)")
        expect(page.get_by_role("heading", name="Cancelling")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel the import")).to_have_count(0)

    expect(page.get_by_role("heading", name="The import was cancelled")).to_be_visible()
