"""Tests of the step "columns" in a real browser: which files are understood, and what the page asks about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import needs_chromium
from tests.browser.import_page.steps import PHONE, Shop, Visitors, as_csv, assert_accessible, choose, rows
from tests.bulk_import.intake.spreadsheets.workbooks import ods, text, xlsx

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

pytestmark = needs_chromium

HEADER = ["sku", "name", "price", "currency", "category"]


def nothing_is_asked(page: Page) -> None:
    """The page imports the file without any question."""


def pick(answer: str) -> Callable[[Page], None]:
    """Answer the question about the file with the choice that contains this text."""

    def answer_question(page: Page) -> None:
        page.locator("#question label", has_text=answer).click()
        page.get_by_role("button", name="Continue").click()

    return answer_question


def ignore(column: str) -> Callable[[Page], None]:
    def decide(page: Page) -> None:
        expect(page.get_by_role("button", name="Continue")).to_be_disabled()
        page.get_by_label(column, exact=True).select_option(label="Do not import")
        page.get_by_role("button", name="Continue").click()

    return decide


def files(prefix: str) -> dict[str, tuple[bytes, Callable[[Page], None]]]:
    """Return the content of files with one row each, and the answer to the question that the page may ask."""

    def row(name: str = "Tent", price: str = "12.50") -> list[str]:
        number = len(found)
        return [f"{prefix}-{number}", name, price, "BRL", "tents"]

    def csv(*lines: list[str], separator: str = ";") -> str:
        return "\r\n".join(separator.join(cells) for cells in lines) + "\r\n"

    translated = ["SKU", "Nome", "Preço", "Moeda", "Categoria"]
    found: dict[str, tuple[bytes, Callable[[Page], None]]] = {}
    found["excel.xlsx"] = xlsx(HEADER, row()), nothing_is_asked
    found["sheets.xlsx"] = xlsx(HEADER, row(), Old=[["sku"], ["x"]]), pick("Products")
    found["libreoffice.ods"] = ods([*map(text, HEADER)], [*map(text, row())]), nothing_is_asked
    found["windows.csv"] = csv(HEADER, row("Barraca São João")).encode("cp1252"), pick("Barraca São João")
    found["utf-16.csv"] = csv(HEADER, row("Pão"), separator="\t").encode("utf-16"), nothing_is_asked
    found["title.csv"] = ("Price list;;;;\r\n\r\n" + csv(HEADER, row())).encode(), nothing_is_asked
    found["brazil.csv"] = csv(translated, row(price="12,50")).encode(), nothing_is_asked
    found["CAPITALS.CSV"] = csv([name.upper() for name in HEADER], row()).encode(), nothing_is_asked
    found["supplier.csv"] = csv([*translated, "Fornecedor"], [*row(), "Norte"]).encode(), ignore("Fornecedor")
    found["sep.tsv"] = ("sep=,\r\n" + csv(HEADER, row(), separator=",")).encode(), nothing_is_asked
    twins = [[*HEADER[1:], "SKU", "Código SKU"], [*row()[1:], row()[0], "x"]]
    found["twins.csv"] = csv(*twins).encode(), ignore("Código SKU")
    found["rivals.csv"] = csv(["SKU", "s k u", *HEADER[1:]], [row()[0], "x", *row()[1:]]).encode(), pick("SKU")
    nameless = csv([*translated[:4], "Descrição", "Stock", "Cor"], [*row()[:4], "Leve", "5", "azul"])
    nameless = nameless.replace("Descrição", "Categoria;Descrição").replace("Leve", "tents;Leve")
    found["portuguese.csv"] = nameless.encode(), nothing_is_asked
    return found


def test_files_of_many_kinds_are_imported_with_at_most_one_question_each(shop: Shop, page: Page, prefix: str) -> None:
    chosen = files(prefix)
    for name, (content, answer) in chosen.items():
        choose(page, name, content)
        answer(page)
        page.get_by_role("button", name="Import this 1 row").click()
        expect(page.get_by_role("heading", name="All rows were imported"), name).to_be_visible()
        expect(page.locator("#job-facts")).to_contain_text(name)

    assert shop.products(prefix) == sorted(f"{prefix}-{number}" for number in range(len(chosen)))
    products = shop.all_products()
    mine = {product["sku"]: product for product in products if product["sku"].startswith(prefix)}
    assert {product["price"] for product in mine.values()} == {"12.50"}
    last = mine[f"{prefix}-{len(chosen) - 1}"]
    assert (last["description"], last["stock"], last["color"]) == ("Leve", 5, "azul")  # no column has disappeared


def test_nothing_is_imported_while_a_column_is_not_decided(shop: Shop, visitors: Visitors, prefix: str) -> None:
    """The decisions are remembered for the next file with the same columns, and can be changed."""
    page = visitors.open(viewport=PHONE)
    table = [{**row, "Detail": "For two", "Supplier": "Norte"} for row in rows(prefix, 2)]
    choose(page, "first.csv", as_csv(table))
    expect(page.locator("#columns-state")).to_have_text(
        "2 columns are not recognised. Choose their fields, or do not import them."
    )
    assert_accessible(page)
    page.get_by_label("Detail", exact=True).select_option(label="SKU (sku)")
    page.get_by_label("Supplier", exact=True).select_option(label="Do not import")
    expect(page.locator("#columns-state")).to_contain_text("Two columns are read as SKU (sku).")
    page.get_by_label("Detail", exact=True).select_option(label="Description (description)")
    page.get_by_label("price", exact=True).select_option(label="Do not import")
    expect(page.locator("#columns-state")).to_have_text(re.compile(r"There is no column for Price \(price\)"))
    expect(page.get_by_role("button", name="Continue")).to_be_disabled()
    page.get_by_label("price", exact=True).select_option(label="Price (price)")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()

    page.get_by_role("link", name="Change the columns").click()
    expect(page.get_by_label("Detail", exact=True)).to_have_value("description")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="All rows would be imported")).to_be_visible()
    choose(page, "second.csv", as_csv(table))
    page.get_by_role("button", name="Import these 2 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    product = next(row for row in shop.all_products() if row["sku"].startswith(prefix))
    assert product["description"] == "For two"


def test_a_number_that_can_mean_two_things_is_asked_about(shop: Shop, page: Page, prefix: str) -> None:
    """Nothing is imported before the user has said what 1.200 means. It is the only question: 12,50 is clear.

    The check shows how the first value was read.
    """
    table = [{**row, "price": "12,50", "weight_kg": "1.200"} for row in rows(prefix, 2)]
    choose(page, "weights.csv", as_csv(table))
    question = page.get_by_role("group", name="What does “1.200” in weight_kg mean?")
    expect(question).to_have_text(re.compile("mean.12001.2"))
    expect(page.locator("#columns-state")).to_have_text("Choose what the numbers mean.")
    expect(page.get_by_label("Create new items")).to_be_checked()
    assert_accessible(page)
    question.get_by_label("1.2", exact=True).check()
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#job-reading")).to_contain_text("price: 12,50 → 12.50")
    page.get_by_role("button", name="Import these 2 rows").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()

    products = [product for product in shop.all_products() if product["sku"].startswith(prefix)]
    assert {product["weight_kg"] for product in products} == {"1.200"}


FIND = """async ([module, texts]) => {
    const { findLocale } = await import(module.replace("main.js", "locales.js"));
    return findLocale(texts, "en-GB");
}"""


@pytest.mark.parametrize(
    ("texts", "locale"),
    [
        (["12,50"], "de-DE"),  # the same in each locale with a decimal comma
        (["12,50", "verdadeiro"], "pt-BR"),
        (["R$ 1.234,50"], "pt-BR"),
        (["1,234.50"], "en-GB"),  # the locale of the user comes first
        (["1,200"], ""),  # 1200 or 1.2
        (["03/04/2026"], ""),  # March or April
        (["31/12/2026"], "en-GB"),
        (["12/31/2026"], "en-US"),
        (["1,234.50", "12/31/2026"], "en-US"),
        (["12,50", "1,234.50"], ""),  # no locale reads both
        (["はい"], "ja-JP"),
    ],
)
def test_the_locale_of_a_file_is_found_only_if_its_values_mean_one_thing(
    page: Page, texts: list[str], locale: str
) -> None:
    module = page.locator("script[type=module]").get_attribute("src")

    assert page.evaluate(FIND, [module, texts]) == locale


def test_a_number_of_an_unknown_locale_is_asked_about(shop: Shop, page: Page, prefix: str) -> None:
    choose(page, "prices.csv", as_csv(rows(prefix, 1, price="1,200")))
    expect(page.locator("#columns-state")).to_have_text("Choose how numbers and dates are written.")
    assert_accessible(page)
    page.get_by_label("Numbers and dates are written as in").select_option("en-GB")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Import this 1 row").click()
    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    assert next(row["price"] for row in shop.all_products() if row["sku"] == f"{prefix}-0") == "1200.00"


def test_a_file_of_few_columns_can_change_what_exists(shop: Shop, page: Page, prefix: str) -> None:
    existing = rows(prefix, 2)
    for row in existing:
        assert shop.http.post("/products/", json=row).status_code == 201
    changes = [{"sku": existing[0]["sku"], "price": "77.70"}, {"sku": existing[1]["sku"], "price": "19.90"}]

    choose(page, "prices.csv", as_csv(changes))
    expect(page.locator("#columns-state")).to_contain_text("There is no column for Name (name), Currency")
    page.get_by_label("Only change items that exist").check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Import these 2 rows").click()

    expect(page.get_by_role("heading", name="All rows were imported")).to_be_visible()
    expect(page.locator("#counts")).to_have_text("updated1unchanged1")
    expect(page.locator("#failures")).to_be_hidden()
