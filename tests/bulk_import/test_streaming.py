"""Under ASGI too, the pieces of a download are made while it is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.storage import storages
from django.db import connections
from django.test import AsyncClient

from bulk_import.models import ChunkStatus, ImportChunk
from bulk_import.reports import failures as reports
from bulk_import.storage import failures as storage
from bulk_import.streaming import read_ahead
from bulk_import_wire.lines import failure_line
from tests.bulk_import.conftest import Aws, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.test import APIClient

ROWS = 6


@pytest.fixture
def job(client_of_merchandiser: APIClient, aws: Aws) -> str:
    """The address of a job of two chunks, of which no row was created."""
    location: str = post_rows(client_of_merchandiser, [product(str(n)) for n in range(ROWS)])["Location"]
    known = {"outcome": "rejected", "status": 400, "errors": [], "attempts": 1, "at": "2026-01-01"}
    bucket: Any = storages["bulk_import_failures"]
    for chunk in ImportChunk.objects.all():
        chunk.status, chunk.failures_key = ChunkStatus.DONE, f"{chunk.job_id}/{chunk.first_index:09}-1.jsonl"
        chunk.save()
        indexes = range(chunk.first_index, chunk.first_index + chunk.row_count)
        lines = [failure_line({"index": index, **known}, b'{"sku":"A"}') for index in indexes]
        aws.s3.put_object(Bucket=bucket.bucket_name, Key=chunk.failures_key, Body=b"".join(lines))
    return location


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("stop_early", [False, True])
def test_a_download_under_asgi_is_made_piece_by_piece(
    job: str, merchandiser: Any, monkeypatch: pytest.MonkeyPatch, *, stop_early: bool
) -> None:
    monkeypatch.setattr(reports, "PIECE_BYTES", 1)  # one piece for each line
    read_lines, made = storage.read_failures_file, []

    def counted(*arguments: Any) -> Iterator[bytes]:
        for line in read_lines(*arguments):
            made.append(line)
            yield line

    monkeypatch.setattr(storage, "read_failures_file", counted)
    client = AsyncClient()
    client.force_login(merchandiser)

    async def download() -> list[int]:
        """Return how many lines had been made when each piece arrived."""
        response: Any = await client.get(f"{job}/failures")
        assert (response.status_code, response.is_async) == (200, True)
        counts = []
        async for _piece in response.streaming_content:
            counts.append(len(made))
            if stop_early:
                break
        await response.streaming_content.aclose()
        await sync_to_async(connections.close_all)()  # of the thread in which the view ran
        return counts

    assert asyncio.run(download()) == ([1] if stop_early else list(range(1, ROWS + 1)))


def test_an_error_of_the_first_piece_is_raised_at_once() -> None:
    def pieces() -> Iterator[bytes]:
        raise ConnectionError
        yield b""

    with pytest.raises(ConnectionError):
        read_ahead(pieces())


def test_no_pieces_are_an_empty_body() -> None:
    assert list(read_ahead(iter([]))) == []
