"""Tests of what the page shows, in a real browser: languages, errors, accessibility and malicious rows."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import (
    PAGE,
    PHONE,
    WIDE,
    Shop,
    Visitors,
    as_csv,
    assert_accessible,
    choose,
    rows,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = needs_chromium


def test_malicious_rows_are_shown_as_text(visitors: Visitors, prefix: str) -> None:
    """Markup, direction marks and very long values have no effect in any step."""
    markup = "<script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
    overrides = "\u202e\u2067moc.live\u200f"
    for viewport in (WIDE, PHONE):
        sku = f"{prefix}-{viewport['width']}"
        malicious = [
            *rows(sku, 1, name=markup, category="<script>console.error('ran')</script>"),
            *rows(f"{sku}-b", 1, name=overrides, category="<b onclick=console.error('ran')>"),
            *rows(f"{sku}-c", 1, name="n" * 10_000),
            {**rows(f"{sku}-d", 1)[0], "<style>*{display:none}</style>": markup},
        ]
        page = visitors.open(viewport=viewport)
        choose(page, "<b>products.json", malicious)
        expect(page.get_by_role("heading", name="<b>products.json")).to_be_visible()
        expect(page.locator("#columns-body")).to_contain_text("<style>*{display:none}</style>")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#columns-body select").select_option(label="Do not import")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator("#problem-list")).to_contain_text(
            "There is no category “<script>console.error('ran')</script>”."
        )
        expect(page.locator("#failed-rows")).to_contain_text(markup)
        expect(page.locator("#failed-rows")).to_contain_text("n" * 120 + "…")
        expect(page.locator("#failed-rows bdi", has_text="moc.live").first).to_have_text(overrides)
        assert page.locator("#failed-rows table").evaluate("table => table.clientHeight") < 900
        page.get_by_role("button", name="Correct the rows here").click()
        expect(page.get_by_label("name, line 1")).to_have_value(markup)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("main script:not([type='application/json']), main img, main b").count() == 0


def test_the_page_works_with_the_keyboard_only(page: Page, prefix: str) -> None:
    """A user can choose a file, decide about its columns, check it and import it with Tab, Enter and the arrow keys."""
    page.on("filechooser", lambda _chooser: None)  # prevents Chromium from opening a dialog that would block the test
    tab_to(page, "#file")
    with page.expect_file_chooser() as choosing:
        page.keyboard.press("Enter")
    table = [{**row, "x": "1"} for row in rows(prefix, 3)] + [{**rows(f"{prefix}-b", 1)[0], "category": "kayaks"}]
    choosing.value.set_files({"name": "products.json", "mimeType": "", "buffer": json.dumps(table).encode()})
    expect(page.locator("#columns-title")).to_be_focused()
    expect(page.locator("#announcement")).to_have_text(re.compile("1 column is not recognised"))
    tab_to(page, "#columns-body select")
    page.keyboard.press("ArrowDown")
    tab_to(page, "#columns-next")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Some rows would not be imported")).to_be_focused()
    tab_to(page, "[value=run]")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Some rows were not imported")).to_be_focused()
    expect(page.locator("#announcement")).to_have_text(re.compile("3 of 4 products were created"))
    tab_to(page, "#correct")
    page.keyboard.press("Enter")
    expect(page.locator("#choose-title")).to_be_focused()


def tab_to(page: Page, selector: str) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"the Tab key does not reach {selector}")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"color_scheme": "light"}, id="wide and light"),
        pytest.param(
            {"viewport": PHONE, "color_scheme": "dark", "locale": "pt-BR", "has_touch": True}, id="phone and dark"
        ),
    ],
)
def test_every_state_is_accessible(shop: Shop, visitors: Visitors, prefix: str, options: dict[str, Any]) -> None:
    shop.http.post("/products/bulk", json=rows(f"{prefix}-first", 1)).raise_for_status()
    page = visitors.open(**options, storage_state=None)  # this test signs out, so it needs its own session
    page.locator("#history-jobs li").first.wait_for()
    assert_accessible(page)
    choose(page, "products.csv", "")
    expect(page.locator("#file-trouble .trouble")).to_be_visible()
    assert_accessible(page)
    table = rows(prefix, 60, description="Keeps tea hot. " * 20, note="x")
    table[2]["price"], table[5]["category"] = "", "kayaks"
    choose(page, "products.csv", as_csv(table))
    page.locator("#columns-body select").first.select_option(index=1)
    assert_accessible(page)
    page.locator("#columns-next").click()
    page.locator("#failed-rows table").wait_for()
    assert_accessible(page)
    page.locator("[value=fix]").click()
    page.locator("#grid-rows table").wait_for()
    page.locator(".find summary").click()
    assert_accessible(page)
    with shop.poller_stopped():
        page.locator("[value=run]").click()
        page.locator("[value=cancel]").click()
        assert_accessible(page)
        page.locator("#confirm [value=no]").click()
        assert_accessible(page)
    page.locator("#failed-rows table").wait_for()
    assert_accessible(page)
    page.goto(f"{PAGE}?job={uuid.uuid4()}")
    expect(page.locator("#job-trouble .trouble")).to_be_visible()
    assert_accessible(page)
    page.locator("header button").click()
    expect(page.locator("#id_username")).to_be_visible()
    assert_accessible(page)


def test_the_page_and_the_api_are_translated_to_portuguese(visitors: Visitors, prefix: str) -> None:
    page = visitors.open(locale="pt-BR")
    choose(page, "produtos.csv", as_csv([*rows(prefix, 2), *rows(f"{prefix}-x", 1, price="")]))
    expect(page.get_by_role("heading", name="Algumas linhas não seriam importadas")).to_be_visible()
    expect(page.locator("#problem-list")).to_contain_text("Este campo é obrigatório. a primeira: linha 4")
    page.get_by_role("button", name="Importar estas 2 linhas").click()

    expect(page.get_by_role("heading", name="Algumas linhas não foram importadas")).to_be_visible()
    expect(page.locator("#job-message")).to_contain_text("2 de 3 produtos")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("products.png", "\x89PNG\r\n\x1a\n", "This is a PNG image."),
        ("products.csv", "", "This file is empty."),
        ("products.json", '{"sku": "A"}', "This file does not contain a JSON array."),
        ("products.json", '[{"sku": "A"}, {"sku"]', "The row at index 1 is not valid JSON"),
        ("products.csv", "sku;sku\nA;B\n", "are named “sku”"),
    ],
)
def test_a_file_that_cannot_be_imported_is_explained(page: Page, name: str, content: str, message: str) -> None:
    choose(page, name, content.encode("latin-1"))

    expect(page.get_by_role("alert").filter(has_text=message)).to_be_visible()


def test_a_user_who_may_not_create_products_gets_an_error(shop: Shop, visitors: Visitors, prefix: str) -> None:
    create = "from django.contrib.auth.models import User; User.objects.create_user('visitor', password='visitor')"
    shop.stack.run("manage.py", "shell", "-v0", "-c", create)
    page = visitors.open(storage_state=None, user="visitor")
    choose(page, "products.json", rows(prefix, 1))

    error = page.get_by_role("alert").filter(has_text="You do not have permission to perform this action.")
    expect(error).to_be_visible()


def test_an_unknown_import_is_explained(page: Page) -> None:
    page.goto(f"{PAGE}?job={uuid.uuid4()}")

    expect(page.get_by_role("alert").filter(has_text="We could not find this import.")).to_be_visible()


@pytest.mark.parametrize(("touch", "visible"), [(False, True), (True, False)])
def test_only_devices_with_a_mouse_are_asked_to_drop_a_file(visitors: Visitors, *, touch: bool, visible: bool) -> None:
    page = visitors.open(has_touch=touch, is_mobile=touch)

    expect(page.get_by_text("Drop a file here")).to_be_visible(visible=visible)
    expect(page.locator("label[for=file]")).to_be_visible()


def test_the_size_limit_is_explained(page: Page) -> None:
    """The page checks the size before the upload."""
    page.evaluate("""() => {
        const file = new File(["sku"], "large.csv");
        Object.defineProperty(file, "size", { value: 64 * 1024 * 1024 + 1 });
        const event = new DragEvent("drop", { bubbles: true, cancelable: true });
        Object.defineProperty(event, "dataTransfer", { value: { types: ["Files"], files: [file] } });
        document.body.dispatchEvent(event);
    }""")

    expect(page.get_by_role("alert").filter(has_text="The limit is 64 MB.")).to_be_visible()
