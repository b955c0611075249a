"""A dry run compares unique values and related objects with the database, many rows with one query."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, models
from django.db.models.expressions import RawSQL
from django.test.utils import CaptureQueriesContext
from rest_framework import serializers
from rest_framework.validators import UniqueTogetherValidator, UniqueValidator

from bulk_import.conf import Target
from bulk_import.intake.database_checks import ROWS_PER_QUERY
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.validation import validate_rows
from products.models import Category, Product
from products.serializers import ProductSerializer
from tests.bulk_import.conftest import post_rows, product
from tests.bulk_import.intake.test_validation import PRODUCTS, request

if TYPE_CHECKING:
    from bulk_import.intake.validation_result import ValidationResult

if TYPE_CHECKING:
    Sample = serializers.Serializer[Any]
    Slugs = serializers.SlugRelatedField[Category]
    Keys = serializers.PrimaryKeyRelatedField[Category]
else:
    Sample = serializers.Serializer
    Slugs = serializers.SlugRelatedField
    Keys = serializers.PrimaryKeyRelatedField

SHAPES: list[Any] = ["tents", "boats", "TENTS", " tents", "", None, 7, True, 1.5, [], ["tents"], {"slug": "tents"}]
SHAPES += ["1", "01", " 1 ", 1, 0, -1, 2**31, 2**63, 10**29, "9" * 5000, "x" * 300, "1.0"]


def check(*rows: Any, target: Target = PRODUCTS) -> ValidationResult:
    raw = [RawRow(json.dumps(row).encode()) for row in rows]
    return validate_rows(target, raw, request(), check_database=True)


def places(result: ValidationResult) -> list[tuple[Any, ...]]:
    return [(error["index"], error["field"], error["code"], error["message"]) for error in result.errors]


def target(serializer: str) -> Target:
    return Target("products", "products:product-list", f"{__name__}.{serializer}")


@pytest.fixture(autouse=True)
def tents(shop: None) -> Category:
    return Category.objects.get(slug="tents")


@pytest.fixture
def existing(tents: Category) -> Product:
    fields = {"price": 1, "currency": "EUR", "category": tents, "barcode": "2000000000008"}
    return Product.objects.create(sku="T-1", **fields)


class RelatedSerializer(Sample):
    slug = Slugs(slug_field="slug", queryset=Category.objects.all(), required=False, allow_null=True)
    slugs = Slugs(slug_field="slug", queryset=Category.objects.all(), required=False, many=True)
    key = Keys(queryset=Category.objects.all(), required=False, allow_null=True)
    keys = Keys(queryset=Category.objects.all(), required=False, many=True)


@pytest.mark.parametrize("name", ["slug", "slugs", "key", "keys"])
@pytest.mark.parametrize("value", SHAPES, ids=lambda value: str(type(value).__name__))
def test_a_related_value_has_the_errors_of_the_serializer(name: str, value: Any, tents: Category) -> None:
    """A value of an unusual type may be left to the endpoint. No value is refused that the serializer accepts."""
    if value in (1, "1", "01", " 1 ") and value is not True:
        value = type(value)(str(value).replace("1", str(tents.pk)))
    row = {name: [value] if name.endswith("s") else value}
    serializer = RelatedSerializer(data=row)
    serializer.is_valid()
    expected = [(0, name, error.code, str(error)) for errors in serializer.errors.values() for error in errors]

    found = places(check(row, target=target("RelatedSerializer")))

    is_compared = type(value) in {str, int} and value != ""
    assert found == expected or (found == [] and not is_compared)


def test_rows_that_exist_or_name_unknown_objects_are_reported_in_order(existing: Product) -> None:
    rows = [
        product("A", category="boats"),
        product("B", price="x"),
        product("T-1", barcode=existing.barcode),
        product("C", barcode=""),
        product("A", category="boats"),
        product("D", barcode=None),
    ]
    result = check(*rows)

    assert places(result)[:2] == [
        (0, "category", "does_not_exist", "There is no category “boats”."),
        (1, "price", "invalid", "This is not a number. Write it like this: 12.50."),
    ]
    assert [(index, field, code) for index, field, code, _message in places(result)[2:]] == [
        (2, "sku", "unique"),
        (2, "barcode", "unique"),
        (4, "sku", "duplicate"),
    ]
    assert {message for index, _field, _code, message in places(result) if index == 2} == {
        str(error) for errors in drf_errors(rows[2]).values() for error in errors
    }
    assert (result.rows, result.invalid_rows) == (6, 4)


def drf_errors(row: Any) -> dict[str, Any]:
    serializer = ProductSerializer(data=row)
    serializer.is_valid()
    return dict(serializer.errors)


def test_one_query_per_field_checks_many_rows() -> None:
    rows = [product(f"T-{number}", category=("tents", "cookware")[number % 2]) for number in range(ROWS_PER_QUERY + 1)]

    with CaptureQueriesContext(connection) as queries:
        assert check(*rows).invalid_rows == 0

    statements = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    tables = [Product._meta.db_table, Category._meta.db_table]
    assert [sum(f'FROM "{table}"' in sql for sql in statements) for table in tables] == [2, 2]
    assert len(statements) == 4


class ShopQuerySet(models.QuerySet[Category]):
    """Like a column with a collation that ignores the case of letters."""

    def get(self, *arguments: Any, **filters: Any) -> Any:
        return super().get(*arguments, **{f"{name}__iexact": value for name, value in filters.items()})


class OpenCategories(Slugs):
    def get_queryset(self) -> Any:
        assert self.context["request"] is not None
        return Category.objects.filter(is_open=True)


class UpperCase(Slugs):
    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(data.lower())


class NarrowSerializer(Sample):
    """Its querysets are smaller than their tables, and some of its rules are not DRF's own."""

    sku = serializers.CharField(validators=[UniqueValidator(Product.objects.filter(currency="EUR"), "Taken.")])
    name = serializers.CharField(validators=[UniqueValidator(Product.objects.all(), lookup="iexact")], required=False)
    open = OpenCategories(slug_field="slug", queryset=Category.objects.all(), source="opened", required=False)
    upper = UpperCase(slug_field="slug", queryset=Category.objects.all(), required=False)
    by_name = Slugs(slug_field="products__sku", queryset=Category.objects.all(), required=False)
    caseless = Slugs(slug_field="slug", queryset=ShopQuerySet(Category), required=False)
    first = serializers.CharField(source="ean", validators=[UniqueValidator(Product.objects.all())], required=False)
    second = serializers.CharField(source="ean", required=False)
    maker = RelatedSerializer(required=False)

    class Meta:
        validators = [UniqueTogetherValidator(Product.objects.all(), ["sku", "name"])]

    def validate_open(self, category: Any) -> Any:
        raise serializers.ValidationError(f"{category} is never open")


