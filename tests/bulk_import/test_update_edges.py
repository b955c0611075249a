"""Updates with serializers, views and requests that are less simple than those of the shop."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import path
from rest_framework.generics import RetrieveUpdateAPIView
from rest_framework.permissions import AllowAny
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer

from bulk_import.detail_endpoint import DetailEndpoint
from bulk_import.existing_object import _is_same
from products.models import Category, Product
from products.serializers import ProductSerializer
from products.views import ProductViewSet
from settings.urls import urlpatterns as shop_urls
from tests.bulk_import.conftest import post_rows, product
from tests.bulk_import.test_updates import UPDATE, UPSERT, stored

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from pytest_django import Settings

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _editor(merchandiser: Any) -> None:
    merchandiser.user_permissions.add(*Permission.objects.filter(codename__in=["change_product", "delete_product"]))


def test_the_lookup_is_normalized_as_the_serializer_does(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductSerializer, "validate_sku", lambda _self, sku: sku.upper(), raising=False)
    existing = stored("A")
    site.submit([{"sku": " a", "price": "1.00"}], UPSERT)

    assert site.carry_out() == [(200, "updated", "")]
    existing.refresh_from_db()
    assert str(existing.price) == "1.00"


def test_a_creation_whose_response_lacks_the_lookup_counts_as_a_newer_writer(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = ProductViewSet.create

    def create_tersely(*args: Any, **kwargs: Any) -> Any:
        return Response({"id": create(*args, **kwargs).data["id"]}, 201)

    monkeypatch.setattr(ProductViewSet, "create", create_tersely)
    older = site.submit([product("A", price="1.00")], UPSERT)
    waiting = site.aws.messages()
    site.submit([product(" A")])
    assert site.carry_out() == [(201, "created", "")]

    monkeypatch.setattr(type(site.aws), "messages", lambda _aws: waiting)
    assert site.carry_out() == [(409, "refused", "superseded")], older


@pytest.mark.parametrize(
    ("owner", "name", "replacement"),
    [
        (ProductViewSet, "perform_update", lambda _view, serializer: serializer.save(color="red")),
        (ProductSerializer, "save", lambda self: ModelSerializer.save(self, color="red")),
        (
            ProductSerializer,
            "update",
            lambda self, instance, values: ModelSerializer.update(self, instance, {**values, "color": "red"}),
        ),
    ],
)
def test_only_a_plain_patch_is_skipped(
    site: Site, monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str, replacement: Any
) -> None:
    monkeypatch.setattr(owner, name, replacement)
    stored("A")
    site.submit([{"sku": "A", "name": "Ridge Tent"}], UPDATE)

    assert site.carry_out() == [(200, "updated", "")]
    assert Product.objects.get().color == "red"


class Patching(RetrieveUpdateAPIView[Product]):
    def patch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().patch(request, *args, **kwargs)


@pytest.mark.parametrize(
    ("callback", "is_plain"),
    [
        (ProductViewSet.as_view({"patch": "partial_update"}), True),
        (ProductViewSet.as_view({"patch": "list"}), False),
        (RetrieveUpdateAPIView.as_view(), True),
        (Patching.as_view(), False),
    ],
)
def test_a_view_with_its_own_patch_is_not_plain(callback: Any, *, is_plain: bool) -> None:
    assert DetailEndpoint("", {}, callback).has_plain_update is is_plain


def test_a_foreign_key_is_compared_by_the_column_that_it_refers_to() -> None:
    """Here, object 5 has the number 7. So a stored 5 refers to another object."""
    target_field = SimpleNamespace(attname="number")
    row_value = Category(pk=5)
    row_value.number = 7  # type: ignore[attr-defined]

    assert not _is_same(SimpleNamespace(target_field=target_field), row_value, 5)
    assert _is_same(SimpleNamespace(target_field=target_field), row_value, 7)


def test_a_blank_lookup_names_no_object(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ProductSerializer.Meta.extra_kwargs, "sku", {"allow_blank": True})
    answer = post_rows(site.client, [{"sku": " ", "price": "1.00"}], UPDATE)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "required"


class BySku(RetrieveUpdateAPIView[Product]):
    serializer_class = ProductSerializer
    permission_classes = [AllowAny]
    lookup_field = "sku"

    def get_queryset(self) -> QuerySet[Product]:
        return (
            Product.objects.filter(sku=self.kwargs["sku"]) if self.request.method == "POST" else Product.objects.all()
        )


urlpatterns = [
    *shop_urls,
    path("by-sku/<str:sku>/", BySku.as_view(), name="by-sku"),
    path("by-word/<slug:sku>/", BySku.as_view(), name="by-word"),
]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("url", "sku", "outcome"),
    [
        ("by-sku", "A 1", (200, "updated", "")),
        ("by-sku", "\u00e9+%41.b", (200, "updated", "")),
        ("by-word", "A 1", (409, "refused", "no_url")),
    ],
)
def test_the_url_of_an_object_may_have_quoted_characters(
    site: Site, settings: Settings, url: str, sku: str, outcome: tuple[int, str, str]
) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "detail_url": url}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    stored(sku)
    site.submit([{"sku": sku, "price": "1.00"}], UPDATE)

    assert site.carry_out() == [outcome]


@pytest.mark.urls(__name__)
def test_a_detail_view_whose_queryset_fails_does_not_disturb_a_creation(site: Site, settings: Settings) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "detail_url": "by-sku"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    site.submit([product("A")])

    assert site.carry_out() == [(201, "created", "")]
