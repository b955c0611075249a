"""Tests of importing a file in a real browser: send it, repeat it, cancel it and correct it."""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    DROP,
    Shop,
    as_csv,
    badge,
    choose,
    import_rows,
    rows,
    submissions,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = needs_chromium


def test_a_user_imports_a_spreadsheet_and_corrects_the_failed_rows(shop: Shop, page: Page, prefix: str) -> None:
    """After dropping, checking, importing, downloading and correcting the file, the shop has all products."""
    table = rows(prefix, 230)
    table[3]["price"] = ""
    table[7]["category"] = "kayaks"
    table[229]["sku"] = f"{prefix}-0"

    page.evaluate(DROP, ["l'été (açaí).csv", as_csv(table)])
    expect(page.locator("#check-result")).to_contain_text("3 of 230 rows have errors. Nothing has been imported yet.")
    wrong = page.get_by_role("region", name="Rows to fix").get_by_role("row")
    expect(wrong.nth(1)).to_contain_text(f"{prefix}-3")
    expect(wrong.nth(1).get_by_role("rowheader")).to_have_text("5")  # its line in the file
    expect(wrong.nth(2)).to_contain_text("price: This field is required.")
    expect(wrong.nth(4)).to_contain_text("There is no category “kayaks”.")
    expect(wrong.nth(6)).to_contain_text(f"sku “{prefix}-0”: An earlier row of this import has the same sku. (line 2)")
    expect(page.get_by_role("button", name="Import", exact=False)).to_have_count(0)
    page.get_by_label("Skip it and import the other rows").check()
    page.get_by_role("button", name="Import 227 rows and skip 3").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("227 of 230 products were created.")
    expect(page.locator("#counts")).to_contain_text("227")
    expect(page.get_by_role("region", name="Why rows were not imported")).to_contain_text(
        "category: There is no category “kayaks”."
    )
    failed = page.get_by_role("region", name="Rows that were not imported").get_by_role("row")
    expect(failed.filter(has_text="kayaks")).to_have_count(2)
    first = page.url
    assert shop.http.get(f"/products/bulk/{first.partition('?job=')[2]}").json()["file_name"] == "l'été (açaí).csv"

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
    expect(page.get_by_role("region", name="Rows that were not imported")).to_have_count(0)
    page.get_by_role("link", name="See the import that this one corrects").click()
    expect(page).to_have_url(first)
    assert shop.products(prefix) == sorted(f"{prefix}-{number}" for number in range(230))


def test_the_example_file_can_be_imported(page: Page, prefix: str) -> None:
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download an example file").click()
    choose(page, "example.csv", Path(downloading.value.path()).read_text("utf-8").replace("EXAMPLE", prefix))
    page.get_by_role("button", name="Import 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()


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


def test_a_user_changes_products_that_exist(shop: Shop, page: Page, prefix: str) -> None:
    """A file with few columns is wrong for new products, and right for changes."""
    existing = rows(prefix, 2)
    for row in existing:
        assert shop.http.post("/products/", json=row).status_code == 201
    changes = [
        {"sku": existing[0]["sku"], "price": "77.70"},
        {"sku": existing[1]["sku"], "price": existing[1]["price"]},
    ]

    choose(page, "prices.csv", as_csv(changes))
    expect(page.locator("#check-result")).to_contain_text("2 of 2 rows have errors.")
    page.get_by_label("Only change products that exist").check()
    expect(page.locator("#check-result")).to_contain_text("All 2 rows are valid.")
    page.get_by_role("button", name="Import 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.locator("#counts")).to_contain_text("updated1unchanged1")
    expect(page.locator("#failures")).to_be_hidden()
