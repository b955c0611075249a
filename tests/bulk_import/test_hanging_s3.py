"""An S3 that accepts connections and never answers does not block the site.

Its storages ask for much longer timeouts. With those, each test would take minutes, and its time limit would end it.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from botocore.config import Config

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob
from bulk_import.storage import buckets
from tests.bulk_import.conftest import post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


LONGEST_DELAY_SECONDS = 1
"""The longest pause that botocore makes between the first two attempts."""


def test_all_attempts_together_take_less_than_ten_seconds() -> None:
    limits: Any = buckets.LIMITS
    attempts = limits.retries["total_max_attempts"]

    assert attempts * (limits.connect_timeout + limits.read_timeout) + (attempts - 1) * LONGEST_DELAY_SECONDS < 10


def accept_all(server: socket.socket) -> int:
    """Accept the connections that were made to this server, and return their number."""
    server.setblocking(False)
    with ExitStack() as connections, suppress(BlockingIOError):
        for number in count():
            accepted = number
            connections.enter_context(server.accept()[0])
    return accepted


@pytest.fixture
def hanging_s3(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Use a server whose connections the kernel accepts, and which never answers. Wait only a little for it."""
    monkeypatch.setattr(buckets, "LIMITS", buckets.LIMITS.merge(Config(read_timeout=0.1)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        storages: dict[str, Any] = {name: {**storage} for name, storage in settings.STORAGES.items()}
        for alias in ("bulk_import_payloads", "bulk_import_failures"):
            storages[alias]["OPTIONS"] = {**storages[alias]["OPTIONS"], "endpoint_url": url}
        settings.STORAGES = storages
        yield server


def test_a_hanging_s3_is_503_after_two_attempts_and_creates_no_job(
    client_of_merchandiser: APIClient, hanging_s3: socket.socket
) -> None:
    refused = post_rows(client_of_merchandiser, [product("A")])

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert accept_all(hanging_s3) == buckets.ATTEMPTS
    assert not ImportJob.objects.exists()


def test_failures_that_cannot_be_read_are_503_after_two_attempts(
    client_of_merchandiser: APIClient, merchandiser: Any, hanging_s3: socket.socket
) -> None:
    job = ImportJob.objects.create(target="products", rows=1, submitter=merchandiser, request_sha256=b"")
    chunk = {"number": 0, "first_index": 0, "row_count": 1, "first_byte": 0, "byte_count": 1}
    ImportChunk.objects.create(job=job, status=ChunkStatus.DONE, failures_key=f"{job.pk}/0.jsonl", **chunk)

    refused = client_of_merchandiser.get(f"/products/bulk/{job.pk}/failures")

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert accept_all(hanging_s3) == buckets.ATTEMPTS
