from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from products.models import Category


@pytest.fixture(autouse=True)
def _empty_throttle_cache() -> Iterator[None]:
    """Clear the rate limit's counters before and after each test."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def tents(db: None) -> Category:
    return Category.objects.create(slug="tents", name="Tents")


@pytest.fixture
def ski_rental(db: None) -> Category:
    return Category.objects.create(slug="ski-rental", name="Ski Rental", is_open=False)


@pytest.fixture
def shopkeeper(db: None) -> User:
    """A user who may create products and has no other permission."""
    user = User.objects.create_user("shopkeeper")
    user.user_permissions.add(
        Permission.objects.get(content_type__app_label="products", codename="add_product"),
    )
    return user


@pytest.fixture
def visitor(db: None) -> User:
    """A user without any permission."""
    return User.objects.create_user("visitor")


def client_of(user: User) -> APIClient:
    """Return a JSON client that authenticates with the user's token."""
    client = APIClient()
    client.default_format = "json"
    client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=user).key}")
    return client


@pytest.fixture
def shopkeeper_client(shopkeeper: User) -> APIClient:
    return client_of(shopkeeper)


@pytest.fixture
def visitor_client(visitor: User) -> APIClient:
    return client_of(visitor)


@pytest.fixture
def tent(tents: Category) -> dict[str, Any]:
    """A product as a client sends it, with every writable field."""
    return {
        "sku": "TENT-DUNE-1",
        "name": "Dune 1",
        "description": "A tent for one.",
        "price": "199.90",
        "currency": "EUR",
        "stock": 3,
        "category": tents.slug,
        "weight_kg": "1.250",
        "color": "Sand",
        "size": "1 person",
        "barcode": "2000000000008",
        "is_active": True,
    }
