"""A second target is a matter of settings and one URL line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from products.models import Category, Product
from tests.bulk_import import second_target
from tests.bulk_import.conftest import Aws, make_user, post_rows, product
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _two_targets(settings: Settings) -> None:
    settings.ROOT_URLCONF = "tests.bulk_import.second_target"
    targets = {**settings.BULK_IMPORT["TARGETS"], **second_target.TARGETS}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": targets}


@pytest.mark.usefixtures("_two_targets", "shop")
def test_two_targets_are_imported_side_by_side(run_worker: Any) -> None:
    client = APIClient()
    client.force_login(make_user("merchandiser", "add_product", "add_category"))
    categories = [{"slug": f"category-{n}", "name": f"Category {n}"} for n in range(4)]
    locations = [
        post_rows(client, [*categories, {"slug": "tents", "name": "There already"}], "/categories/bulk")["Location"],
        post_rows(client, [product("A"), product("B")])["Location"],
    ]
    run_worker()

    category_job, product_job = (client.get(location).json() for location in locations)
    assert category_job["counts"] == counts(created=4, rejected=1)
    assert category_job["message"].startswith("4 of 5 categories were created.")
    assert category_job["problems"][0]["field"] == "slug"
    assert product_job["counts"]["created"] == Product.objects.count() == 2
    assert Category.objects.filter(slug__startswith="category-").count() == 4


@pytest.mark.usefixtures("_two_targets", "shop")
def test_the_job_of_one_target_is_not_the_others(aws: Aws) -> None:
    client = APIClient()
    client.force_login(make_user("merchandiser", "add_product", "add_category"))
    job = post_rows(client, [product("A")]).json()

    assert client.get(f"/categories/bulk/{job['id']}").status_code == 404
