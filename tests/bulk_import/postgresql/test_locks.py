"""Create calls hold their chunk together; who may pass them and who waits."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now

from bulk_import.models import ImportChunk, ImportJob, LockedChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

HELD_SECONDS = 0.2

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chunk(merchandiser: Any) -> ImportChunk:
    """A chunk in a worker's hands, epoch 1."""
    job = ImportJob.objects.create(target="products", submitter=merchandiser, rows=1, language="en")
    chunk: ImportChunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=1, first_byte=0, byte_count=2, status="processing", epoch=1
    )
    return chunk


@contextmanager
def overlapping_creates(chunk: ImportChunk) -> Iterator[None]:
    """At every instant some create call holds the chunk."""
    over = threading.Event()
    holding = threading.Barrier(5)

    def create(phase: float) -> None:
        is_first = True
        while not over.is_set():
            with transaction.atomic():
                LockedChunk.lock(chunk.pk)
                if is_first:
                    holding.wait()
                    is_first = False
                    time.sleep(phase)  # so that they do not all end at the same instant
                time.sleep(HELD_SECONDS)
        connection.close()

    callers = [threading.Thread(target=create, args=[HELD_SECONDS * caller / 4]) for caller in range(4)]
    for caller in callers:
        caller.start()
    holding.wait()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()


@contextmanager
def impatient() -> Iterator[None]:
    """A transaction that fails rather than wait long for a lock."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = '1s'")
        yield


def test_a_heartbeat_passes_the_create_calls_under_way(chunk: ImportChunk) -> None:
    with overlapping_creates(chunk), impatient():
        ImportChunk.objects.locked(chunk.pk).heartbeat(1, lease_seconds=20)

    assert ImportChunk.objects.filter(pk=chunk.pk, lease_expires_at__gt=Now()).exists()


def test_a_claim_passes_the_create_calls_of_the_worker_before(chunk: ImportChunk) -> None:
    ImportChunk.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    with overlapping_creates(chunk), impatient():
        ImportChunk.objects.locked(chunk.pk).claim("next", lease_seconds=20)

    chunk.refresh_from_db()
    assert chunk.epoch == 2


def test_a_finish_waits_for_a_create_call_under_way(chunk: ImportChunk) -> None:
    with overlapping_creates(chunk), pytest.raises(OperationalError, match="statement timeout"), impatient():
        ImportChunk.objects.locked(chunk.pk, wait_for_creates=True)
