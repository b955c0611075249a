"""Fixtures of the import page's tests. They start the services of `make serve`: gunicorn, S3, SQS and the poller."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import expect

from bulk_import.local.processes import stop_process
from demo.stack import local_stack
from tests.browser.chromium import chromium
from tests.browser.import_page.steps import PAGE, TIMEOUT_MS, Shop, Visitors, sign_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """One shop for all modules, because its processes take longer to start than most modules to run."""
    with local_stack() as stack:
        monolith = stack.start_monolith()
        poller = stack.start_poller()
        one_request = httpx.Limits(max_keepalive_connections=0)  # gunicorn closes idle connections soon
        with httpx.Client(
            base_url=stack.url, auth=("demo", "demo"), trust_env=False, timeout=60, limits=one_request
        ) as http:
            yield Shop(stack, poller, http)
        stop_process(poller)
        stop_process(monolith)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def session(shop: Shop, browser: Browser) -> Any:
    """The cookies of a user who has signed in."""
    context = browser.new_context(base_url=shop.stack.url)
    page = context.new_page()
    page.goto(PAGE)
    sign_in(page)
    page.locator("#choose").wait_for()
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
