"""Tests of a rehearsal and of an undo in a real browser."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import PHONE, Shop, Visitors, assert_accessible, badge, choose, import_rows, rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium


def test_a_user_tries_an_import_first(shop: Shop, page: Page, prefix: str) -> None:
    """The rehearsal uploads the file. The import does not upload it again."""
    uploads: list[str] = []
    page.on("request", lambda request: uploads.append(request.url) if "?on_invalid" in request.url else None)
    choose(page, "products.json", rows(prefix, 3))
    page.get_by_role("button", name="Try it first").click()

    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()
    expect(page.get_by_text("This was a rehearsal, and nothing was imported.").first).to_be_visible()
    expect(badge(page)).to_have_text("rehearsal: done")
    expect(page.locator("#counts")).to_have_text("would be created3")
    assert_accessible(page)
    assert shop.products(prefix) == []
    page.get_by_role("button", name="Import these 3 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(badge(page)).to_have_text("done")
    assert len(shop.products(prefix)) == 3
    assert len(uploads) == 1
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download what became of each row").click()
    records = csv.DictReader(io.StringIO(Path(downloading.value.path()).read_text("utf-8-sig")))
    assert [record["outcome"] for record in records] == ["created"] * 3
    page.get_by_role("link", name="See the rehearsal of this import").click()
    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()


@pytest.mark.parametrize(
    "options", [pytest.param({}, id="wide"), pytest.param({"viewport": PHONE, "color_scheme": "dark"}, id="phone")]
)
def test_a_user_undoes_an_import(shop: Shop, visitors: Visitors, prefix: str, options: dict[str, Any]) -> None:
    page = visitors.open(**options)
    import_rows(page, rows(prefix, 3))
    page.get_by_role("button", name="Undo the import").wait_for()
    changed = next(one for one in shop.http.get("/products/").json()["results"] if one["sku"] == f"{prefix}-1")
    shop.http.patch(f"/products/{changed['id']}/", json={"price": "1.00"}).raise_for_status()
    page.get_by_role("button", name="Undo the import").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Some products would stay")).to_be_focused()
    expect(page.locator("#counts")).to_contain_text("would be deleted2would stay1")
    expect(page.get_by_role("region", name="Why products would stay")).to_contain_text("changed since")
    assert_accessible(page)
    assert len(shop.products(prefix)) == 3
    page.get_by_role("button", name="Delete 2 products").click()
    dialog = page.get_by_role("dialog", name="Are you sure?")
    expect(dialog).to_contain_text("2 products are deleted. 1 stays.")
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Delete 2 products").click()
    dialog.get_by_role("button", name="Delete 2 products").click()

    expect(page.get_by_role("heading", name="Some products were not deleted")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("deleted2kept1")
    assert_accessible(page)
    assert shop.products(prefix) == [f"{prefix}-1"]
