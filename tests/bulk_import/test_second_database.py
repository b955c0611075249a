"""An endpoint that writes its rows to another database than the ledger's, which is a second SQLite file here."""

from __future__ import annotations

import inspect
import json
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from rest_framework import serializers
from rest_framework.response import Response

from bulk_import.models import ImportedRow, ImportJob
from products.models import Category
from products.views import ProductViewSet
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = "orders"


class PlainSerializer(serializers.Serializer[Any]):
    """A serializer that does not say in which database its rows are."""

    sku = serializers.CharField()


class SecondRouter:
    """Routes the shop's models to the second database."""

    def db_for_write(self, model: Any, **_hints: Any) -> str | None:
        return SECOND if model._meta.app_label == "products" else None


@pytest.fixture(autouse=True)
def _second_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Django's test case blocks the databases that did not exist when the test began.
    test_case = inspect.getclosurevars(BaseDatabaseWrapper.ensure_connection).nonlocals["cls"]
    monkeypatch.setattr(test_case, "databases", test_case.databases | {SECOND})
    options = {"transaction_mode": "IMMEDIATE"}
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "second.sqlite3"), "OPTIONS": options}
    connections.settings[SECOND] = {**connections.settings["default"], **engine}
    with connections[SECOND].schema_editor() as editor:
        editor.create_model(Category)
    yield
    connections[SECOND].close()
    del connections[SECOND], connections.settings[SECOND]


def stored() -> list[str]:
    return [category.slug for category in Category.objects.using(SECOND).order_by("pk")]


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> list[int]:
    """Let the create endpoint write to the second database. The list has the statuses of its next answers."""
    statuses: list[int] = []

    def create(_view: ProductViewSet, request: Any) -> Response:
        Category.objects.using(SECOND).create(slug=f"{request.data.get('sku')}-{len(statuses)}", name="Tent")
        return Response({}, status=statuses.pop(0) if statuses else 201)

    monkeypatch.setattr(ProductViewSet, "create", create)
    configured = settings.BULK_IMPORT["TARGETS"]["products"]
    target = {**configured, "serializer": f"{__name__}.{PlainSerializer.__name__}", "detail_url": "", "lookup": ""}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    return statuses


def test_the_doctor_finds_the_other_database_whatever_the_serializer_and_leaves_nothing_there(
    aws: Aws, merchandiser: Any, live_server: LiveServer, statuses: list[int]
) -> None:
    output = StringIO()
    arguments = ["--base-url", live_server.url, "--user", "merchandiser"]
    with pytest.raises(SystemExit):
        call_command("bulk_import_doctor", "--json", *arguments, stdout=output)
    found = [f for f in json.loads(output.getvalue())["findings"] if f["subject"] == "target products"]

    errors = [finding["message"] for finding in found if finding["level"] == "error"]
    assert [f"writes to {SECOND}, and the ledger is in default" in message for message in errors] == [True]
    assert stored() == []


def test_what_the_doctor_prevents_a_row_is_created_twice(
    client_of_merchandiser: APIClient, run_worker: Any, statuses: list[int]
) -> None:
    """The ledger rolls back its record after the 500, but not the row in the other database."""
    statuses[:] = [500]
    assert post_rows(client_of_merchandiser, [{"sku": "A"}]).status_code == 202

    run_worker()

    assert stored() == ["A-1", "A-0"]
    assert (ImportJob.objects.get().status, ImportedRow.objects.count()) == ("succeeded", 1)


def test_while_the_models_say_so_an_import_is_503(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.{SecondRouter.__name__}"]

    refused = post_rows(client_of_merchandiser, [product("A")])

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused["Retry-After"]
    assert (ImportJob.objects.count(), aws.payload_keys()) == (0, [])
