"""Tests of the import page in a real browser, with the services of `make serve`: gunicorn, S3, SQS and the poller."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from demo.stack import LocalStack, local_stack, stop_process
from tests.browser.chromium import CHROMIUM, chromium, collect_console_errors

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, Request

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TIMEOUT_MS = 20_000  # how long the page may take to show what the worker did
PAGE = "/products/import/"

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install chromium")

DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@dataclass
class Shop:
    """A running shop, and an HTTP client for the user `demo`."""

    stack: LocalStack
    poller: subprocess.Popen[bytes]
    http: httpx.Client

    def products(self, prefix: str) -> list[str]:
        """Return the SKUs with this prefix, sorted."""
        found: list[str] = []
        page: str | None = "/products/"
        while page:
            answer = self.http.get(page).json()
            found += [product["sku"] for product in answer["results"] if product["sku"].startswith(prefix)]
            page = answer["next"]
        return sorted(found)

    def jobs(self) -> int:
        return len(self.http.get("/products/bulk?page_size=100").json()["results"])

    @contextmanager
    def poller_stopped(self) -> Iterator[None]:
        """Stop the poller while the block runs, so that the import does not progress."""
        os.killpg(self.poller.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.poller.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with local_stack() as stack:
        monolith = stack.start_monolith()
        poller = stack.start_poller()
        with httpx.Client(base_url=stack.url, auth=("demo", "demo"), trust_env=False, timeout=60) as http:
            yield Shop(stack, poller, http)
        stop_process(poller)
        stop_process(monolith)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@dataclass
class Visitors:
    """Opens pages as the user `demo`, and collects the errors that their browser console shows."""

    browser: Browser
    shop: Shop
    session: Any
    console_errors: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: str = PAGE, user: str = "demo", **options: Any) -> Page:
        """Open a page with the session that all tests share. With `storage_state=None`, sign in as `user` instead."""
        url = self.shop.stack.url
        defaults: dict[str, Any] = {"viewport": WIDE, "locale": "en-GB", "reduced_motion": "reduce"}
        defaults["storage_state"] = self.session
        context = self.browser.new_context(base_url=url, **{**defaults, **options})
        context.set_default_timeout(TIMEOUT_MS)
        self.contexts.append(context)
        self.console_errors = collect_console_errors(context, url, self.console_errors)
        page = context.new_page()
        page.goto(path)
        if options.get("storage_state", self.session) is None:
            sign_in(page, user)
        page.locator("#start:visible, #job:visible").wait_for()  # the script is ready
        return page


def sign_in(page: Page, user: str = "demo") -> None:
    page.locator("#id_username").fill(user)
    page.locator("#id_password").fill(user)
    page.locator("main button").click()


@pytest.fixture(scope="module")
def session(shop: Shop, browser: Browser) -> Any:
    """The cookies of a user who has signed in."""
    context = browser.new_context(base_url=shop.stack.url)
    page = context.new_page()
    page.goto(PAGE)
    sign_in(page)
    page.locator("#start").wait_for()
    cookies = context.storage_state()
    context.close()
    return cookies


@pytest.fixture
def visitors(shop: Shop, browser: Browser, session: Any) -> Iterator[Visitors]:
    expect.set_options(timeout=TIMEOUT_MS)
    visitors = Visitors(browser, shop, session)
    yield visitors
    for context in visitors.contexts:
        context.close()
    assert visitors.console_errors == []


@pytest.fixture
def page(visitors: Visitors) -> Page:
    return visitors.open()


@pytest.fixture
def prefix() -> str:
    """A prefix for the SKUs of one test."""
    return f"T{uuid.uuid4().hex[:8]}"


def rows(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware", **fields}
    return [{"sku": f"{prefix}-{number}", **basis} for number in range(count)]


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def choose(page: Page, name: str, content: str | list[dict[str, Any]]) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    page.locator("#file").set_input_files({"name": name, "mimeType": "", "buffer": text.encode()})


def import_rows(page: Page, content: list[dict[str, Any]]) -> str:
    """Choose a file with these rows and import it; return the job's ID."""
    choose(page, "products.json", content)
    page.get_by_role("button", name=re.compile(r"Import \d+ row")).click()
    expect(page.locator("#job")).to_be_visible()
    return page.url.partition("?job=")[2]


