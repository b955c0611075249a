"""Tests of a running and an ended import in a real browser: cancel, retry, correct with a file, undo, history."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    PHONE,
    Shop,
    Visitors,
    as_csv,
    assert_accessible,
    choose,
    import_rows,
    rows,
    start_import,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium


def test_failed_rows_are_downloaded_corrected_and_sent_again(shop: Shop, page: Page, prefix: str) -> None:
    table = rows(prefix, 5)
    table[1]["price"], table[2]["category"] = "", "kayaks"
    del table[1]["price"]
    first = start_import(shop, page, table)
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.get_by_role("region", name="Why rows were not imported")).to_contain_text("first: row 3")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download as JSON Lines").click()
    again = [json.loads(line) for line in downloading.value.path().read_text("utf-8").splitlines()]
    assert [row["sku"] for row in again] == [f"{prefix}-1", f"{prefix}-2"]
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download for a spreadsheet").click()
    records = list(csv.DictReader(io.StringIO(downloading.value.path().read_text("utf-8-sig"))))
    records[0]["price"], records[1]["category"] = "5.00", "cookware"

    page.get_by_role("button", name="Upload the corrected file").click()
    expect(page.get_by_text("Choose a file that contains only the corrected rows")).to_be_visible()
    choose(page, "l'été (açaí).csv", as_csv(records))
    page.get_by_role("button", name="Import these 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.get_by_role("region", name="Rows that were not imported")).to_have_count(0)
    page.get_by_role("button", name="Import another file").click()
    history = page.get_by_role("listitem")
    expect(history.filter(has_text="l'été (açaí).csv")).to_contain_text("2 rows")
    history.filter(has_text="5 rows").first.get_by_role("link", name="Resolved by a later import").click()
    page.get_by_role("link", name="See the import that this one corrects").click()
    expect(page).to_have_url(f"{shop.stack.url}/products/import/?job={first}")
    assert len(shop.products(prefix)) == 5


def test_the_template_and_the_example_can_be_imported(page: Page, prefix: str) -> None:
    page.context.clear_cookies(name="sessionid")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download a template for Excel").click()
        page.get_by_label("Password").fill("demo")
        page.get_by_role("button", name="Sign in").click()
    choose(page, downloading.value.suggested_filename, downloading.value.path().read_bytes())
    expect(page.get_by_role("button", name="Import this 1 row")).to_be_visible()
    page.get_by_role("button", name="Import another file").click()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download an example file").click()
    choose(page, "example.csv", downloading.value.path().read_text("utf-8").replace("EXAMPLE", prefix))
    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()
    page.get_by_role("button", name="Import these 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()


def test_a_running_import_is_cancelled_after_confirmation_and_retried(shop: Shop, page: Page, prefix: str) -> None:
    with shop.poller_stopped():
        start_import(shop, page, rows(prefix, 150))
        page.get_by_role("button", name="Cancel the import").click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("heading", name="Importing 150 rows")).to_be_visible()
        page.get_by_role("button", name="Cancel the import").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel the import").click()
        expect(page.get_by_role("button", name="Cancel the import")).to_have_count(0)
    expect(page.get_by_role("heading", name="The import was cancelled")).to_be_visible()
    expect(page.get_by_role("heading", name="The import was cancelled")).to_be_focused()
    page.get_by_role("button", name="Import the other 150 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.get_by_role("button", name="Retry failed rows without changes")).to_have_count(0)
    assert len(shop.products(prefix)) == 150


def test_a_retry_is_offered_only_if_it_can_help(shop: Shop, page: Page, prefix: str) -> None:
    """A row that the endpoint refuses would be refused again."""
    start_import(shop, page, [*rows(prefix, 1), *rows(f"{prefix}-b", 1, category="kayaks")])

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.get_by_role("button", name="Correct the rows here")).to_be_visible()
    expect(page.get_by_role("button", name="Import the other 150 rows")).to_have_count(0)
    created = page.get_by_role("link", name=f"{prefix}-0").get_attribute("href")
    assert shop.http.get(created or "").json()["sku"] == f"{prefix}-0"


@pytest.mark.parametrize(
    "options", [pytest.param({}, id="wide"), pytest.param({"viewport": PHONE, "color_scheme": "dark"}, id="phone")]
)
def test_a_user_undoes_an_import(shop: Shop, visitors: Visitors, prefix: str, options: dict[str, Any]) -> None:
    page = visitors.open(**options)
    import_rows(page, rows(prefix, 3))
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    page.get_by_role("button", name="Undo the import").wait_for()
    changed = next(one for one in shop.all_products() if one["sku"] == f"{prefix}-1")
    shop.http.patch(f"/products/{changed['id']}/", json={"price": "1.00"}).raise_for_status()
    page.get_by_role("button", name="Undo the import").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Some items would stay")).to_be_focused()
    expect(page.locator("#counts")).to_contain_text("would be deleted2would stay1")
    expect(page.get_by_role("region", name="Why items would stay")).to_contain_text("changed since")
    assert_accessible(page)
    assert len(shop.products(prefix)) == 3
    page.get_by_role("button", name="Delete 2 items").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    expect(dialog).to_contain_text("2 items are deleted. 1 stays.")
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete 2 items").click()
    dialog.get_by_role("button", name="Delete 2 items").click()

    expect(page.get_by_role("heading", name="Some items were not deleted")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("deleted2kept1")
    assert_accessible(page)
    assert shop.products(prefix) == [f"{prefix}-1"]
