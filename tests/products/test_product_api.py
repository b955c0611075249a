from decimal import Decimal
from typing import Any
from unittest.mock import ANY

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient
from rest_framework.throttling import ScopedRateThrottle

from products.models import Category, Product, StockMovement

URL = "/products/"
REQUIRED = ["sku", "name", "price", "currency", "category"]


def test_the_create_url_is_the_product_list() -> None:
    """Other code finds the endpoint by this URL name."""
    assert reverse("products:product-list") == URL


def test_the_response_contains_the_created_product(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
) -> None:
    """The response has the submitted fields, the ID and the time of creation."""
    response = shopkeeper_client.post(URL, tent)

    assert response.status_code == 201
    assert response.json() == {**tent, "id": ANY, "created_at": ANY}


def test_a_created_product_is_stored(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """The database has the decimals and the category of the request."""
    shopkeeper_client.post(URL, tent)

    product = Product.objects.get(sku="TENT-DUNE-1")
    assert (product.price, product.weight_kg) == (Decimal("199.90"), Decimal("1.250"))
    assert product.category.slug == "tents"


def test_only_five_fields_are_required(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """All other fields have a default."""
    response = shopkeeper_client.post(URL, {field: tent[field] for field in REQUIRED})

    assert response.status_code == 201
    assert response.json()["is_active"] is True
    assert response.json()["stock"] == 0


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_required_field_is_named(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    field: str,
) -> None:
    """The response has one error, for the missing field."""
    del tent[field]

    response = shopkeeper_client.post(URL, tent)

    assert response.status_code == 400
    assert list(response.json()) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sku", "S" * 65),
        ("price", "-0.01"),
        ("price", "1.999"),
        ("currency", "GBP"),
        ("stock", -1),
        ("weight_kg", "0.000"),
        ("barcode", "2000000000009"),
    ],
)
def test_a_bad_value_is_refused(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    field: str,
    value: object,
) -> None:
    """The response has one error, for the field with the bad value."""
    response = shopkeeper_client.post(URL, {**tent, field: value})

    assert response.status_code == 400
    assert list(response.json()) == [field]


def test_a_client_cannot_set_the_id_or_the_time_of_creation(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
) -> None:
    """Read-only fields in a request are ignored."""
    response = shopkeeper_client.post(URL, {**tent, "id": 4711, "created_at": "2001-01-01T00:00:00Z"})

    assert response.json()["id"] != 4711
    assert not response.json()["created_at"].startswith("2001")


