"""Rows are validated like the target's serializer does, except for the rules that need the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail
from rest_framework.test import APIRequestFactory
from rest_framework.validators import UniqueValidator
from rest_framework.views import APIView

from bulk_import.conf import Target
from bulk_import.errors import flatten_errors
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake import validation_result
from bulk_import.intake.payload import Payload
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.row_validator import RowValidator
from bulk_import.intake.validation import MAX_STORED_ERRORS, stored_errors, validate_rows
from bulk_import.intake.validation_result import MAX_LISTED_ERRORS, ValidationResult
from bulk_import_wire.problems import MAX_MESSAGE_CHARACTERS, MAX_NAME_CHARACTERS
from products.models import Category, Product
from products.serializers import ProductSerializer
from tests.bulk_import.conftest import product

if TYPE_CHECKING:
    from pytest_django import DjangoAssertNumQueries, Settings

if TYPE_CHECKING:
    Sample = serializers.Serializer[Any]
    CategoryField = serializers.SlugRelatedField[Category]
    CategoryKey = serializers.PrimaryKeyRelatedField[Category]
else:
    Sample = serializers.Serializer
    CategoryField = serializers.SlugRelatedField
    CategoryKey = serializers.PrimaryKeyRelatedField


class MakerSerializer(Sample):
    name = serializers.CharField(max_length=5)
    email = serializers.EmailField(validators=[UniqueValidator(Product.objects.all())], required=False)
    category = CategoryField(slug_field="slug", queryset=Category.objects.all(), required=False)

    def validate(self, attrs: Any) -> Any:
        raise serializers.ValidationError(f"{attrs} may clash with what is there")


class CatalogueSerializer(Sample):
    """A product of another shop, with nested and related fields."""

    title = serializers.CharField(max_length=5)
    tags = serializers.ListField(child=serializers.CharField(max_length=3), max_length=2, required=False)
    maker = MakerSerializer(required=False)
    suppliers = MakerSerializer(many=True, required=False)
    sizes = serializers.DictField(child=serializers.IntegerField(), required=False)
    categories = CategoryKey(many=True, queryset=Category.objects.all(), required=False)
    owner_id = CategoryKey(source="owner", queryset=Category.objects.all(), allow_null=True, required=False)
    props = serializers.JSONField(validators=[UniqueValidator(Product.objects.all())], required=False)
    seen = serializers.DateTimeField(read_only=True)

    def validate_title(self, title: str) -> str:
        if title == "crash":
            raise KeyError(title)
        if title == "no":
            raise serializers.ValidationError("Choose another title.", code="bad_title")
        return title

    def validate_owner_id(self, owner: Any) -> Any:
        raise serializers.ValidationError(f"{owner} was looked up")


PRODUCTS = Target("products", "products:product-list", "products.serializers.ProductSerializer")
CATALOGUE = Target("products", "products:product-list", f"{__name__}.CatalogueSerializer")

# Each value breaks a rule of its field, or is unusual but allowed.
FIELD_VALUES: list[tuple[str, Any]] = [
    ("sku", ""),
    ("sku", "   "),
    ("sku", None),
    ("sku", 17),
    ("sku", True),
    ("sku", ["A"]),
    ("sku", "S" * 65),
    ("name", {"en": "Tent"}),
    ("name", "N" * 201),
    ("description", None),
    ("description", ""),
    ("price", "12.345"),
    ("price", "123456789.00"),
    ("price", "-1"),
    ("price", "free"),
    ("price", "NaN"),
    ("price", ""),
    ("price", None),
    ("price", 12.5),
    ("price", True),
    ("price", "9" * 1001),
    ("currency", "GBP"),
    ("currency", ""),
    ("currency", ["EUR"]),
    ("stock", -1),
    ("stock", 1.5),
    ("stock", "7"),
    ("stock", "many"),
    ("stock", 2**31),
    ("stock", None),
    ("weight_kg", "0"),
    ("weight_kg", "0.0001"),
    ("weight_kg", None),
    ("color", "C" * 41),
    ("size", None),
    ("barcode", "123"),
    ("barcode", "2000000000009"),
    ("barcode", "2000000000008"),
    ("barcode", ""),
    ("barcode", None),
    ("is_active", "maybe"),
    ("is_active", None),
    ("is_active", "false"),
    ("id", 7),
    ("created_at", "never"),
    ("unknown", "field"),
]


def request() -> Any:
    return APIView().initialize_request(APIRequestFactory().post("/"))


def errors_of(row: Any, target: Target = PRODUCTS) -> list[dict[str, Any]]:
    errors, _validated = RowValidator(target, request()).validate({0: row})
    return errors.get(0, [])


def validate(*rows: Any, target: Target = PRODUCTS) -> ValidationResult:
    return validate_rows(target, [RawRow(json.dumps(row).encode()) for row in rows], request())


def drf_errors_of(row: Any) -> list[dict[str, Any]]:
    """Return the errors of the serializer itself, which uses the database."""
    serializer = ProductSerializer(data=row)
    if serializer.is_valid():
        return []
    return [
        {"field": name, "code": error.code, "message": str(error)}
        for name, errors in serializer.errors.items()
        for error in errors
    ]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(("name", "value"), FIELD_VALUES)
def test_a_field_has_the_same_errors_as_in_the_serializer(name: str, value: Any) -> None:
    row = {**product("T-1"), name: value}

    assert errors_of(row) == drf_errors_of(row)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("missing", ["sku", "name", "price", "currency", "stock", "category", "is_active"])
def test_a_missing_field_has_the_same_errors_as_in_the_serializer(missing: str) -> None:
    row = product("T-1", is_active=True, stock=1)
    del row[missing]

    assert errors_of(row) == drf_errors_of(row)


@pytest.mark.usefixtures("shop")
def test_errors_are_in_the_active_language() -> None:
    row = product("T-1", price="free")

    with override("pt-br"):
        assert errors_of(row) == drf_errors_of(row)
        assert errors_of(row) == [
            {"field": "price", "code": "invalid", "message": "Isto não é um número. Escreva assim: 12.50."}
        ]


@pytest.mark.django_db
@given(values=st.lists(st.sampled_from(FIELD_VALUES), min_size=1, max_size=6).map(dict))
def test_any_mix_of_invalid_fields_has_the_same_errors_as_in_the_serializer(values: dict[str, Any]) -> None:
    Category.objects.get_or_create(slug="tents")
    row = {**product("T-1"), **values}

    assert errors_of(row) == drf_errors_of(row)


@pytest.mark.parametrize("row", [None, 7, "sku", [], [{"sku": "A"}], True])
def test_a_row_that_is_not_an_object_has_one_error(row: Any) -> None:
    [error] = errors_of(row)

    assert error["field"] is None
    assert error["code"] == ("null" if row is None else "invalid")


@pytest.mark.usefixtures("shop")
def test_a_sku_that_exists_is_left_to_the_endpoint() -> None:
    Product.objects.create(sku="T-1", price=1, currency="EUR", category=Category.objects.get(slug="tents"))

    assert drf_errors_of(product("T-1"))[0]["code"] == "unique"
    assert errors_of(product("T-1")) == []


@pytest.mark.usefixtures("shop")
def test_an_unknown_category_is_left_to_the_endpoint() -> None:
    assert drf_errors_of(product("T-1", category="boats"))[0]["code"] == "does_not_exist"
    assert errors_of(product("T-1", category="boats")) == []


@pytest.mark.usefixtures("shop")
def test_a_rule_about_a_related_object_is_left_to_the_endpoint() -> None:
    Category.objects.create(slug="skis", is_open=False)

    assert drf_errors_of(product("T-1", category="skis"))[0]["code"] == "category_closed"
    assert errors_of(product("T-1", category="skis")) == []


@pytest.mark.usefixtures("shop")
def test_a_rule_over_several_fields_is_left_to_the_endpoint() -> None:
    assert drf_errors_of(product("T-1", price="0.00", is_active=True))[0]["code"] == "price_required"
    assert errors_of(product("T-1", price="0.00", is_active=True)) == []


def test_a_related_field_that_is_missing_or_null_is_an_error() -> None:
    without = product("T-1")
    del without["category"]

    assert [(error["field"], error["code"]) for error in errors_of(without)] == [("category", "required")]
    assert [(error["field"], error["code"]) for error in errors_of(product("T-1", category=None))] == [
        ("category", "null")
    ]


def test_every_kind_of_related_field_is_left_to_the_endpoint() -> None:
    """A list of objects, a field with another source, and a nullable field with the target's own rule."""
    assert errors_of({"title": "Tent", "categories": [1, 2], "owner_id": 3}, CATALOGUE) == []
    assert errors_of({"title": "Tent", "categories": [], "owner_id": None}, CATALOGUE) == []


