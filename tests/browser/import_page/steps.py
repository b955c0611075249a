"""What the tests of the import page share: a running shop, its visitors, and what they do on the page."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.chromium import collect_console_errors

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    import httpx
    from playwright.sync_api import Browser, BrowserContext, Page, Request, Route

    from demo.stack import LocalStack

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TIMEOUT_MS = 90_000
"""How long the page may take to show what the worker did. If a busy machine lets an invocation of the poller end late,
its message stays invisible for 60 s."""
PAGE = "/products/import/"


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
        return sorted(product["sku"] for product in self.all_products() if product["sku"].startswith(prefix))

    def all_products(self) -> list[dict[str, Any]]:
        return self.pages("/products/")

    def pages(self, first: str) -> list[dict[str, Any]]:
        """Return the elements of a list, from all of its pages."""
        found: list[dict[str, Any]] = []
        page: str | None = first
        while page:
            answer = self.http.get(page).json()
            found += answer["results"]
            page = answer["next"]
        return found

    def jobs(self) -> int:
        """Return the number of imports of this user."""
        return len(self.pages("/products/bulk?page_size=100"))

    @contextmanager
    def poller_stopped(self) -> Iterator[None]:
        """Stop the poller while the block runs, so that the import does not progress."""
        os.killpg(self.poller.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.poller.pid, signal.SIGCONT)


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
        page.locator(
            "#choose:visible, #columns:visible, #check:visible, #job:visible"
        ).first.wait_for()  # the script is ready
        return page


def sign_in(page: Page, user: str = "demo") -> None:
    page.locator("#id_username").fill(user)
    page.locator("#id_password").fill(user)
    page.locator("main button").click()


def rows(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware", **fields}
    return [{"sku": f"{prefix}-{number}", **basis} for number in range(count)]


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def choose(page: Page, name: str, content: bytes | str | list[dict[str, Any]]) -> None:
    """Choose a file. The page reads its columns and checks its rows without further clicks if nothing is unclear."""
    text = content if isinstance(content, (str, bytes)) else json.dumps(content)
    body = text if isinstance(text, bytes) else text.encode()
    page.locator("#file").set_input_files({"name": name, "mimeType": "", "buffer": body})


def import_rows(page: Page, content: list[dict[str, Any]]) -> str:
    """Choose a file with these rows, wait for its check and import it; return the job's ID."""
    choose(page, "products.json", content)
    page.get_by_role("button", name=re.compile(r"Import th(is|ese) \d+ row")).click()
    expect(page.locator(".steps [aria-current]")).to_have_text(re.compile("Import|Result"))
    return page.url.partition("?job=")[2]


def start_import(shop: Shop, page: Page, content: list[dict[str, Any]]) -> str:
    """Start an import of these rows without the page, and open it there; return the job's ID."""
    answer = shop.http.post("/products/bulk?on_invalid=skip", json=content).raise_for_status().json()
    page.goto(f"{PAGE}?job={answer['id']}")
    expect(page.locator("#job-status")).not_to_be_empty()
    return str(answer["id"])


def without_rehearsals(page: Page) -> None:
    """Load the page as it is for a target that does not allow rehearsals."""

    def change(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(" data-rehearse", ""))

    page.route(f"**{PAGE}", change)
    page.reload()
    page.locator("#choose").wait_for()


def submissions(page: Page) -> list[Request]:
    """Return a list that collects the requests that submit imports, and not rehearsals, from now on."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if is_submission(request) else None)
    return sent


def is_submission(request: Request) -> bool:
    return request.method == "POST" and "/products/bulk?on_invalid" in request.url


def badge(page: Page) -> Any:
    return page.locator("#job-status")


def assert_accessible(page: Page) -> None:
    """Check that axe finds no violation and that the page is not wider than the screen."""
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"


def set_visibility(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )
