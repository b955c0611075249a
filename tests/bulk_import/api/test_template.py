"""The template of a target: its columns, and that an upload reads it as it is."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from rest_framework import serializers
from rest_framework.test import APIClient

from bulk_import.intake.spreadsheets import template
from products.models import Category, Product
from products.serializers import ProductSerializer
from tests.bulk_import.conftest import make_user

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

PATH = "/products/bulk/template"
FIELDS = [
    *("sku", "name", "description", "price", "currency", "stock"),
    *("category", "weight_kg", "color", "size", "barcode", "is_active"),
]


def download(client: APIClient, name: str = "csv", language: str = "en") -> bytes:
    answer = client.get(f"{PATH}?format={name}", headers={"Accept-Language": language})
    assert answer.status_code == 200, answer.content
    assert answer["Content-Disposition"] == f'attachment; filename="products-template.{name}"'
    content: bytes = answer.content
    return content


def dry_run(client: APIClient, body: bytes, query: str = "") -> dict[str, Any]:
    path = f"/products/bulk?dry_run=true&unknown=reject{query}"
    answer = client.post(path, body, content_type="application/octet-stream" if body[:2] == b"PK" else "text/csv")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("name", ["csv", "xlsx"])
@pytest.mark.parametrize(("language", "locale"), [("en", ""), ("pt-br", "&locale=pt-BR"), ("ja", "&locale=ja-JP")])
def test_a_template_is_uploaded_as_it_is_without_a_question(
    client_of_merchandiser: APIClient, name: str, language: str, locale: str
) -> None:
    """It is read for a user of another language, too."""
    if name == "xlsx":
        pytest.importorskip("xlsxwriter")
    check = dry_run(client_of_merchandiser, download(client_of_merchandiser, name, language), locale)

    assert [column["field"] for column in check["reading"]["columns"]] == FIELDS
    assert (check["reading"]["ignored"], check["reading"]["missing"]) == ([], [])
    assert (check["rows"], check["valid_rows"], check["errors"]) == (1, 1, [])


def test_the_csv_fits_the_language_of_its_reader(client_of_merchandiser: APIClient) -> None:
    english, portuguese = (download(client_of_merchandiser, language=language).decode() for language in ("en", "pt-br"))
    assert english == (
        "\ufeffSKU *,Name *,Description,Price *,Currency *,Stock,Category *,Weight (kg),Color,Size,Barcode,Active\r\n"
        "example,example,,1,BRL,,cookware,,,,,\r\n"
    )
    assert portuguese.startswith("\ufeffSKU *;Nome *;Descrição;Preço *;Moeda *;Estoque;Categoria *;Peso (kg);Cor;")


def test_the_workbook_has_drop_down_lists_and_keeps_leading_zeros(client_of_merchandiser: APIClient) -> None:
    pytest.importorskip("xlsxwriter")
    Category.objects.create(slug="=1+1", name="Formula")
    with zipfile.ZipFile(io.BytesIO(download(client_of_merchandiser, "xlsx"))) as book:
        sheet, lists = (book.read(f"xl/worksheets/sheet{number}.xml").decode() for number in (1, 2))
        texts = book.read("xl/sharedStrings.xml").decode()
        formats = book.read("xl/styles.xml").decode()
        sheets = book.read("xl/workbook.xml").decode()

    assert sheet.count("<dataValidation ") == 2
    assert "<formula1>Choices!$E$1:$E$3</formula1>" in sheet
    assert "<formula1>Choices!$G$1:$G$3</formula1>" in sheet
    assert 'name="Choices" sheetId="2" state="hidden"' in sheets
    assert 'formatCode="@"' in formats  # text
    assert "=1+1" in texts
    assert "<f>" not in sheet + lists


def test_a_field_with_very_many_choices_has_no_list(
    client_of_merchandiser: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("xlsxwriter")
    monkeypatch.setattr(template, "MAX_CHOICES", 1)
    with zipfile.ZipFile(io.BytesIO(download(client_of_merchandiser, "xlsx"))) as book:
        assert "dataValidation" not in book.read("xl/worksheets/sheet1.xml").decode()


class AwkwardSerializer(serializers.ModelSerializer[Product]):
    """Its labels do not say which field they mean, and some of its values do not fit into a cell."""

    first = serializers.CharField(label="=Text", max_length=3, source="name")
    second = serializers.CharField(label="Text", required=False, source="color")
    name = serializers.CharField(label="Size", required=False)
    size = serializers.CharField(label="Name", required=False)
    tags = serializers.ListField(required=False)
    parts = ProductSerializer(many=True)

    class Meta:
        model = Product
        fields = ("id", "first", "second", "name", "size", "tags", "parts")


def test_a_label_that_an_upload_would_not_recognise_is_replaced_by_the_name(
    client_of_merchandiser: APIClient, settings: Settings
) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "serializer": f"{__name__}.AwkwardSerializer"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    lines = download(client_of_merchandiser).decode("utf-8-sig").splitlines()

    assert lines == ["first *,second,name,size,Parts *", "exa,,,,"]


def test_only_users_who_may_import_get_the_template(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    reader = APIClient()
    assert reader.get(PATH).status_code in {401, 403}
    reader.force_login(make_user("reader"))
    assert reader.get(PATH).status_code == 403
    merchandiser.user_permissions.set([Permission.objects.get(codename="change_product")])
    assert client_of_merchandiser.get(PATH).status_code == 200


def test_the_list_of_imports_names_the_template(client_of_merchandiser: APIClient) -> None:
    url = client_of_merchandiser.get("/products/bulk").json()["template"]
    assert url == f"http://testserver{PATH}"
    assert client_of_merchandiser.get(url).content == download(client_of_merchandiser)


def test_without_xlsxwriter_a_workbook_is_refused_and_a_csv_works(
    client_of_merchandiser: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template, "find_spec", lambda _name: None)
    answer = client_of_merchandiser.get(f"{PATH}?format=xlsx")
    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")
    assert "format=csv" in answer.json()["message"]
    assert download(client_of_merchandiser)


@pytest.mark.parametrize(("query", "status"), [("?format=pdf", 400), ("?format=", 400), ("?sheet=1", 400)])
def test_wrong_parameters_are_refused(client_of_merchandiser: APIClient, query: str, status: int) -> None:
    assert client_of_merchandiser.get(f"{PATH}{query}").status_code == status
