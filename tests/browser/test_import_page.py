"""The import page in a real browser, on everything that `make serve` runs: gunicorn, S3, SQS and the poller."""

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
from tests.browser.chromium import CHROMIUM, chromium, hear_complaints

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, Request

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE_MS = 20_000  # for what the poller does
PAGE = "/products/import/"

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install chromium")

DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@dataclass
class Shop:
    """The running shop, and a client for its user."""

    stack: LocalStack
    poller: subprocess.Popen[bytes]
    http: httpx.Client

    def products(self, prefix: str) -> list[str]:
        """The SKUs that begin so, in order."""
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
    def resting(self) -> Iterator[None]:
        """The poller takes no message, as long as this lasts."""
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
    """Opens pages as the user `demo`; what they complained of is told at the end."""

    browser: Browser
    shop: Shop
    session: Any
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(self, path: str = PAGE, user: str = "demo", **options: Any) -> Page:
        """Signed in by the session that all tests share or, where that is replaced by None, as the user."""
        url = self.shop.stack.url
        defaults: dict[str, Any] = {"viewport": WIDE, "locale": "en-GB", "reduced_motion": "reduce"}
        defaults["storage_state"] = self.session
        context = self.browser.new_context(base_url=url, **{**defaults, **options})
        context.set_default_timeout(PATIENCE_MS)
        self.contexts.append(context)
        self.complaints = hear_complaints(context, url, self.complaints)
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
    """The cookies of somebody who has signed in."""
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
    expect.set_options(timeout=PATIENCE_MS)
    visitors = Visitors(browser, shop, session)
    yield visitors
    for context in visitors.contexts:
        context.close()
    assert visitors.complaints == []


@pytest.fixture
def page(visitors: Visitors) -> Page:
    return visitors.open()


@pytest.fixture
def prefix() -> str:
    """Of the SKUs of one test."""
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
    """Choose and send; returns the job's id."""
    choose(page, "products.json", content)
    page.get_by_role("button", name=re.compile(r"Import \d+ row")).click()
    expect(page.locator("#job")).to_be_visible()
    return page.url.partition("?job=")[2]


