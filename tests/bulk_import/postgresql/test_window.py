"""Processes that reserve chunks at the same time never exceed the window, never deadlock, and leave no place free."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob
from bulk_import.models.window import reserve_chunks
from bulk_import_wire.contract import Finish
from tests.bulk_import.conftest import make_user

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 4
JOBS = 6
CHUNKS = 25


def test_concurrent_finishes_accepts_and_pauses_never_exceed_the_window_and_never_deadlock(
    shop: None, settings: Settings
) -> None:
    """Six workers end all chunks of six jobs. Each commit is checked by the worker that made it."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CHUNKS_IN_FLIGHT": WINDOW}
    users = [make_user(f"user-{n}") for n in range(JOBS // 2)]
    exceeded: list[int] = []
    accepted = threading.Barrier(JOBS)

    def in_flight() -> int:
        return ImportChunk.objects.filter(status__in=[ChunkStatus.RESERVED, ChunkStatus.PROCESSING]).count()

    def accept(number: int) -> None:
        with transaction.atomic():
            job = ImportJob.objects.create(target="products", submitter=users[number % len(users)], rows=CHUNKS)
            ImportChunk.objects.bulk_create(
                ImportChunk(job=job, number=n, first_index=n, row_count=1, first_byte=n, byte_count=1)
                for n in range(CHUNKS)
            )
            reserve_chunks("products")

    def end_one() -> bool:
        """Claim a chunk that has a place, end it and reserve the next one. Return whether there was a chunk."""
        with transaction.atomic():
            reserved = ImportChunk.objects.filter(status=ChunkStatus.RESERVED)
            chunk_id = reserved.select_for_update(skip_locked=True).values_list("pk", flat=True).first()
            if chunk_id is None:
                return ImportChunk.objects.exclude(status=ChunkStatus.DONE).exists()
            ImportChunk.objects.locked(chunk_id).claim("worker", lease_seconds=60)
        with transaction.atomic():
            chunk = ImportChunk.objects.locked(chunk_id, wait_for_creates=True)
            chunk.finish(Finish(chunk.epoch, rejected=1, failed=0, unprocessed=0, failures_key=""))
            reserve_chunks("products")
        return True

    def work(number: int) -> None:
        try:
            accepted.wait()
            accept(number)
            while end_one():
                exceeded.extend(count for count in [in_flight()] if count > WINDOW)
        finally:
            connection.close()

    with ThreadPoolExecutor(JOBS) as threads:
        list(threads.map(work, range(JOBS)))

    assert exceeded == []
    assert ImportChunk.objects.filter(status=ChunkStatus.DONE).count() == JOBS * CHUNKS
    assert not ImportJob.objects.open().exists()