def test_the_querysets_of_the_serializer_decide(existing: Product) -> None:
    Category.objects.create(slug="skis", is_open=False)
    Product.objects.create(sku="USD-1", price=1, currency="USD", category=existing.category)

    rows = [{"sku": "T-1"}, {"sku": "USD-1"}, {"sku": "A", "open": "skis"}, {"sku": "B", "open": "tents"}]
    result = check(*rows, target=target("NarrowSerializer"))

    assert places(result) == [
        (0, "sku", "unique", "Taken."),
        (2, "open", "does_not_exist", "Object with slug=skis does not exist."),
    ]


def test_the_answer_says_what_only_the_endpoint_can_check() -> None:
    result = check({"sku": "A", "caseless": "TENTS"}, target=target("NarrowSerializer"))

    assert result.errors == []
    assert result.database_checks
    assert result.database_checks.fields == ["open", "sku"]
    assert [(rule["field"], rule["rule"]) for rule in result.database_checks.left_to_endpoint] == [
        (None, "UniqueTogetherValidator"),
        ("name", "UniqueValidator"),
        ("open", "validate_open"),
        ("upper", "UpperCase"),
        ("by_name", "SlugRelatedField"),
        ("first", "UniqueValidator"),
        ("maker.slug", "SlugRelatedField"),
        ("maker.slugs", "ManyRelatedField"),
        ("maker.key", "PrimaryKeyRelatedField"),
        ("maker.keys", "ManyRelatedField"),
        ("caseless", "SlugRelatedField"),
    ]


class BrokenSerializer(Sample):
    number = Keys(queryset=Category.objects.annotate(n=RawSQL("1 / 0", [])).filter(n=1))
    slug = Slugs(slug_field="slug", queryset=Category.objects.all())


def test_a_query_that_fails_leaves_its_field_to_the_endpoint() -> None:
    """PostgreSQL does not divide by zero. In a transaction, the queries after it still work."""
    result = check({"number": 1, "slug": "boats"}, target=target("BrokenSerializer"))

    assert (0, "slug", "does_not_exist") in [place[:3] for place in places(result)]
    if connection.vendor == "postgresql":
        assert result.database_checks
        assert result.database_checks.fields == ["slug"]
        assert places(result) == [(0, "slug", "does_not_exist", "Object with slug=boats does not exist.")]


def test_a_dry_run_says_what_was_compared(client_of_merchandiser: Any, existing: Product) -> None:
    answer = post_rows(client_of_merchandiser, [product(existing.sku), product("A")], "/products/bulk?dry_run=1").json()

    assert [(error["index"], error["field"], error["code"]) for error in answer["errors"]] == [(0, "sku", "unique")]
    assert answer["compared_with_database"] == ["barcode", "category", "sku"]
    assert answer["left_to_endpoint"] == [
        {"field": None, "rule": "validate"},
        {"field": "category", "rule": "validate_category"},
    ]
