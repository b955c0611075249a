"""Starts Chromium for the browser tests and the screenshots, and collects the errors of its console."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The headless shell is the same browser without windows. It needs a third of the CPU time to open a page."""

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium-headless-shell")
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


def collect_console_errors(context: BrowserContext, url: str, errors: list[str] | None = None) -> list[str]:
    """Return a list that collects console errors and requests to other servers from now on."""
    errors = [] if errors is None else errors

    def collect(logged: ConsoleMessage) -> None:
        is_api_error = f"{url}/products/bulk" in logged.location["url"]  # Chromium logs every 4xx response
        if logged.type in {"error", "warning"} and not is_api_error:
            errors.append(logged.text)

    def check_host(request: Request) -> None:
        if not request.url.startswith((f"{url}/", "data:", "blob:")):
            errors.append(f"request to another server: {request.url}")

    def watch(page: Page) -> None:
        page.on("console", collect)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", check_host)

    context.on("page", watch)
    return errors
