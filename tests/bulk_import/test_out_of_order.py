"""A locked database and a full disk are JSON 503 with Retry-After, never HTML."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.test import Client

from bulk_import.intake import payload
from bulk_import.models import ImportChunk, ImportJob
from tests.bulk_import.conftest import Aws, call, make_user, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

ERRORS = [OperationalError("database is locked"), OSError(errno.ENOSPC, "No space left on device")]


def assert_unavailable(answer: Any) -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer["Content-Type"] == "application/json"
    assert answer["Retry-After"] == "30"


def fail_with(error: Exception) -> Any:
    def fail(*_args: Any, **_kwargs: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", ERRORS, ids=["locked", "full"])
@pytest.mark.parametrize("step", ["the payload", "the job"])
def test_an_import_is_503(
    client_of_merchandiser: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    place: Any = (payload.Payload, "__enter__") if step == "the payload" else (ImportJob.objects, "create")
    monkeypatch.setattr(place[0], place[1], fail_with(error))

    assert_unavailable(post_rows(client_of_merchandiser, [product("A")]))


@pytest.mark.parametrize("error", ERRORS, ids=["locked", "full"])
def test_the_worker_api_is_503(
    worker: APIClient, messages: list[ChunkMessage], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(ImportChunk, "claim", fail_with(error))

    assert_unavailable(call(worker, "claim", messages[0]))


@pytest.mark.parametrize("error", ERRORS, ids=["locked", "full"])
@pytest.mark.parametrize("kind", ["failures", "payload"])
def test_a_download_of_the_admin_is_503(
    merchandiser: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    job = ImportJob.objects.create(target="products", rows=1, submitter=merchandiser, request_sha256=b"")
    client = Client()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    monkeypatch.setattr(f"bulk_import.admin.downloads.read_{kind}", fail_with(error))

    assert_unavailable(client.get(f"/admin/bulk_import/importjob/{job.pk}/{kind}/"))


def test_a_charset_that_decodes_no_text_does_not_break_the_worker_api(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    path = f"/bulk-import/worker/chunks/{messages[0].chunk_id}/heartbeat"

    assert worker.generic("POST", path, '{"epoch": 1}', content_type="application/json; charset=hex").status_code == 409
