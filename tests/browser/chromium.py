"""How the browser tests and the screenshots start Chromium, and what no page of ours may do in it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def hear_complaints(context: BrowserContext, url: str, complaints: list[str] | None = None) -> list[str]:
    """What goes wrong from now on: errors on the console, and requests to any other server. The list grows."""
    complaints = [] if complaints is None else complaints

    def hear(logged: ConsoleMessage) -> None:
        is_answer = f"{url}/products/bulk" in logged.location["url"]  # Chromium notes each 4xx; the page tells of it
        if logged.type in {"error", "warning"} and not is_answer:
            complaints.append(logged.text)

    def see(request: Request) -> None:
        if not request.url.startswith((f"{url}/", "data:", "blob:")):
            complaints.append(f"asked {request.url}")

    def watch(page: Page) -> None:
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", see)

    context.on("page", watch)
    return complaints
