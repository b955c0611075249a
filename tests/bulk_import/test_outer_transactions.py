"""Transactions that the site opens around our views: ATOMIC_REQUESTS of any database, or a middleware.

The folder `atomic_requests` runs the tests of the admin and of the APIs again with ATOMIC_REQUESTS.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.test import Client

from bulk_import.models import ImportedRow, ImportJob
from tests.bulk_import.conftest import Aws, call, make_user, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django.http import HttpRequest
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

CALLS_WITH_A_SECOND_DATABASE = """
import django
django.setup()
from unittest.mock import patch
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from bulk_import.intake import accept
from bulk_import.models import ImportJob
from bulk_import.storage.payloads import StoredPayload
from settings.known_secrets import WORKER_SECRET

call_command("migrate", database="second", verbosity=0)
client = Client(raise_request_exception=False)
client.force_login(get_user_model().objects.create_superuser("root"))
row = {"sku": "A", "name": "Tent", "price": "1.00", "currency": "EUR", "category": "tents"}
with patch.object(accept, "put_payload", return_value=StoredPayload("bucket", "key", "etag")):
    print(client.post("/products/bulk", [row], content_type="application/json").status_code)
job = ImportJob.objects.get()
print(client.post(f"/admin/bulk_import/importjob/{job.pk}/do/pause/").status_code, ImportJob.objects.get().status)
headers = {"Authorization": f"Bearer {WORKER_SECRET}"}
chunk = job.chunks.get()
body = {"epoch": 7}
path = f"/bulk-import/worker/chunks/{chunk.pk}/heartbeat"
print(client.post(path, body, content_type="application/json", headers=headers).status_code)
"""


def test_atomic_requests_of_another_database_do_not_apply_to_our_views(tmp_path: Path) -> None:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.bulk_import.second_database_settings"}
    environment["SECOND_DATABASE"] = str(tmp_path / "second.sqlite3")
    command = [sys.executable, "-c", CALLS_WITH_A_SECOND_DATABASE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)

    assert done.stdout.splitlines() == ["202", "302 paused", "409"], done.stderr


class TransactionMiddleware:
    """A middleware that opens a transaction around each request, as that of django-reversion does."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        with transaction.atomic():
            return self.get_response(request)


@pytest.fixture
def _transaction_middleware(settings: Settings) -> None:
    settings.MIDDLEWARE = [f"{__name__}.{TransactionMiddleware.__name__}", *settings.MIDDLEWARE]


@pytest.mark.usefixtures("_transaction_middleware")
def test_a_middleware_that_opens_a_transaction_makes_imports_answer_503(
    aws: Aws, client_of_merchandiser: APIClient
) -> None:
    refused = post_rows(client_of_merchandiser, [product("A")])

    assert (refused.status_code, refused.json()["code"]) == (503, "outer_transaction")
    assert "bulk_import_doctor" in refused.json()["message"]
    assert refused["Retry-After"]
    assert not ImportJob.objects.exists()


def test_a_middleware_that_opens_a_transaction_makes_the_worker_api_answer_503(
    worker: APIClient, messages: list[ChunkMessage], request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("_transaction_middleware")

    refused = call(worker, "claim", messages[0])

    assert (refused.status_code, refused.json()["code"]) == (503, "outer_transaction")


def test_a_create_call_within_a_transaction_is_503_without_a_verdict(
    worker: APIClient, messages: list[ChunkMessage], request: pytest.FixtureRequest
) -> None:
    """Without a verdict, the worker pauses the job and blames no row."""
    token = call(worker, "claim", messages[0]).json()["token"]
    request.getfixturevalue("_transaction_middleware")
    headers = {"Authorization": f"Import {token}", "Idempotency-Key": f"{messages[0].job_id}:0"}

    refused = Client().post("/products/", product("0"), content_type="application/json", headers=headers)

    assert (refused.status_code, refused.json()["code"]) == (503, "outer_transaction")
    assert "Bulk-Import-Row" not in refused
    assert not ImportedRow.objects.exists()


@pytest.mark.usefixtures("_transaction_middleware")
def test_an_admin_action_within_a_transaction_shows_the_reason(merchandiser: Any) -> None:
    job = ImportJob.objects.create(target="products", rows=1, submitter=merchandiser, request_sha256=b"")
    client = Client()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))

    shown = client.post(f"/admin/bulk_import/importjob/{job.pk}/do/pause/", follow=True)

    assert "a middleware has opened a database transaction" in shown.content.decode()
    assert ImportJob.objects.get().status == "pending"