def submissions(page: Page) -> list[Request]:
    """The POSTs of imports from now on; the list grows."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if is_submission(request) else None)
    return sent


def is_submission(request: Request) -> bool:
    return request.method == "POST" and "dry_run" not in request.url and "/products/bulk?" in request.url


def badge(page: Page) -> Any:
    return page.locator("#job-status")


def assert_accessible(page: Page) -> None:
    """Nothing that axe finds, and nothing is wider than the screen."""
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"


def test_a_stranger_imports_a_spreadsheet_and_mends_what_failed(shop: Shop, page: Page, prefix: str) -> None:
    """Dropped, checked, imported without the wrong rows, downloaded, mended, sent again: all are there."""
    table = rows(prefix, 230)
    table[3]["price"] = ""
    table[7]["category"] = "kayaks"
    table[229]["sku"] = f"{prefix}-0"

    page.evaluate(DROP, ["products.csv", as_csv(table)])
    expect(page.locator("#verdict")).to_contain_text("2 of 230 rows are wrong. Nothing was imported yet.")
    wrong = page.get_by_role("region", name="Rows to mend").get_by_role("row")
    expect(wrong.nth(1)).to_contain_text(f"{prefix}-3")
    expect(wrong.nth(1).get_by_role("rowheader")).to_have_text("5")  # its line in the file
    expect(wrong.nth(2)).to_contain_text("price: This field is required.")
    expect(wrong.nth(4)).to_contain_text(f"sku “{prefix}-0”: An earlier row of this import has the same sku. (line 2)")
    expect(page.get_by_role("button", name="Import", exact=False)).to_have_count(0)
    page.get_by_label("Skip it and import the others").check()
    page.get_by_role("button", name="Import 228 rows, skip 2").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("227 of 230 products were created.")
    expect(page.locator("#counts")).to_contain_text("227")
    expect(page.get_by_role("region", name="Why rows were not created")).to_contain_text(
        "category: Object with slug=kayaks does not exist."
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

    page.get_by_role("button", name="Send corrected rows").click()
    expect(page.get_by_text("Choose the file with the corrected rows")).to_be_visible()
    choose(page, "mended.csv", as_csv(records))
    expect(page.locator("#verdict")).to_contain_text("All 3 rows look right.")
    page.get_by_role("button", name="Import 3 rows").click()

    expect(page.get_by_role("heading", name="Everything was imported")).to_be_visible()
    expect(page.get_by_role("region", name="Rows that were not created")).to_have_count(0)
    page.get_by_role("link", name="See the import that this one corrects").click()
    expect(page).to_have_url(first)
    assert shop.products(prefix) == sorted(f"{prefix}-{number}" for number in range(230))


def test_the_example_file_is_imported_as_it_is(page: Page, prefix: str) -> None:
    with page.expect_download() as downloading:
        page.get_by_role("link", name="An example file").click()
    choose(page, "example.csv", Path(downloading.value.path()).read_text("utf-8").replace("EXAMPLE", prefix))
    page.get_by_role("button", name="Import 2 rows").click()

    expect(page.get_by_role("heading", name="Everything was imported")).to_be_visible()


def test_a_reload_midway_finds_the_import_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.resting():
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


@pytest.mark.parametrize("twice", ["by hand", "at the same instant"])
def test_a_double_click_sends_once(shop: Shop, page: Page, prefix: str, twice: str) -> None:
    before, sent = shop.jobs(), submissions(page)
    choose(page, "products.json", rows(prefix, 2))
    button = page.get_by_role("button", name="Import 2 rows")
    if twice == "by hand":
        button.dblclick()
    else:  # before anything has moved on the page
        button.evaluate("button => { button.click(); button.click(); }")
    expect(badge(page)).to_have_text("done")

    assert len(sent) == 1
    assert shop.jobs() == before + 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key(shop: Shop, page: Page, prefix: str) -> None:
    """The import arrived, the answer did not: sent again, it is the same import."""
    before, sent = shop.jobs(), submissions(page)
    choose(page, "products.json", [*rows(prefix, 2), {"sku": f"{prefix}-wrong"}])
    page.get_by_label("Skip it and import the others").check()
    with losing_answers(page):
        page.get_by_role("button", name="Import 2 rows, skip 1").click()
        expect(page.get_by_text("we cannot tell whether the import arrived")).to_be_visible()
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
def losing_answers(page: Page) -> Iterator[None]:
    """The server answers submissions, and the browser never hears it."""
    devtools = page.context.new_cdp_session(page)

    def lose(paused: Any) -> None:
        devtools.send("Fetch.failRequest", {"requestId": paused["requestId"], "errorReason": "ConnectionReset"})

    devtools.on("Fetch.requestPaused", lose)
    devtools.send("Fetch.enable", {"patterns": [{"urlPattern": "*/products/bulk?*", "requestStage": "Response"}]})
    yield
    devtools.send("Fetch.disable")
    devtools.detach()


def test_another_choice_of_file_has_another_key(page: Page, prefix: str) -> None:
    sent = submissions(page)
    for number in range(2):
        import_rows(page, rows(f"{prefix}-{number}", 1))
        page.get_by_role("link", name="Import another file").click()

    assert len({request.headers["idempotency-key"] for request in sent}) == len(sent) == 2


def test_a_running_import_is_cancelled_after_a_question_and_tried_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.resting():
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
    expect(page.get_by_role("button", name="Send corrected rows")).to_be_visible()
    page.get_by_role("button", name="Try the rest again").click()

    expect(page.get_by_role("heading", name="Everything was imported")).to_be_visible()
    assert len(shop.products(prefix)) == 150


def test_a_hostile_row_is_inert_text(visitors: Visitors, prefix: str) -> None:
    """Markup, direction marks and ten thousand characters, in the preview, the errors and the failures."""
    markup = "<script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
    overrides = "\u202e\u2067moc.live\u200f"
    hostile = [
        *rows(prefix, 1, name=markup, category="<script>console.error('ran')</script>"),
        *rows(f"{prefix}-b", 1, name=overrides, category="<b onclick=console.error('ran')>"),
        *rows(f"{prefix}-c", 1, name="n" * 10_000),
        {**rows(f"{prefix}-d", 1)[0], "<style>*{display:none}</style>": markup},
    ]
    for viewport in (WIDE, PHONE):
        page = visitors.open(viewport=viewport)
        choose(page, "<b>products.json", hostile)
        expect(page.get_by_role("heading", name="<b>products.json")).to_be_visible()
        expect(page.locator("#verdict")).to_contain_text("1 of 4 rows is wrong.")
        expect(page.locator("#rows")).to_contain_text("n" * 100 + "n" * 20 + "…")
        expect(page.locator("#rows")).to_contain_text("no more than 200 characters")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#rows").evaluate("table => table.clientHeight") < 400
        choose(page, "products.json", [*hostile[:2], hostile[3], *rows(f"{prefix}-{viewport['width']}", 1)])
        expect(page.get_by_text(markup).first).to_be_visible()
        expect(page.locator("#rows bdi", has_text="moc.live")).to_have_text(overrides)
        page.get_by_role("button", name="Import 4 rows").click()
        expect(page.locator("#problems")).to_contain_text("Object with slug=<script>console.error('ran')</script>")
        expect(page.locator("#failed-rows")).to_contain_text(markup)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("main script:not([type='application/json']), main img, main b").count() == 0


def test_the_keyboard_is_enough(page: Page, prefix: str) -> None:
    """From the sign-in to the results with Tab, Space, Enter and the arrows."""
    page.on("filechooser", lambda _chooser: None)  # from now on Chromium opens none that nobody could answer
    tab_to(page, "#file")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    bad = {"sku": f"{prefix}-bad"}
    text = json.dumps([*rows(prefix, 3), bad]).encode()
    choosing.value.set_files({"name": "products.json", "mimeType": "", "buffer": text})
    expect(page.locator("#chosen-title")).to_be_focused()
    expect(page.locator("#verdict")).to_contain_text("1 of 4 rows is wrong.")
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
    pytest.fail(f"{selector} is not reached")


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
    page = visitors.open(**options, storage_state=None)  # a session of its own: it ends here
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
    with shop.resting():
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


def test_the_page_and_the_api_speak_portuguese(visitors: Visitors, prefix: str) -> None:
    page = visitors.open(locale="pt-BR")
    choose(page, "produtos.csv", as_csv([*rows(prefix, 2), *rows(f"{prefix}-x", 1, price="")]))
    expect(page.locator("#verdict")).to_contain_text("1 de 3 linhas está errada.")
    expect(page.locator("#rows")).to_contain_text("Este campo é obrigatório.")
    page.get_by_label("Pular e importar as outras").check()
    page.get_by_role("button", name="Importar 2 linhas, pular 1").click()

    expect(page.get_by_role("heading", name="Algumas linhas não foram importadas")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("2 de 3 produtos")


def test_a_page_without_connection_says_so_and_goes_on_by_itself(shop: Shop, page: Page, prefix: str) -> None:
    with shop.resting():
        import_rows(page, rows(prefix, 5))
        expect(badge(page)).to_have_text("waiting")
        page.context.set_offline(True)
        expect(page.get_by_text("You are offline.")).to_be_visible()
    page.context.set_offline(False)

    expect(page.get_by_role("heading", name="Everything was imported")).to_be_visible()
    expect(page.get_by_text("You are offline.")).to_be_hidden()


def test_a_server_that_is_away_is_asked_less_and_less(shop: Shop, page: Page, prefix: str) -> None:
    with shop.resting():
        import_rows(page, rows(prefix, 5))
        page.clock.install()
        page.route("**/products/bulk/*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
        page.reload()
        expect(page.get_by_text("No answer from the server. The import is not affected")).to_be_visible()
        waits = []
        for _ in range(6):
            with page.expect_request("**/products/bulk/*"):
                waits.append(run_until_asked(page))
        page.unroute_all()
        page.clock.resume()
    page.clock.run_for(60_000)

    assert waits[0] < 10
    assert waits[-1] >= 20
    expect(page.get_by_role("heading", name="Everything was imported")).to_be_visible()


def run_until_asked(page: Page) -> int:
    """Let the page's clock run until it asks again; returns the seconds."""
    asked: list[Request] = []
    page.once("request", lambda request: asked.append(request))  # noqa: PLW0108 - Playwright takes no built-in function
    seconds = 0
    while not asked and seconds < 60:
        page.clock.run_for(1000)
        seconds += 1
    return seconds


