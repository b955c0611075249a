"""Tests of the grid in which rows are corrected, in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import Shop, as_csv, choose, rows, start_import

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request

pytestmark = needs_chromium


def test_wrong_rows_are_corrected_with_the_keyboard_and_checked_without_another_upload(
    shop: Shop, page: Page, prefix: str
) -> None:
    """One fix for all similar rows, find and replace, single cells, and undo; a reload keeps the changes."""
    table = rows(prefix, 80)
    for row in table[:60]:
        row["category"] = "kayaks"
    for row in table[60:64]:
        row["price"] = "12:50"
    table[70]["name"] = ""
    choose(page, "products.csv", as_csv(table))
    page.get_by_role("button", name="Correct the rows here").click()
    expect(page.get_by_role("heading", name="Correct 65 rows")).to_be_focused()
    uploads: list[Request] = []
    page.on("request", lambda sent: uploads.append(sent) if "/products/bulk?" in sent.url else None)

    page.get_by_label("New value of category for 60 rows").focus()
    page.keyboard.type("tents")
    page.keyboard.press("Enter")
    expect(page.locator("#grid-state")).to_have_text("60 rows changed")
    expect(page.get_by_label("category, line 2", exact=True)).to_have_value("tents")
    page.get_by_label("category, line 2", exact=True).press("Control+z")
    expect(page.get_by_label("category, line 2", exact=True)).to_have_value("kayaks")
    expect(page.locator("#grid-state")).to_have_text("0 rows changed")
    page.get_by_label("New value of category for 60 rows").fill("cookware")
    page.keyboard.press("Enter")
    page.get_by_text("Find and replace").press("Enter")
    page.locator("#find-column").select_option("price")
    page.get_by_label("Find", exact=True).fill(":")
    page.get_by_label("Replace with").fill(".")
    page.keyboard.press("Enter")
    expect(page.locator("#find-result")).to_have_text("4 cells were changed.")
    page.reload()
    page.get_by_role("button", name="Correct the rows here").click()
    page.get_by_role("button", name="Next rows").click()
    name = page.get_by_label("name, line 72", exact=True)
    name.focus()
    page.keyboard.type("Pan")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_label("name, line 65", exact=True)).to_be_focused()
    expect(page.locator("#grid-state")).to_have_text("65 rows changed")
    page.get_by_role("button", name="Check again").press("Enter")

    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()
    page.get_by_role("button", name="Import these 80 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    assert uploads == []
    products = {row["sku"]: row for row in shop.all_products()}
    assert products[f"{prefix}-0"]["category"] == "cookware"
    assert products[f"{prefix}-60"]["price"] == "12.50"
    assert products[f"{prefix}-70"]["name"] == "Pan"
    assert len(shop.products(prefix)) == 80


def test_rows_that_an_import_rejected_are_corrected_afterwards(shop: Shop, page: Page, prefix: str) -> None:
    start_import(shop, page, [*rows(prefix, 1), *rows(f"{prefix}-b", 2, category="kayaks")])
    page.get_by_role("button", name="Correct the rows here").click()
    page.get_by_label("category, line 3").fill("tents")
    page.get_by_role("button", name="Import the corrected rows").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("created1rejected1")
    page.get_by_role("link", name="See the import that this one corrects").click()
    page.get_by_role("link", name="Resolved by a later import").click()
    assert shop.products(prefix) == [f"{prefix}-0", f"{prefix}-b-1"]


def test_the_grid_never_shows_the_rows_of_another_job(page: Page, prefix: str) -> None:
    choose(page, "products.csv", as_csv([*rows(prefix, 1), *rows(f"{prefix}-w", 1, category="kayaks")]))
    page.get_by_role("button", name="Correct the rows here").click()
    expect(page.locator("#grid-rows table")).to_be_visible()
    page.get_by_role("button", name="Import this 1 row").click()
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.route("**/failures", lambda _route: None)  # the request hangs
    page.get_by_role("button", name="Correct the rows here").click()

    expect(page.locator("#grid-title")).to_be_visible()
    expect(page.locator("#grid-rows table, #grid-groups li")).to_have_count(0)
    expect(page.locator("#grid-send")).to_be_disabled()
    page.unroute_all()