def submissions(page: Page) -> list[Request]:
    """Return a list that collects the requests that submit imports from now on."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if is_submission(request) else None)
    return sent


def is_submission(request: Request) -> bool:
    return request.method == "POST" and "dry_run" not in request.url and "/products/bulk?" in request.url


def badge(page: Page) -> Any:
    return page.locator("#job-status")


def assert_accessible(page: Page) -> None:
    """Check that axe finds no violation and that the page is not wider than the screen."""
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


def test_a_user_imports_a_spreadsheet_and_corrects_the_failed_rows(shop: Shop, page: Page, prefix: str) -> None:
    """After dropping, checking, importing, downloading and correcting the file, the shop has all products."""
    table = rows(prefix, 230)
    table[3]["price"] = ""
    table[7]["category"] = "kayaks"
    table[229]["sku"] = f"{prefix}-0"

    page.evaluate(DROP, ["products.csv", as_csv(table)])
    expect(page.locator("#check-result")).to_contain_text("2 of 230 rows have errors. Nothing has been imported yet.")
    wrong = page.get_by_role("region", name="Rows to fix").get_by_role("row")
    expect(wrong.nth(1)).to_contain_text(f"{prefix}-3")
    expect(wrong.nth(1).get_by_role("rowheader")).to_have_text("5")  # its line in the file
    expect(wrong.nth(2)).to_contain_text("price: This field is required.")
    expect(wrong.nth(4)).to_contain_text(f"sku “{prefix}-0”: An earlier row of this import has the same sku. (line 2)")
    expect(page.get_by_role("button", name="Import", exact=False)).to_have_count(0)
    page.get_by_label("Skip it and import the other rows").check()
    page.get_by_role("button", name="Import 228 rows and skip 2").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("227 of 230 products were created.")
    expect(page.locator("#counts")).to_contain_text("227")
    expect(page.get_by_role("region", name="Why rows were not created")).to_contain_text(
        "category: There is no category “kayaks”."
    )
    failed = page.get_by_role("region", name="Rows that were not created").get_by_role("row")
    expect(failed.filter(has_text="kayaks")).to_have_count(2)
    first = page.url

    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download as JSON Lines").click()
    again = [json.loads(line) for line in Path(downloading.value.path()).read_text("utf-8").splitlines()]
    assert [row["sku"] for row in again] == [f"{prefix}-3", f"{prefix}-7", f"{prefix}-0"]
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download for a spreadsheet").click()
    records = list(csv.DictReader(io.StringIO(Path(downloading.value.path()).read_text("utf-8-sig"))))
    assert [record["index"] for record in records] == ["3", "7", "229"]
    records[0]["price"], records[1]["category"], records[2]["sku"] = "5.00", "cookware", f"{prefix}-229"

    page.get_by_role("button", name="Upload the corrected file").click()
    expect(page.get_by_text("Choose a file that contains only the corrected rows")).to_be_visible()
    choose(page, "corrected.csv", as_csv(records))
    expect(page.locator("#check-result")).to_contain_text("All 3 rows are valid.")
    page.get_by_role("button", name="Import 3 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.get_by_role("region", name="Rows that were not created")).to_have_count(0)
    page.get_by_role("link", name="See the import that this one corrects").click()
    expect(page).to_have_url(first)
    assert shop.products(prefix) == sorted(f"{prefix}-{number}" for number in range(230))


def test_the_example_file_can_be_imported(page: Page, prefix: str) -> None:
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download an example file").click()
    choose(page, "example.csv", Path(downloading.value.path()).read_text("utf-8").replace("EXAMPLE", prefix))
    page.get_by_role("button", name="Import 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()


def test_a_reload_during_an_import_shows_the_import_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        job = import_rows(page, rows(prefix, 120))
        page.reload()
        expect(page.get_by_role("heading", name="Importing 120 rows")).to_be_visible()
        page.get_by_role("link", name="Import another file").click()
        page.locator(f"#recent-jobs a[href='?job={job}']").click()
        expect(page.get_by_role("heading", name="Importing 120 rows")).to_be_visible()
        page.go_back()
        expect(page.get_by_role("heading", name="Import products")).to_be_visible()
        page.go_forward()

    expect(badge(page)).to_have_text("done")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    expect(page.get_by_text("All 120 products were created.").first).to_be_visible()


@pytest.mark.parametrize("twice", ["by a double click", "in the same event loop turn"])
def test_a_double_click_sends_one_request(shop: Shop, page: Page, prefix: str, twice: str) -> None:
    before, sent = shop.jobs(), submissions(page)
    choose(page, "products.json", rows(prefix, 2))
    button = page.get_by_role("button", name="Import 2 rows")
    if twice == "by a double click":
        button.dblclick()
    else:  # before the page can react to the first click
        button.evaluate("button => { button.click(); button.click(); }")
    expect(badge(page)).to_have_text("done")

    assert len(sent) == 1
    assert shop.jobs() == before + 1


def test_an_import_is_sent_again_with_the_same_key_after_a_lost_response(shop: Shop, page: Page, prefix: str) -> None:
    """If the server accepted the import but the response was lost, sending it again does not create a second import."""
    before, sent = shop.jobs(), submissions(page)
    choose(page, "products.json", [*rows(prefix, 2), {"sku": f"{prefix}-wrong"}])
    page.get_by_label("Skip it and import the other rows").check()
    with losing_responses(page):
        page.get_by_role("button", name="Import 2 rows and skip 1").click()
        expect(page.get_by_text("we do not know whether it received your import")).to_be_visible()
    expect(page.get_by_label("Import nothing")).to_be_disabled()
    assert shop.jobs() == before + 1
    page.get_by_role("button", name="Send again").click()
    expect(badge(page)).to_have_text("partly done")

    keys = [request.headers["idempotency-key"] for request in sent]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert shop.jobs() == before + 1
    assert shop.products(prefix) == [f"{prefix}-0", f"{prefix}-1"]


@contextmanager
def losing_responses(page: Page) -> Iterator[None]:
    """The server handles submissions, but the browser does not receive the responses."""
    devtools = page.context.new_cdp_session(page)

    def lose(paused: Any) -> None:
        devtools.send("Fetch.failRequest", {"requestId": paused["requestId"], "errorReason": "ConnectionReset"})

    devtools.on("Fetch.requestPaused", lose)
    devtools.send("Fetch.enable", {"patterns": [{"urlPattern": "*/products/bulk?*", "requestStage": "Response"}]})
    yield
    devtools.send("Fetch.disable")
    devtools.detach()


def test_each_chosen_file_has_its_own_key(page: Page, prefix: str) -> None:
    sent = submissions(page)
    for number in range(2):
        import_rows(page, rows(f"{prefix}-{number}", 1))
        page.get_by_role("link", name="Import another file").click()

    assert len({request.headers["idempotency-key"] for request in sent}) == len(sent) == 2


def test_a_running_import_is_cancelled_after_confirmation_and_retried(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        import_rows(page, rows(prefix, 150))
        page.get_by_role("button", name="Cancel the import").click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("heading", name="Importing 150 rows")).to_be_visible()
        page.get_by_role("button", name="Cancel the import").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the import").click()
        expect(page.get_by_role("button", name="Cancel the import")).to_have_count(0)
    expect(page.get_by_role("heading", name="The import was cancelled")).to_be_visible()
    expect(page.get_by_role("heading", name="The import was cancelled")).to_be_focused()
    expect(page.get_by_role("button", name="Upload the corrected file")).to_be_visible()
    page.get_by_role("button", name="Retry failed rows without changes").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    assert len(shop.products(prefix)) == 150


def test_malicious_rows_are_shown_as_text(visitors: Visitors, prefix: str) -> None:
    """Markup, direction marks and very long values have no effect in the preview, the errors and the failures."""
    markup = "<script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
    overrides = "\u202e\u2067moc.live\u200f"
    malicious = [
        *rows(prefix, 1, name=markup, category="<script>console.error('ran')</script>"),
        *rows(f"{prefix}-b", 1, name=overrides, category="<b onclick=console.error('ran')>"),
        *rows(f"{prefix}-c", 1, name="n" * 10_000),
        {**rows(f"{prefix}-d", 1)[0], "<style>*{display:none}</style>": markup},
    ]
    for viewport in (WIDE, PHONE):
        page = visitors.open(viewport=viewport)
        choose(page, "<b>products.json", malicious)
        expect(page.get_by_role("heading", name="<b>products.json")).to_be_visible()
        expect(page.locator("#check-result")).to_contain_text("1 of 4 rows has an error.")
        expect(page.locator("#rows")).to_contain_text("n" * 100 + "n" * 20 + "…")
        expect(page.locator("#rows")).to_contain_text("no more than 200 characters")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#rows").evaluate("table => table.clientHeight") < 400
        choose(page, "products.json", [*malicious[:2], malicious[3], *rows(f"{prefix}-{viewport['width']}", 1)])
        expect(page.get_by_text(markup).first).to_be_visible()
        expect(page.locator("#rows bdi", has_text="moc.live")).to_have_text(overrides)
        page.get_by_role("button", name="Import 4 rows").click()
        expect(page.locator("#problems")).to_contain_text(
            "There is no category “<script>console.error('ran')</script>”."
        )
        expect(page.locator("#failed-rows")).to_contain_text(markup)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("main script:not([type='application/json']), main img, main b").count() == 0


def test_the_page_works_with_the_keyboard_only(page: Page, prefix: str) -> None:
    """A user can choose a file, import it and open the correction with Tab, Enter and the arrow keys."""
    page.on("filechooser", lambda _chooser: None)  # prevents Chromium from opening a dialog that would block the test
    tab_to(page, "#file")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    bad = {"sku": f"{prefix}-bad"}
    text = json.dumps([*rows(prefix, 3), bad]).encode()
    choosing.value.set_files({"name": "products.json", "mimeType": "", "buffer": text})
    expect(page.locator("#chosen-title")).to_be_focused()
    expect(page.locator("#check-result")).to_contain_text("1 of 4 rows has an error.")
    tab_to(page, "[name=on_invalid]")
    page.keyboard.press("ArrowDown")
    tab_to(page, "#import")
    page.keyboard.press("Enter")
    expect(page.locator("#job-title")).to_be_focused()
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#announcement")).to_have_text(re.compile("3 of 4 products were created"))
    tab_to(page, "#correct")
    page.keyboard.press("Enter")
    expect(page.locator("#start-title")).to_be_focused()


def tab_to(page: Page, selector: str) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the Tab key does not reach {selector}")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"color_scheme": "light"}, id="wide and light"),
        pytest.param(
            {"viewport": PHONE, "color_scheme": "dark", "locale": "pt-BR", "has_touch": True}, id="phone and dark"
        ),
    ],
)
def test_every_state_is_accessible(shop: Shop, visitors: Visitors, prefix: str, options: dict[str, Any]) -> None:
    shop.http.post("/products/bulk", json=rows(f"{prefix}-first", 1)).raise_for_status()
    page = visitors.open(**options, storage_state=None)  # this test signs out, so it needs its own session
    page.locator("#recent-jobs li").first.wait_for()
    assert_accessible(page)
    choose(page, "products.xlsx", "no CSV")
    expect(page.locator("#file-trouble .trouble")).to_be_visible()
    assert_accessible(page)
    table = rows(prefix, 100, description="Keeps tea hot. " * 20)
    table[2]["price"], table[5]["category"] = "", "kayaks"
    choose(page, "products.csv", as_csv(table))
    expect(page.locator(".wrong-rows")).to_be_visible()
    assert_accessible(page)
    with shop.poller_stopped():
        page.locator("[value=skip]").check()
        page.locator("#import").click()
        page.locator("#job-actions button").click()
        assert_accessible(page)
        page.locator("dialog [value=no]").click()
        assert_accessible(page)
    page.locator("#failed-rows table").wait_for()
    assert_accessible(page)
    page.goto(f"{PAGE}?job={uuid.uuid4()}")
    expect(page.locator("#job-trouble .trouble")).to_be_visible()
    assert_accessible(page)
    page.locator("header button").click()
    expect(page.locator("#id_username")).to_be_visible()
    assert_accessible(page)


def test_the_page_and_the_api_are_translated_to_portuguese(visitors: Visitors, prefix: str) -> None:
    page = visitors.open(locale="pt-BR")
    choose(page, "produtos.csv", as_csv([*rows(prefix, 2), *rows(f"{prefix}-x", 1, price="")]))
    expect(page.locator("#check-result")).to_contain_text("1 de 3 linhas tem erro.")
    expect(page.locator("#rows")).to_contain_text("Este campo é obrigatório.")
    page.get_by_label("Pular e importar as outras linhas").check()
    page.get_by_role("button", name="Importar 2 linhas e pular 1").click()

    expect(page.get_by_role("heading", name="Algumas linhas não foram importadas")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("2 de 3 produtos")


def test_an_offline_page_says_so_and_updates_when_it_is_online_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        import_rows(page, rows(prefix, 5))
        expect(badge(page)).to_have_text("waiting")
        page.context.set_offline(True)
        expect(page.get_by_text("You are offline. Your import continues.")).to_be_visible()
    page.context.set_offline(False)

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.get_by_text("You are offline. Your import continues.")).to_be_hidden()


def test_the_page_polls_an_unavailable_server_less_often(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        import_rows(page, rows(prefix, 5))
        page.clock.install()
        page.route("**/products/bulk/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
        page.reload()
        expect(page.get_by_text("The server did not respond. Your import is not affected.")).to_be_visible()
        waits = []
        for _ in range(6):
            with page.expect_request("**/products/bulk/*"):
                waits.append(run_until_request(page))
        page.unroute_all()
        page.clock.resume()
    page.clock.run_for(60_000)

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
        import_rows(page, rows(prefix, 5))
        page.clock.run_for(5_000)
        set_visibility(page, hidden=True)
        page.wait_for_load_state("networkidle")
        requests: list[Request] = []
        page.on("request", lambda request: requests.append(request))  # noqa: PLW0108 - as above
        page.clock.run_for(300_000)
        assert requests == []
        with page.expect_request("**/products/bulk/*"):
            set_visibility(page, hidden=False)


def set_visibility(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("products.xlsx", "PK", "is not a CSV or JSON file"),
        ("products.csv", "", "This file is empty."),
        ("products.json", '{"sku": "A"}', "This file does not contain a JSON array."),
        ("products.json", '[{"sku": "A"}, {"sku"]', "The row at index 1 is not valid JSON, line 1, column 22"),
        ("products.csv", "sku;sku\nA;B\n", "a column without a name, or a name twice"),
    ],
)
def test_a_file_that_cannot_be_imported_is_explained(page: Page, name: str, content: str, message: str) -> None:
    choose(page, name, content)

    expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()


def test_a_user_who_may_not_create_products_gets_an_error(shop: Shop, visitors: Visitors, prefix: str) -> None:
    create = "from django.contrib.auth.models import User; User.objects.create_user('visitor', password='visitor')"
    shop.stack.run("manage.py", "shell", "-v0", "-c", create)
    page = visitors.open(storage_state=None, user="visitor")
    choose(page, "products.json", rows(prefix, 1))

    error = page.get_by_role("alert").filter(has_text="You do not have permission to perform this action.")
    expect(error).to_be_visible()


def test_a_user_whose_session_ends_during_an_import_can_sign_in_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        job = import_rows(page, rows(prefix, 1))
        page.context.clear_cookies()
        # The settings of a deployment answer 403. The local settings also accept basic authentication, for which the
        # browser would open its own dialog.
        refusal = {"code": "not_authenticated", "message": "Authentication credentials were not provided."}
        page.route("**/products/bulk/*", lambda route: route.fulfill(status=403, json=refusal))
        set_visibility(page, hidden=False)  # makes the page poll now
        expect(page.get_by_text("You were signed out. Your import continues.")).to_be_visible()
        page.unroute_all()
        page.get_by_role("link", name="Sign in again").click()
        sign_in(page)
        expect(page).to_have_url(re.compile(job))
        expect(badge(page)).to_be_visible()


def test_an_unknown_import_is_explained(page: Page) -> None:
    page.goto(f"{PAGE}?job={uuid.uuid4()}")

    expect(page.get_by_role("alert").filter(has_text="We could not find this import.")).to_be_visible()


@pytest.mark.parametrize(("touch", "visible"), [(False, True), (True, False)])
def test_only_devices_with_a_mouse_are_asked_to_drop_a_file(visitors: Visitors, *, touch: bool, visible: bool) -> None:
    page = visitors.open(has_touch=touch, is_mobile=touch)

    expect(page.get_by_text("Drop a file with your products here")).to_be_visible(visible=visible)
    expect(page.locator("label[for=file]")).to_be_visible()


def test_the_size_limit_is_explained(page: Page) -> None:
    """The page checks the size before the upload."""
    page.evaluate("""() => {
        const file = new File(["sku"], "large.csv");
        Object.defineProperty(file, "size", { value: 64 * 1024 * 1024 + 1 });
        const event = new DragEvent("drop", { bubbles: true, cancelable: true });
        Object.defineProperty(event, "dataTransfer", { value: { types: ["Files"], files: [file] } });
        document.body.dispatchEvent(event);
    }""")

    expect(page.get_by_role("alert").filter(has_text="The limit is 64 MB.")).to_be_visible()


def test_signing_in_again_leads_back_to_the_import(page: Page, prefix: str) -> None:
    job = import_rows(page, rows(prefix, 1))
    page.context.clear_cookies()
    page.reload()
    sign_in(page)

    expect(page).to_have_url(re.compile(job))
    expect(badge(page)).to_have_text("done")


READ = """async ([module, name, text, times]) => {
    const { readFirstRows } = await import(module);
    const file = new File([text.repeat(times)], name);
    let read = 0;
    const slice = file.slice.bind(file);
    file.slice = (from, to) => { read += Math.min(to, file.size) - from; return slice(from, to); };
    const rows = await readFirstRows(file);
    return { rows: rows.slice(0, 5), count: rows.length, read, size: file.size };
}"""


def read_first_rows(page: Page, name: str, text: str, times: int = 1) -> Any:
    module = page.locator("script[type=module]").get_attribute("src")
    return page.evaluate(READ, [module, name, text, times])


def test_the_preview_reads_only_the_start_of_a_large_file(page: Page) -> None:
    line = '{"sku": "A", "name": "Zelt für zwei ⛺", "price": 9.50}'
    for name, text in {
        "a.jsonl": f"{line}\n",
        "a.json": f"[{line}" + f",{line}" * 999,
        "a.csv": "sku;name\nA;⛺\n",
    }.items():
        found = read_first_rows(page, name, text, 60_000_000 // len(text.encode()))

        assert found["size"] > 59_000_000
        assert found["read"] == 1024 * 1024
        assert found["count"] > 900


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.csv",
            '\ufeffsku;name\r\nA;"x;""y""\nz"\r\n\r\nB;c\r\n',
            [(2, {"sku": "A", "name": 'x;"y"\nz'}), (5, {"sku": "B", "name": "c"})],
        ),
        ("a.csv", "sku\tname\nA\t1,5;2", [(2, {"sku": "A", "name": "1,5;2"})]),
        ("a.jsonl", '\n{"sku":"A"}\r\n[1]\n', [(2, {"sku": "A"}), (3, {"": "[1]"})]),
        (
            "a.json",
            '[ {"sku": "\\u0041\\",]", "price": 9.50, "n": 12345678901234567890, "t": {"a": [1, 2]}}, 3]',
            [
                (None, {"sku": 'A",]', "price": "9.50", "n": "12345678901234567890", "t": '{"a": [1, 2]}'}),
                (None, {"": "3"}),
            ],
        ),
        ("a.json", '[{"sku": "A"}, {"sku": "B', [(None, {"sku": "A"})]),
    ],
)
def test_the_preview_shows_values_as_they_are_written(page: Page, name: str, text: str, expected: list[Any]) -> None:
    found = read_first_rows(page, name, text)["rows"]

    assert [(row["line"], row["cells"]) for row in found] == expected
    assert [row["index"] for row in found] == list(range(len(expected)))
