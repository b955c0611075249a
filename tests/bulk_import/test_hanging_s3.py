"""An S3 that accepts connections and never answers does not block the site."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob
from tests.bulk_import.conftest import post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.one_database, pytest.mark.timeout(30)]


@pytest.fixture
def _hanging_s3(settings: Settings) -> Iterator[None]:
    """Use a server that reads requests and never answers. Its storages ask for much longer timeouts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_connections = []

        def accept() -> None:
            while True:
                try:
                    open_connections.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        storages: dict[str, Any] = {name: {**storage} for name, storage in settings.STORAGES.items()}
        for alias in ("bulk_import_payloads", "bulk_import_failures"):
            storages[alias]["OPTIONS"] = {**storages[alias]["OPTIONS"], "endpoint_url": url}
        settings.STORAGES = storages
        yield
        server.shutdown(socket.SHUT_RDWR)
        for connection in open_connections:
            connection.close()


@pytest.mark.usefixtures("_hanging_s3")
def test_a_hanging_s3_is_503_within_ten_seconds_and_creates_no_job(client_of_merchandiser: APIClient) -> None:
    began = time.monotonic()

    refused = post_rows(client_of_merchandiser, [product("A")])

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert time.monotonic() - began < 10
    assert not ImportJob.objects.exists()


@pytest.mark.usefixtures("_hanging_s3")
def test_failures_that_cannot_be_read_are_503_within_ten_seconds(
    client_of_merchandiser: APIClient, merchandiser: Any
) -> None:
    job = ImportJob.objects.create(target="products", rows=1, submitter=merchandiser, request_sha256=b"")
    chunk = {"number": 0, "first_index": 0, "row_count": 1, "first_byte": 0, "byte_count": 1}
    ImportChunk.objects.create(job=job, status=ChunkStatus.DONE, failures_key=f"{job.pk}/0.jsonl", **chunk)
    began = time.monotonic()

    refused = client_of_merchandiser.get(f"/products/bulk/{job.pk}/failures")

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert time.monotonic() - began < 10