def test_a_tab_that_nobody_looks_at_does_not_ask(shop: Shop, page: Page, prefix: str) -> None:
    page.clock.install()
    with shop.resting():
        import_rows(page, rows(prefix, 5))
        page.clock.run_for(5_000)
        turn(page, hidden=True)
        page.wait_for_load_state("networkidle")
        asked: list[Request] = []
        page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 - as above
        page.clock.run_for(300_000)
        assert asked == []
        with page.expect_request("**/products/bulk/*"):
            turn(page, hidden=False)


def turn(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("products.xlsx", "PK", "is neither CSV nor JSON"),
        ("products.csv", "", "is empty"),
        ("products.json", '{"sku": "A"}', "This file does not contain a JSON array."),
        ("products.json", '[{"sku": "A"}, {"sku"]', "The row at index 1 is not valid JSON at line 1, column 22"),
        ("products.csv", "sku;sku\nA;B\n", "Two columns of the header row (line 1) are named “sku”."),
    ],
)
def test_what_is_no_import_is_told_in_words(page: Page, name: str, content: str, told: str) -> None:
    choose(page, name, content)

    expect(page.get_by_role("alert").filter(has_text=told)).to_be_visible()


def test_who_may_not_create_products_is_told_so(shop: Shop, visitors: Visitors, prefix: str) -> None:
    create = "from django.contrib.auth.models import User; User.objects.create_user('visitor', password='visitor')"
    shop.stack.run("manage.py", "shell", "-v0", "-c", create)
    page = visitors.open(storage_state=None, user="visitor")
    choose(page, "products.json", rows(prefix, 1))

    told = page.get_by_role("alert").filter(has_text="You do not have permission to perform this action.")
    expect(told).to_be_visible()


