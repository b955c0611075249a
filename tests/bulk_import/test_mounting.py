"""Where a site may mount the API, and which create endpoints it may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from bulk_import.checks import check_configuration
from products.models import Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from django.http import HttpRequest
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


class WarehouseView(ProductViewSet):
    """A create endpoint below a warehouse. It writes the warehouse of its URL into the description."""

    def perform_create(self, serializer: Any) -> None:
        serializer.save(description=self.kwargs["warehouse"])


def plain(_request: HttpRequest) -> Any:
    raise AssertionError("not called")


urlpatterns = [
    path("products/bulk/", include("bulk_import.urls"), {"target": "products"}),
    path("warehouses/north/products/bulk", include("bulk_import.urls"), {"target": "north"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("warehouses/<slug:warehouse>/products/", WarehouseView.as_view({"post": "create"}), name="warehouse"),
    path("products/", include("products.urls")),
    path("plain", plain, name="plain"),
    path("schema", SpectacularAPIView.as_view()),
]

SERIALIZER = "products.serializers.ProductSerializer"
PRODUCTS = {"create_url": "products:product-list", "serializer": SERIALIZER}
NORTH = {"create_url": "warehouse", "create_kwargs": {"warehouse": "north"}, "serializer": SERIALIZER}


@pytest.fixture(autouse=True)
def _mounted(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": PRODUCTS, "north": NORTH}}


def test_a_mount_with_a_trailing_slash_works_and_its_links_lead_somewhere(
    client_of_merchandiser: APIClient, run_worker: Any
) -> None:
    created = post_rows(client_of_merchandiser, [product("A"), product("B", category="kayaks")], "/products/bulk/")
    run_worker()

    document = client_of_merchandiser.get(created["Location"]).json()
    assert document["counts"]["created"] == 1
    assert "//" not in created["Location"].removeprefix("http://")
    assert document["links"]["self"] == created["Location"]
    failures = client_of_merchandiser.get(document["links"]["failures"])
    assert failures.status_code == 200
    assert client_of_merchandiser.get(f"{document['links']['failures']}/1").json()["index"] == 1
    assert client_of_merchandiser.post(document["links"]["retry"]).status_code == 202
    assert client_of_merchandiser.get(created["Location"] + "/").status_code == 200


@pytest.mark.parametrize("address", ["/products/bulk/", "/products/bulk"])
def test_the_list_of_a_mount_with_a_trailing_slash(
    address: str, client_of_merchandiser: APIClient, settings: Settings
) -> None:
    assert client_of_merchandiser.get(address, follow=True).status_code == 200


def test_a_target_may_have_fixed_arguments_of_its_url(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    assert check_configuration() == []

    location = post_rows(client_of_merchandiser, [product("A")], "/warehouses/north/products/bulk")["Location"]
    run_worker()

    assert client_of_merchandiser.get(location).json()["counts"]["created"] == 1
    assert Product.objects.get().description == "north"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({**NORTH, "create_kwargs": {}}, ["warehouse", "create_kwargs"]),
        ({**NORTH, "create_kwargs": {"shop": 1}}, ["warehouse", "create_kwargs"]),
        ({**PRODUCTS, "create_url": "nothing"}, ["'nothing' is not a valid view function or pattern name"]),
        ({**PRODUCTS, "create_url": "plain"}, ["is not the URL of a DRF view"]),
    ],
)
def test_the_message_about_a_create_url_says_what_is_wrong(
    target: dict[str, Any], words: list[str], settings: Settings
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    [error] = check_configuration()

    assert error.id == "bulk_import.E008"
    for word in words:
        assert word in f"{error.msg} {error.hint}"


def test_the_schema_has_the_urls_that_lead_somewhere(client_of_merchandiser: APIClient) -> None:
    paths = client_of_merchandiser.get("/schema", headers={"Accept": "application/json"}).json()["paths"]

    north = "/warehouses/north/products/bulk"
    jobs = {path.replace(north, "/products/bulk") for path in paths if path.startswith(north)}
    assert {path for path in paths if path.startswith("/products/bulk/")} == {*jobs} - {"/products/bulk"} | {
        "/products/bulk/"
    }
    assert "/products/bulk/{job_id}/failures" in paths
    assert not any("//" in path or "bulk{" in path for path in paths)


@pytest.mark.parametrize("rest", ["y", "template", "template/", "{job}", "{job}/failures"])
def test_a_path_that_only_begins_like_the_api_is_not_the_api(
    rest: str, client_of_merchandiser: APIClient, aws: Aws
) -> None:
    location = post_rows(client_of_merchandiser, [product("A")], "/warehouses/north/products/bulk")["Location"]

    answer = client_of_merchandiser.get("/warehouses/north/products/bulk" + rest.format(job=location.split("/")[-1]))

    assert answer.status_code == 404
    assert "json" not in answer["Content-Type"]


def test_both_mounts_have_a_template(client_of_merchandiser: APIClient) -> None:
    for address in ("/products/bulk/template", "/warehouses/north/products/bulk/template"):
        assert client_of_merchandiser.get(address).status_code == 200