@pytest.mark.django_db
def test_validation_needs_no_database_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    maker = {"name": "Ann", "email": "ann@makers.example", "category": "tents"}

    with django_assert_num_queries(0):
        validate(*(product(f"T-{number}", category=f"c-{number}") for number in range(20)), {"sku": None})
        validate(
            {"title": "Tent", "maker": maker, "suppliers": [maker], "categories": [1], "owner_id": 2}, target=CATALOGUE
        )


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        ({"tags": ["ok", "long"]}, "tags.1", "max_length"),
        ({"tags": ["a", "b", "c"]}, "tags", "max_length"),
        ({"tags": "a"}, "tags", "not_a_list"),
        ({"maker": {}}, "maker.name", "required"),
        ({"maker": None}, "maker", "null"),
        ({"maker": []}, "maker", "invalid"),
        ({"maker": {"name": "Ann", "email": "no"}}, "maker.email", "invalid"),
        ({"maker": {"name": "Ann", "category": None}}, "maker.category", "null"),
        ({"suppliers": [{"name": "Ann"}, {"name": "Bernard"}]}, "suppliers.1.name", "max_length"),
        ({"suppliers": [{"name": "Ann"}, 7]}, "suppliers.1", "invalid"),
        ({"suppliers": {}}, "suppliers", "not_a_list"),
        ({"sizes": {"S": 1, "M": "x"}}, "sizes.M", "invalid"),
        ({"title": "no"}, "title", "bad_title"),
    ],
)
def test_a_nested_error_has_a_dotted_path(fields: dict[str, Any], path: str, code: str) -> None:
    row = {"title": "Tent", **fields}

    assert [(error["field"], error["code"]) for error in errors_of(row, CATALOGUE)] == [(path, code)]


