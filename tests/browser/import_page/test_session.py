"""Tests of a session that ends while the user works, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    PHONE,
    Shop,
    Visitors,
    as_csv,
    assert_accessible,
    badge,
    choose,
    rows,
    set_visibility,
    sign_in,
    start_import,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium


def sign_in_again(page: Page, user: str = "demo") -> None:
    dialog = page.get_by_role("dialog", name="You were signed out.")
    expect(dialog.get_by_label("User name")).to_have_value("demo")
    # The password of each user is the name.
    dialog.get_by_label("Password").fill(user)
    page.keyboard.press("Enter")


def test_a_user_whose_session_ends_in_each_step_continues_without_any_further_action(
    shop: Shop, visitors: Visitors, prefix: str
) -> None:
    page = visitors.open(viewport=PHONE)
    table = [{**row, "Supplier": "Norte"} for row in rows(prefix, 3)]
    table[2]["category"] = "kayaks"
    page.context.clear_cookies()
    choose(page, "products.csv", as_csv(table))
    sign_in_again(page, user="wrong")
    expect(page.get_by_text("The user name or password is wrong.")).to_be_visible()
    assert_accessible(page)
    sign_in_again(page)

    page.get_by_label("Supplier", exact=True).select_option(label="Do not import")
    page.context.clear_cookies()
    page.get_by_role("button", name="Continue").click()
    sign_in_again(page)
    expect(page.get_by_role("heading", name="Some rows would not be imported")).to_be_visible()

    page.context.clear_cookies()
    page.get_by_role("button", name="Correct the rows here").click()
    sign_in_again(page)
    expect(page.get_by_label("category, line 4")).to_have_value("kayaks")

    page.context.clear_cookies()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download what became of each row").click()
        sign_in_again(page)
    assert downloading.value.path().read_text("utf-8-sig").startswith("index,")

    page.context.clear_cookies()
    page.get_by_role("button", name="Import these 2 rows").click()
    sign_in_again(page)
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    assert len(shop.products(prefix)) == 2

    page.context.clear_cookies()
    page.get_by_role("button", name="Undo the import").click()
    sign_in_again(page)
    expect(page.get_by_role("heading", name="All items would be deleted")).to_be_visible()


def test_a_running_import_continues_while_its_user_signs_in_again(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 1))
        page.context.clear_cookies()
        set_visibility(page, hidden=False)  # makes the page poll now
        sign_in_again(page)

    expect(badge(page)).to_have_text("done")


def test_a_page_that_is_loaded_without_a_session_shows_the_import_after_signing_in(
    shop: Shop, page: Page, prefix: str
) -> None:
    job = start_import(shop, page, rows(prefix, 1))
    page.context.clear_cookies()
    page.reload()
    sign_in(page)

    expect(page).to_have_url(re.compile(job))
    expect(badge(page)).to_have_text("done")