def test_a_sku_is_unique(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """A second product with the same SKU is refused."""
    shopkeeper_client.post(URL, tent)

    response = shopkeeper_client.post(URL, {**tent, "barcode": None})

    assert response.status_code == 400
    assert response.data["sku"][0].code == "unique"


def test_a_barcode_is_unique(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """A second product with the same barcode is refused."""
    shopkeeper_client.post(URL, tent)

    response = shopkeeper_client.post(URL, {**tent, "sku": "TENT-DUNE-2"})

    assert response.status_code == 400
    assert response.data["barcode"][0].code == "unique"


@pytest.mark.parametrize("empty", ["", None])
def test_products_without_a_barcode_do_not_clash(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    empty: str | None,
) -> None:
    """An empty barcode is stored as null."""
    for sku in ("TENT-DUNE-1", "TENT-DUNE-2"):
        response = shopkeeper_client.post(URL, {**tent, "sku": sku, "barcode": empty})

        assert response.status_code == 201
        assert response.json()["barcode"] is None


def test_an_unknown_category_is_refused(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """The endpoint does not create categories."""
    response = shopkeeper_client.post(URL, {**tent, "category": "kayaks"})

    assert response.status_code == 400
    assert response.data["category"][0].code == "does_not_exist"
    assert response.json() == {"category": ["There is no category “kayaks”."]}


def test_an_archived_category_takes_no_new_products(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    ski_rental: Category,
) -> None:
    """The error code differs from that of an unknown category."""
    response = shopkeeper_client.post(URL, {**tent, "category": ski_rental.slug})

    assert response.status_code == 400
    assert response.data["category"][0].code == "category_closed"
    assert "takes no new products" in response.data["category"][0]


def test_an_active_product_needs_a_price(shopkeeper_client: APIClient, tent: dict[str, Any]) -> None:
    """A product is active by default."""
    del tent["is_active"]

    response = shopkeeper_client.post(URL, {**tent, "price": "0.00"})

    assert response.status_code == 400
    assert response.data["price"][0].code == "price_required"


def test_an_inactive_product_may_have_a_price_of_zero(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
) -> None:
    """The shop uses inactive products as drafts."""
    response = shopkeeper_client.post(URL, {**tent, "price": "0.00", "is_active": False})

    assert response.status_code == 201


def test_a_product_is_retrieved_by_its_id(visitor_client: APIClient, tents: Category) -> None:
    """Every authenticated user may read products."""
    product = Product.objects.create(sku="T-1", name="Dune", price=10, currency="EUR", category=tents)

    response = visitor_client.get(f"{URL}{product.pk}/")

    assert response.status_code == 200
    assert (response.json()["sku"], response.json()["category"]) == ("T-1", "tents")


def test_an_unknown_product_is_not_found(visitor_client: APIClient) -> None:
    """An ID that exceeds the range of the database column is a 404 too."""
    assert visitor_client.get(f"{URL}1/").status_code == 404
    assert visitor_client.get(f"{URL}{10**30}/").status_code == 404


def test_products_are_listed_in_order_of_creation(
    visitor_client: APIClient,
    tents: Category,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """The list needs three queries (token, count and page) for any number of products."""
    for sku in ("B", "A", "C"):
        Product.objects.create(sku=sku, name="Dune", price=10, currency="EUR", category=tents)

    with django_assert_num_queries(3):
        response = visitor_client.get(URL)

    assert [product["sku"] for product in response.json()["results"]] == ["B", "A", "C"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"price": "12.00"}, 200),
        ({"is_active": False}, 200),
        ({"price": "0"}, 400),  # the product is active
        ({"price": "0", "is_active": False}, 200),
    ],
)
def test_a_change_of_a_product_is_checked_together_with_its_other_fields(
    admin_user: User, tents: Category, changes: dict[str, Any], status: int
) -> None:
    client = APIClient()
    client.force_authenticate(admin_user)
    product = Product.objects.create(sku="T-1", name="Dune", price=10, currency="EUR", category=tents)

    assert client.patch(f"{URL}{product.pk}/", changes, format="json").status_code == status


@pytest.mark.parametrize(("method", "status"), [("patch", 200), ("delete", 204)])
def test_a_change_and_a_deletion_need_their_own_permissions(
    visitor_client: APIClient, admin_user: User, tents: Category, method: str, status: int
) -> None:
    product = Product.objects.create(sku="T-1", name="Dune", price=10, currency="EUR", category=tents)
    client = APIClient()
    client.force_authenticate(admin_user)

    assert getattr(visitor_client, method)(f"{URL}{product.pk}/").status_code == 403
    assert getattr(client, method)(f"{URL}{product.pk}/").status_code == status


def test_an_anonymous_request_is_refused(tent: dict[str, Any]) -> None:
    """Both creating and reading need authentication."""
    client = APIClient()

    assert client.post(URL, tent).status_code == 401
    assert client.get(URL).status_code == 401


@pytest.mark.django_db
def test_a_wrong_token_is_refused() -> None:
    """A token that does not belong to a user is a 401."""
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Token 0123456789abcdef")

    assert client.get(URL).status_code == 401


def test_creating_needs_the_permission_to_add_products(
    visitor_client: APIClient,
    tent: dict[str, Any],
) -> None:
    """A user without this permission gets a 403."""
    assert visitor_client.post(URL, tent).status_code == 403
    assert not Product.objects.exists()


def test_creating_is_rate_limited(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Retry-After header says how many seconds the client has to wait."""
    monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"products": "1/minute"})
    shopkeeper_client.post(URL, tent)

    response = shopkeeper_client.post(URL, {**tent, "sku": "TENT-DUNE-2", "barcode": None})

    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 60


def test_reading_is_not_rate_limited(visitor_client: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate limit applies to create requests only."""
    monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"products": "1/minute"})

    assert [visitor_client.get(URL).status_code for _ in range(3)] == [200, 200, 200]


def test_a_product_is_rolled_back_if_its_stock_movement_fails(
    shopkeeper_client: APIClient,
    tent: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The endpoint writes both in one transaction."""

    def fail(**_fields: object) -> None:
        raise DatabaseError

    monkeypatch.setattr(StockMovement.objects, "create", fail)

    with pytest.raises(DatabaseError):
        shopkeeper_client.post(URL, tent)

    assert not Product.objects.exists()
