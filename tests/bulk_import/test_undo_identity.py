"""An undo deletes no object that its import did not create, whatever the create endpoint answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from rest_framework.response import Response

from bulk_import.intake.undo import undo_line
from bulk_import.models import ImportedRow
from products.models import Category, Product
from products.serializers import ProductSerializer
from products.views import ProductViewSet
from tests.bulk_import.conftest import product

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _owner(merchandiser: Any) -> None:
    merchandiser.user_permissions.add(*Permission.objects.filter(codename__in=["change_product", "delete_product"]))


def stored(sku: str, **fields: Any) -> Product:
    category = Category.objects.get(slug="tents")
    return Product.objects.create(sku=sku, price=1, currency="EUR", category=category, **fields)


def undone(site: Site, job_id: str) -> list[str]:
    site.post(job_id, "undo")
    return [code for _status, _verdict, code in site.carry_out()]


def test_an_id_is_not_taken_for_the_value_of_another_field(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL of an object has its SKU, but the response has only its ID, which is the SKU of another object."""
    monkeypatch.setattr(ProductViewSet, "lookup_field", "sku")
    monkeypatch.setattr(ProductViewSet, "lookup_url_kwarg", "pk")
    to_representation = ProductSerializer.to_representation

    def without_sku(serializer: ProductSerializer, instance: Product) -> dict[str, Any]:
        data = to_representation(serializer, instance)
        stored(str(data["id"]))
        del data["sku"]
        return data

    monkeypatch.setattr(ProductSerializer, "to_representation", without_sku)
    job_id = site.submit([product("A")])
    assert [verdict for _status, verdict, _code in site.carry_out()] == ["created"]

    assert undone(site, job_id) == ["no_id"]
    assert Product.objects.count() == 2


def test_an_object_that_the_endpoint_only_changed_is_not_deleted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint answers 201 also if the object existed, as endpoints do that use `update_or_create`."""

    def create(view: ProductViewSet, request: Any) -> Response:
        existing = Product.objects.filter(sku=request.data["sku"]).first()
        serializer = view.get_serializer(existing, data=request.data)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data, status=201)

    monkeypatch.setattr(ProductViewSet, "create", create)
    job_id = site.submit([product("OLD"), product("NEW")])
    stored("OLD")
    assert [verdict for _status, verdict, _code in site.carry_out()] == ["created", "created"]

    assert undone(site, job_id) == ["uncertain", ""]
    assert [found.sku for found in Product.objects.all()] == ["OLD"]


def test_an_import_from_before_detail_url_was_set_names_this_reason(site: Site, settings: Settings) -> None:
    configured = settings.BULK_IMPORT
    products = {name: value for name, value in configured["TARGETS"]["products"].items() if name != "detail_url"}
    products.pop("lookup", None)
    settings.BULK_IMPORT = {**configured, "TARGETS": {**configured["TARGETS"], "products": products}}
    job_id = site.submit([product("A")])
    site.carry_out()
    settings.BULK_IMPORT = configured

    assert undone(site, job_id) == ["uncertain"]
    assert b"detail_url" in undo_line(ImportedRow.objects.get(job=job_id))


def test_the_value_in_the_url_may_be_unique_only_for_each_tenant(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductViewSet, "lookup_field", "name")
    monkeypatch.setattr(ProductViewSet, "lookup_url_kwarg", "pk")
    monkeypatch.setattr(ProductViewSet, "get_queryset", lambda _view: Product.objects.exclude(sku="OTHER"))
    stored("OTHER", name="4711")  # of another tenant
    job_id = site.submit([product("A", name="4711")])
    assert site.carry_out() == [(201, "created", "")]

    assert undone(site, job_id) == [""]
    assert [found.sku for found in Product.objects.all()] == ["OTHER"]


@pytest.mark.parametrize("answered", [10**12, 10**20, "none"])
def test_an_id_that_no_object_can_have_makes_no_row_fail(
    site: Site, monkeypatch: pytest.MonkeyPatch, answered: object
) -> None:
    to_representation = ProductSerializer.to_representation
    monkeypatch.setattr(
        ProductSerializer,
        "to_representation",
        lambda serializer, instance: {**to_representation(serializer, instance), "id": answered},
    )
    job_id = site.submit([product("A")])

    assert site.carry_out() == [(201, "created", "")]
    assert undone(site, job_id) == ["uncertain"]


def test_an_id_that_is_too_long_for_the_ledger_is_not_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductViewSet, "lookup_field", "name")
    monkeypatch.setattr(ProductViewSet, "lookup_url_kwarg", "pk")
    other = stored("OTHER", name="x" * 64)
    job_id = site.submit([product("A", name="x" * 65)])
    site.carry_out()

    assert undone(site, job_id) == ["no_id"]
    assert Product.objects.filter(pk=other.pk).exists()
