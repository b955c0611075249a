"""A site may read from a replica that lags behind. This app always reads its own tables from the primary database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from django.apps import apps
from django.core import mail
from django.db import connections

from bulk_import.models import ImportEvent, ImportJob, JobStatus
from bulk_import.outbox.notifications import send_due_emails
from tests.bulk_import.conftest import call, claim, finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import Model
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

MODELS = list(apps.get_app_config("bulk_import").get_models())


class ReplicaRouter:
    """Reads the tables of this app from a replica to which nothing has been copied yet."""

    def db_for_read(self, model: type[Model], **_hints: Any) -> str:
        return "replica" if model in MODELS else "default"

    def db_for_write(self, _model: type[Model], **_hints: Any) -> str:
        return "default"


@pytest.fixture
def _replica(settings: Settings) -> Iterator[None]:
    empty = {**connections.settings["default"], "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with patch.object(connections, "settings", {**connections.settings, "replica": {**empty, "OPTIONS": {}}}):
        settings.DATABASE_ROUTERS = [ReplicaRouter()]
        yield
        connections["replica"].close()
        del connections["replica"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.usefixtures("_replica")
def test_every_manager_reads_from_the_primary(model: type[Model]) -> None:
    """Django uses the base manager for `event.job` and for `refresh_from_db`."""
    managers = [model._default_manager, model._base_manager]
    assert [manager.db for manager in managers] == ["default", "default"]
    assert [manager.all().db for manager in managers] == ["default", "default"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_replica")
def test_an_import_is_followed_and_emailed_once_while_the_replica_lags(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count)
        assert call(worker, "finish", message, report).status_code == 200
    send_due_emails()

    (job,) = client_of_merchandiser.get("/products/bulk").json()["results"]
    assert job["status"] == JobStatus.FAILED
    assert [sent.subject for sent in mail.outbox] == ["None of the 4 products was created"]
    ended = ImportEvent.objects.get(kind="ended")
    assert ended.job == ImportJob.objects.get()
    ended.refresh_from_db()