def test_a_row_is_valid_if_the_target_s_code_raises_an_unexpected_exception(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged without the content of the row."""
    validator = RowValidator(CATALOGUE, request())

    errors, validated = validator.validate({0: {"title": "crash"}, 1: {"title": "Tents of all sizes"}})

    assert (list(errors), validated) == ([1], {0: {}, 1: {}})
    assert caplog.messages == ["The serializer CatalogueSerializer raised an exception for a row"]


def test_unique_values_that_cannot_be_compared_are_not_reported() -> None:
    rows = [{"title": "Tent", "props": {"a": [1]}}] * 2

    assert validate(*rows, target=CATALOGUE).invalid_rows == 0


def test_a_duplicate_of_a_unique_value_names_the_first_row() -> None:
    result = validate(product("T-1"), product("T-2"), product("T-1"))

    [error] = result.errors
    assert (error["index"], error["field"], error["code"], error["first_index"]) == (2, "sku", "duplicate", 0)


def test_an_error_names_the_index_of_its_row() -> None:
    result = validate(product("T-1"), product("T-2", price="x"), product("T-3"), {})

    assert {error["index"] for error in result.errors} == {1, 3}
    assert (result.rows, result.invalid_rows) == (4, 2)


def test_an_error_names_the_line_where_the_format_has_lines() -> None:
    result = validate_rows(PRODUCTS, [RawRow(b"{}", line=7)], request())

    assert {error["line"] for error in result.errors} == {7}
    assert "line" not in validate({}).errors[0]


def test_only_the_first_errors_are_listed_but_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_result, "MAX_LISTED_ERRORS", 7)
    each = len(errors_of({}))

    result = validate(*[{}] * 5)

    assert each > 2
    assert (len(result.errors), result.error_count, result.invalid_rows) == (7, 5 * each, 5)
    assert [error["index"] for error in result.errors] == [0] * each + [1] * (7 - each)


def test_up_to_a_hundred_errors_are_listed() -> None:
    assert len(validate(*[None] * 150).errors) == MAX_LISTED_ERRORS == 100


def test_an_import_with_invalid_rows_is_refused_with_both_counts() -> None:
    with pytest.raises(BadImport, match="2 rows of 3 are not valid") as refusal:
        validate({}, product("T-1"), None).check_valid(skip_invalid=False)

    assert (refusal.value.status, refusal.value.extra["invalid_rows"]) == (400, 2)
    assert refusal.value.extra["error_count"] == len(refusal.value.extra["errors"])


@pytest.mark.parametrize("raw", [b"[" * 50_000 + b"]" * 50_000, b'"' + b"x" * 70_000, b"{", b"\xff", b""])
def test_a_line_that_cannot_be_read_is_an_error_and_cannot_be_skipped(raw: bytes) -> None:
    """In JSON Lines, nothing has parsed the row before."""
    rows = [RawRow(json.dumps(product("T-1")).encode(), 1), RawRow(raw, 2)]

    result = validate_rows(PRODUCTS, rows, request())

    assert [(error["index"], error["line"]) for error in result.errors] == [(1, 2)]
    with pytest.raises(BadImport):
        result.check_valid(skip_invalid=True)


@pytest.mark.parametrize("row", [None, {}, "\0", [[]], 10**40])
def test_a_row_that_can_be_read_can_be_skipped(row: Any) -> None:
    validate(row, product("T-1")).check_valid(skip_invalid=True)


def test_skipping_is_refused_if_no_row_is_valid() -> None:
    with pytest.raises(BadImport):
        validate({}, {}).check_valid(skip_invalid=True)


def test_only_the_first_errors_of_a_row_are_stored_and_their_texts_are_cut() -> None:
    error = {"field": "f" * 5000, "code": "duplicate", "message": "m" * 5000, "first_index": 7}
    stored = stored_errors([error] * 5000)

    assert len(stored) == MAX_STORED_ERRORS
    assert (len(stored[0]["field"]), len(stored[0]["message"])) == (MAX_NAME_CHARACTERS, MAX_MESSAGE_CHARACTERS)
    assert (stored[0]["code"], stored[0]["first_index"]) == ("duplicate", 7)


def test_a_valid_row_is_stored_on_one_line_with_its_numbers_as_they_were_sent() -> None:
    raw = b'{ "sku": "T-1", "name": "T\\u00e9nt", "price": 12.50,\n "currency": "EUR", "category": "tents" }'

    with Payload() as payload:
        validate_rows(PRODUCTS, [RawRow(raw)], request(), payload)
        line = payload.open().read()

    assert line == b'{"sku":"T-1","name":"T\\u00e9nt","price":12.50,"currency":"EUR","category":"tents"}\n'


def test_more_rows_than_allowed_are_refused(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS": 2}

    assert validate(None, None).rows == 2
    with pytest.raises(BodyTooLarge, match="more than 2 rows") as refusal:
        validate(None, None, None)
    assert (refusal.value.status, refusal.value.code) == (413, "too_many_rows")


def test_no_rows_at_all_are_refused() -> None:
    with pytest.raises(BadImport, match="no rows"):
        validate()


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({}, []),
        (["wrong"], [(None, "wrong")]),
        ({"a": ["x", "y"]}, [("a", "x"), ("a", "y")]),
        ({"non_field_errors": ["x"], "a": {"non_field_errors": ["y"]}}, [(None, "x"), ("a", "y")]),
        ({"a": [{}, {"b": ["x"]}]}, [("a.1.b", "x")]),
        ([{"a": ["x"]}, {}, {"b": ["y"]}], [("0.a", "x"), ("2.b", "y")]),
        ({"a": {1: ["x"]}}, [("a.1", "x")]),
        ({"a": ErrorDetail("x", "odd")}, [("a", "x")]),
        ({"a": [""]}, [("a", "Invalid value.")]),
    ],
)
def test_nested_errors_are_flattened_to_dotted_paths(detail: Any, expected: list[Any]) -> None:
    assert [(error["field"], error["message"]) for error in flatten_errors(detail)] == expected


def test_an_error_without_a_code_gets_the_code_invalid() -> None:
    assert [error["code"] for error in flatten_errors({"a": [ErrorDetail("x", "odd"), "plain"]})] == ["odd", "invalid"]
