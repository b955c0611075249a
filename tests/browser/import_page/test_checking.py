"""Tests of the step "check" in a real browser: errors in groups, what exists already, and sending the import once."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    DROP,
    PAGE,
    PHONE,
    Shop,
    Visitors,
    as_csv,
    assert_accessible,
    badge,
    choose,
    rows,
    submissions,
    without_rehearsals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

pytestmark = needs_chromium


def test_errors_are_grouped_and_the_decision_is_visible_on_a_phone(shop: Shop, visitors: Visitors, prefix: str) -> None:
    """The rehearsal changes nothing, and the import of its rows needs no second upload."""
    page = visitors.open(viewport=PHONE, color_scheme="dark")
    sent = submissions(page)
    table = rows(prefix, 120)
    for row in table[:60]:
        row["category"] = "kayaks"
    table[70]["price"] = ""
    table[119]["sku"] = f"{prefix}-80"

    page.evaluate(DROP, ["products.csv", as_csv(table)])
    expect(page.get_by_role("heading", name="Some rows would not be imported")).to_be_visible()
    expect(badge(page)).to_have_text("rehearsal: done")
    problems = page.locator("#problem-list li")
    expect(problems.nth(0)).to_contain_text("60 rowscategory: There is no category “kayaks”. first: line 2")
    expect(problems.nth(1)).to_contain_text("1 row")
    expect(page.locator("#problem-list")).to_contain_text("first: line 72")
    run = page.get_by_role("button", name="Import these 58 rows")
    for decision in (run, page.get_by_role("button", name="Correct the rows here"), problems.nth(0)):
        assert is_on_screen(page, decision)
    expect(page.locator("#failed-rows tbody th").first).to_have_text("2")
    assert_accessible(page)
    assert shop.products(prefix) == []
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download for a spreadsheet").click()
    assert downloading.value.path().read_text("utf-8-sig").count("kayaks") == 60 * 2  # the value and the reason
    run.click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_have_count(0)
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("created58rejected62")
    assert len(shop.products(prefix)) == 58
    assert sent == []


def is_on_screen(page: Page, element: Locator) -> bool:
    page.evaluate("scrollTo(0, 0)")
    box = element.bounding_box()
    assert box
    return box["y"] >= 0 and box["y"] + box["height"] <= page.evaluate("innerHeight")


def test_what_exists_is_asked_once_and_a_file_sent_twice_never_fails(shop: Shop, page: Page, prefix: str) -> None:
    for row in rows(prefix, 2):
        assert shop.http.post("/products/", json=row).status_code == 201
    choose(page, "products.csv", as_csv(rows(prefix, 3, price="5.00")))
    expect(page.get_by_role("group", name="2 rows describe items that exist already.")).to_be_visible()
    expect(page.get_by_role("button", name="Import", exact=False)).to_have_count(0)
    assert_accessible(page)
    page.get_by_label("Stop, and import nothing").check()
    expect(page.get_by_text("Nothing was imported. Choose another file, or another answer.")).to_be_visible()
    page.get_by_label("Skip these rows").check()
    expect(page.locator("#counts")).to_have_text("would be created1would not change2")
    page.get_by_role("button", name="Import these 3 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("created1unchanged2")

    choose(page, "products.csv", as_csv(rows(prefix, 3, price="6.00")))
    page.get_by_label("Update the items").check()
    page.get_by_role("button", name="Import these 3 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("updated3")


@pytest.mark.parametrize("is_rehearsed", [True, False])
def test_a_file_that_is_checked_in_two_tabs_is_imported_twice_without_a_failure(
    shop: Shop, page: Page, prefix: str, *, is_rehearsed: bool
) -> None:
    """Both checks end before the first import begins, so neither of them finds an existing row."""
    other = page.context.new_page()
    other.goto(PAGE)
    for tab in () if is_rehearsed else (page, other):
        without_rehearsals(tab)
    for tab in (page, other):
        choose(tab, "products.csv", as_csv(rows(prefix, 3)))
        tab.get_by_role("button", name=re.compile("Import (these )?3 rows")).wait_for()
    for tab, title, counted in (
        (page, "All rows were imported", "created3"),
        (other, "Nothing new: all rows existed already", "unchanged3"),
    ):
        tab.get_by_role("button", name=re.compile("Import (these )?3 rows")).click()
        expect(tab.get_by_role("heading", name=title)).to_be_visible()
        expect(badge(tab)).to_have_text("done")
        expect(tab.locator("#counts")).to_have_text(counted)
    expect(other.get_by_text("All 3 products existed already and were left unchanged.").first).to_be_visible()
    assert_accessible(other)
    assert len(shop.products(prefix)) == 3


def test_the_import_of_one_tab_leaves_the_file_of_another_one(shop: Shop, page: Page, prefix: str) -> None:
    choose(page, "first.json", rows(prefix, 1))
    page.get_by_role("button", name="Import this 1 row").wait_for()
    other = page.context.new_page()
    other.goto(PAGE)
    choose(other, "second.json", rows(f"{prefix}-b", 2))
    other.get_by_role("button", name="Import these 2 rows").wait_for()
    page.get_by_role("button", name="Import this 1 row").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()

    other.goto(PAGE)
    expect(other.get_by_role("button", name="Import these 2 rows")).to_be_visible()


def test_rows_of_a_dry_run_are_corrected_without_choosing_the_file_again(
    shop: Shop, visitors: Visitors, prefix: str
) -> None:
    """The target allows no rehearsal, so no job has the rows. The corrections stay after a reload."""
    page = visitors.open(viewport=PHONE, color_scheme="dark")
    without_rehearsals(page)
    wrong = [*rows(f"{prefix}-w", 60, category="kayaks"), *rows(f"{prefix}-x", 2, price="cheap")]
    choose(page, "products.csv", as_csv([*rows(prefix, 2), *wrong]))
    page.get_by_role("button", name="Correct the rows here").click()
    expect(page.get_by_role("heading", name="Correct 62 rows")).to_be_focused()
    assert_accessible(page)
    page.get_by_label("New value of category for 60 rows").fill("cookware")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Check again").click()
    expect(page.locator("#check-result")).to_have_text("2 rows of 64 have errors. Nothing has been imported yet.")
    page.reload()
    page.get_by_role("button", name="Correct the rows here").click()
    page.get_by_label("price, line 64").fill("9.50")
    page.get_by_role("button", name="Check again").click()
    expect(page.locator("#check-result")).to_have_text("1 row of 64 has an error. Nothing has been imported yet.")
    page.get_by_role("button", name="Import 63 rows and skip 1").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("created63rejected1")
    products = {row["sku"]: row for row in shop.all_products()}
    assert (products[f"{prefix}-w-0"]["category"], products[f"{prefix}-x-0"]["price"]) == ("cookware", "9.50")


def test_rows_are_corrected_after_the_answer_to_their_rehearsal_was_lost(page: Page, prefix: str) -> None:
    """The corrected rows are another request, so they have another Idempotency-Key."""
    with losing_responses(page, "*rehearse=true*"):
        choose(page, "products.csv", as_csv([*rows(prefix, 2), *rows(f"{prefix}-w", 1, category="kayaks")]))
        page.get_by_role("button", name="Correct the rows here").click()
    page.get_by_label("category, line 4").fill("cookware")
    page.get_by_role("button", name="Check again").click()

    expect(page.get_by_role("button", name="Import these 3 rows")).to_be_visible()


def test_without_a_rehearsal_the_check_says_what_it_cannot_know(shop: Shop, page: Page, prefix: str) -> None:
    without_rehearsals(page)
    wrong = rows(f"{prefix}-w", 120, category="kayaks")  # more than the API lists without being asked
    table = [*rows(prefix, 2), *wrong, *rows(f"{prefix}-x", 1, price="")]
    choose(page, "products.csv", as_csv(table))
    expect(page.locator("#check-result")).to_have_text("121 rows of 123 have errors. Nothing has been imported yet.")
    expect(page.locator("#check-problems li").first).to_contain_text("120 rowscategory: There is no category “kayaks”.")
    expect(page.locator("#check-limits")).to_contain_text("Only the import itself can check: validate")
    assert_accessible(page)
    with page.expect_download() as downloading:
        page.get_by_role("button", name="Download all errors").click()
    assert downloading.value.path().read_text("utf-8-sig").count("kayaks") == 120 * 2  # the value and the reason
    page.reload()
    expect(page.locator("#check-result")).to_contain_text("121 rows of 123 have errors.")  # the file is still there
    page.get_by_role("button", name="Import 2 rows and skip 121").click()

    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_visible()
    assert shop.products(prefix) == [f"{prefix}-0", f"{prefix}-1"]


@pytest.mark.parametrize("twice", ["by a double click", "in the same event loop turn"])
def test_a_double_click_sends_one_request(shop: Shop, page: Page, prefix: str, twice: str) -> None:
    without_rehearsals(page)
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
    """If the server accepted the import but the response was lost, sending it again does not create a second import.

    This is also true after a reload.
    """
    without_rehearsals(page)
    before, sent = shop.jobs(), submissions(page)
    choose(page, "products.json", [*rows(prefix, 2), {"sku": f"{prefix}-wrong"}])
    send = page.get_by_role("button", name="Import 2 rows and skip 1")
    send.wait_for()
    with losing_responses(page):
        send.click()
        expect(page.get_by_text("we do not know whether it received your import")).to_be_visible()
    expect(page.get_by_role("button", name="Choose another file")).to_be_disabled()
    assert shop.jobs() == before + 1
    page.reload()
    page.get_by_role("button", name="Send again").click()
    expect(badge(page)).to_have_text("partly done")

    keys = [request.headers["idempotency-key"] for request in sent]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert shop.jobs() == before + 1
    assert shop.products(prefix) == [f"{prefix}-0", f"{prefix}-1"]
    choose(page, "products.json", rows(f"{prefix}-other", 1))
    page.get_by_role("button", name="Import 1 row").click()
    expect(badge(page)).to_have_text("done")
    assert sent[2].headers["idempotency-key"] != keys[0]


@contextmanager
def losing_responses(page: Page, url: str = "*/products/bulk?*") -> Iterator[None]:
    """The server handles submissions, but the browser does not receive the responses."""
    devtools = page.context.new_cdp_session(page)

    def lose(paused: Any) -> None:
        devtools.send("Fetch.failRequest", {"requestId": paused["requestId"], "errorReason": "ConnectionReset"})

    devtools.on("Fetch.requestPaused", lose)
    devtools.send("Fetch.enable", {"patterns": [{"urlPattern": url, "requestStage": "Response"}]})
    yield
    devtools.send("Fetch.disable")
    devtools.detach()
