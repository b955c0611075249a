"""The API reads every kind of file, says how it read it, and refuses files that would need too much."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from bulk_import.intake.formats import ODS, XLSX
from bulk_import.models import ImportJob
from tests.bulk_import.conftest import Aws, post_bytes, post_rows, product
from tests.bulk_import.intake.spreadsheets.workbooks import MAIN, cell, ods, text, xlsx, xlsx_of_xml

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

HEADER = ["SKU", "name", "Preço", "currency", "category", "Supplier"]
ROW = ["A", "Tent", "12.50", "EUR", "tents", "Nord"]
WORKBOOK = xlsx(HEADER, ROW)
DRY_RUN = "/products/bulk?dry_run=true"

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (WORKBOOK, XLSX),
        (ods([text(name) for name in HEADER], [text(value) for value in ROW]), ODS),
        (WORKBOOK, "text/csv"),
    ],
    ids=["xlsx", "ods", "xlsx that is called csv"],
)
def test_a_workbook_is_read_and_its_columns_are_listed(
    client_of_merchandiser: APIClient, body: bytes, media_type: str
) -> None:
    answer = post_bytes(client_of_merchandiser, DRY_RUN, body, media_type).json()

    assert (answer["rows"], answer["valid_rows"]) == (1, 1)
    assert [(c["column"], c["field"], c["match"]) for c in answer["reading"]["columns"]] == [
        ("SKU", "sku", "name"),
        ("name", "name", "exact"),
        ("Preço", "price", "label"),
        ("currency", "currency", "exact"),
        ("category", "category", "exact"),
    ]
    assert (answer["reading"]["ignored"], answer["reading"]["missing"]) == (["Supplier"], [])


@pytest.mark.django_db(transaction=True)
def test_a_form_with_a_workbook_becomes_a_job_that_says_how_it_was_read(
    client_of_merchandiser: APIClient, aws: Aws
) -> None:
    file = SimpleUploadedFile("products", WORKBOOK, "application/octet-stream")
    answer = client_of_merchandiser.post("/products/bulk", {"file": file}, format="multipart")

    assert answer.status_code == 202
    assert answer.json()["reading"]["ignored"] == ["Supplier"]
    assert client_of_merchandiser.get(answer["Location"]).json()["reading"] == answer.json()["reading"]
    (key,) = aws.payload_keys()
    assert json.loads(aws.payload(key)) == {**product("A", name="Tent", price="12.50"), "Supplier": "Nord"}


def test_columns_that_are_missing_are_listed_with_the_errors(client_of_merchandiser: APIClient) -> None:
    answer = post_bytes(client_of_merchandiser, "/products/bulk", b"sku,name\nA,Tent\n", "text/csv").json()

    assert (answer["code"], answer["reading"]["missing"]) == ("invalid_rows", ["price", "currency", "category"])


def test_values_are_shown_as_they_are_read(client_of_merchandiser: APIClient) -> None:
    body = b"sku;name;price;currency;category\nA;Tenda;12,50;BRL;tents\n"
    answer = post_bytes(client_of_merchandiser, f"{DRY_RUN}&locale=pt-BR", body, "text/csv").json()

    assert answer["valid_rows"] == 1
    assert answer["reading"]["values"] == [{"field": "price", "from": "12,50", "to": "12.50"}]


def test_a_cell_that_is_not_clear_is_an_error_of_its_row_and_can_be_skipped(client_of_merchandiser: APIClient) -> None:
    body = b"sku;name;price;currency;category\nA;Tent;1.200;EUR;tents\n"
    answer = post_bytes(client_of_merchandiser, f"{DRY_RUN}&locale=de-DE", body, "text/csv").json()

    (error,) = answer["errors"]
    assert (error["line"], error["field"], error["code"]) == (2, "price", "ambiguous_number")
    assert 'decimal={"price": ","}' in error["message"]
    answered = f"{DRY_RUN}&locale=de-DE&decimal=%7B%22price%22%3A%22,%22%7D"
    assert post_bytes(client_of_merchandiser, answered, body, "text/csv").json()["valid_rows"] == 1


def test_unknown_fields_of_json_are_listed_or_refused(client_of_merchandiser: APIClient) -> None:
    rows = [product("A", colour="green"), product("B", colour="red", seller="Nord")]
    listed = post_rows(client_of_merchandiser, rows, DRY_RUN).json()
    refused = post_rows(client_of_merchandiser, rows, f"{DRY_RUN}&unknown=reject").json()

    assert (listed["valid_rows"], listed["reading"]) == (2, {"format": "json", "ignored": ["colour", "seller"]})
    errors = [(error["index"], error["field"], error["code"]) for error in refused["errors"]]
    assert errors == [(0, "colour", "unknown_field"), (1, "colour", "unknown_field"), (1, "seller", "unknown_field")]


@pytest.mark.parametrize("query", ["columns=x", "columns=[]", 'columns={"a":1}', 'decimal={"price":";"}', "locale=xx"])
def test_a_parameter_that_makes_no_sense_is_refused(client_of_merchandiser: APIClient, query: str) -> None:
    answer = post_bytes(client_of_merchandiser, f"{DRY_RUN}&{query}", WORKBOOK, XLSX)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_a_field_that_does_not_exist_cannot_be_chosen(client_of_merchandiser: APIClient) -> None:
    answer = post_bytes(client_of_merchandiser, f'{DRY_RUN}&columns={{"SKU":"code"}}', WORKBOOK, XLSX)

    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_field")


def test_an_alias_of_the_settings_is_recognised(client_of_merchandiser: APIClient, settings: Settings) -> None:
    targets = settings.BULK_IMPORT["TARGETS"]
    products = {**targets["products"], "aliases": {"sku": ["Item no."]}}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {**targets, "products": products}}
    body = b"ITEM NO,name,price,currency,category\nA,Tent,12.50,EUR,tents\n"
    answer = post_bytes(client_of_merchandiser, DRY_RUN, body, "text/csv").json()

    assert (answer["valid_rows"], answer["reading"]["columns"][0]["match"]) == (1, "alias")


def test_a_picture_is_called_by_its_name(client_of_merchandiser: APIClient) -> None:
    file = SimpleUploadedFile("products.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "text/csv")
    answer = client_of_merchandiser.post(DRY_RUN, {"file": file}, format="multipart")

    assert (answer.status_code, answer.json()["code"]) == (400, "not_a_table")
    assert answer.json()["message"].startswith("This is a PNG image.")


def corner() -> bytes:
    cells = "".join(
        f'<row r="{row}">{cell(f"{column}{row}", "x")}</row>' for column, row in (("A", 1), ("XFD", 1048576))
    )
    return xlsx_of_xml({"S": f'<worksheet xmlns="{MAIN}"><sheetData>{cells}</sheetData></worksheet>'})


def zeros() -> bytes:
    return xlsx_of_xml({"S": f'<worksheet xmlns="{MAIN}"><sheetData>{" " * 200_000_000}</sheetData></worksheet>'})


def long_texts() -> bytes:
    return xlsx(["sku"], *[["x" * 30_000]] * 6_000)


@pytest.mark.parametrize("make", [corner, zeros, long_texts])
def test_a_workbook_that_needs_too_much_memory_is_refused(
    client_of_merchandiser: APIClient, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulk_import.intake.spreadsheets.workbook_source.MEMORY_BYTES", 160 * 1024 * 1024)
    answer = post_bytes(client_of_merchandiser, "/products/bulk", make(), XLSX)

    assert (answer.status_code, answer.json()["code"]) == (413, "workbook_too_large")
    assert not ImportJob.objects.exists()