def test_a_session_that_is_over_leads_to_the_sign_in_and_back_to_the_import(page: Page, prefix: str) -> None:
    job = import_rows(page, rows(prefix, 1))
    page.context.clear_cookies()
    page.reload()
    sign_in(page)

    expect(page).to_have_url(re.compile(job))
    expect(badge(page)).to_have_text("done")


READ = """async ([module, name, text, times]) => {
    const { readStart } = await import(module);
    const file = new File([text.repeat(times)], name);
    let read = 0;
    const slice = file.slice.bind(file);
    file.slice = (from, to) => { read += Math.min(to, file.size) - from; return slice(from, to); };
    const rows = await readStart(file);
    return { rows: rows.slice(0, 5), count: rows.length, read, size: file.size };
}"""


def read_start(page: Page, name: str, text: str, times: int = 1) -> Any:
    module = page.locator("script[type=module]").get_attribute("src")
    return page.evaluate(READ, [module, name, text, times])


def test_of_a_large_file_only_the_beginning_is_read(page: Page) -> None:
    line = '{"sku": "A", "name": "Zelt für zwei ⛺", "price": 9.50}'
    for name, text in {
        "a.jsonl": f"{line}\n",
        "a.json": f"[{line}" + f",{line}" * 999,
        "a.csv": "sku;name\nA;⛺\n",
    }.items():
        found = read_start(page, name, text, 60_000_000 // len(text.encode()))

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
def test_rows_are_previewed_as_they_were_written(page: Page, name: str, text: str, expected: list[Any]) -> None:
    found = read_start(page, name, text)["rows"]

    assert [(row["line"], row["cells"]) for row in found] == expected
    assert [row["index"] for row in found] == list(range(len(expected)))
