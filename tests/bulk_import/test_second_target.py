"""A second target is a matter of settings and one URL line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from lambda_worker import handler as worker_handler
from products.models import Category, Product
from tests.bulk_import import second_target
from tests.bulk_import.conftest import WORKER_SECRET, Aws, make_user, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)


class Context:
    """A Lambda context with a minute left."""

    aws_request_id = function_name = function_version = memory_limit_in_mb = invoked_function_arn = ""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def run_worker(aws: Aws, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the Lambda handler on all messages of the queue, against the monolith on a real server."""
    for name, value in {
        "BULK_IMPORT_BASE_URL": live_server.url,
        "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
        "BULK_IMPORT_PAYLOADS_BUCKET": "bulk-import-payloads",
        "BULK_IMPORT_FAILURES_BUCKET": "bulk-import-failures",
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    worker_handler._config.cache_clear()
    worker_handler._s3.cache_clear()

    def run() -> None:
        records: Any = [{"messageId": m.chunk_id, "body": m.encode()} for m in aws.messages()]
        assert worker_handler.handler({"Records": records}, Context()) == {"batchItemFailures": []}

    return run


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
    assert category_job["counts"] == {"created": 4, "rejected": 1, "failed": 0, "unprocessed": 0, "pending": 0}
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
