"""Create calls share the lock on their chunk. A heartbeat and a claim do not wait for them; a finish does."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportJob, LockedChunk, chunk_columns
from bulk_import_wire.contract import Finish
from tests.bulk_import.conftest import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_SECONDS = 0.2

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chunk(merchandiser: Any) -> ImportChunk:
    """A chunk that a worker has claimed, with epoch 1."""
    job = ImportJob.objects.create(target="products", submitter=merchandiser, rows=1, language="en")
    chunk: ImportChunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=1, first_byte=0, byte_count=2, status="processing", epoch=1
    )
    return chunk


@contextmanager
def overlapping_create_calls(chunk: ImportChunk) -> Iterator[None]:
    """Run create calls so that at every moment at least one of them has the chunk locked."""
    over = threading.Event()
    all_have_the_lock = threading.Barrier(5)

    def create(phase: float) -> None:
        is_first = True
        while not over.is_set():
            with transaction.atomic():
                LockedChunk.lock(chunk.pk, 0)
                if is_first:
                    all_have_the_lock.wait()
                    is_first = False
                    time.sleep(phase)  # so that the calls do not all end at the same moment
                time.sleep(LOCK_SECONDS)
        connection.close()

    callers = [threading.Thread(target=create, args=[LOCK_SECONDS * caller / 4]) for caller in range(4)]
    for caller in callers:
        caller.start()
    all_have_the_lock.wait()
    try:
        yield
    finally:
        over.set()
        for caller in callers:
            caller.join()


@contextmanager
def lock_timeout(seconds: int) -> Iterator[None]:
    """Run a transaction that fails if it waits longer than this for a lock."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = '{seconds}s'")
        yield


def test_a_heartbeat_does_not_wait_for_create_calls_in_flight(chunk: ImportChunk) -> None:
    with overlapping_create_calls(chunk), lock_timeout(20):
        ImportChunk.objects.locked(chunk.pk).heartbeat(1, lease_seconds=20)

    assert ImportChunk.objects.filter(pk=chunk.pk, lease_expires_at__gt=Now()).exists()


@pytest.mark.parametrize("wait_for_creates", [True, False], ids=["finish", "heartbeat"])
def test_a_worker_that_has_locked_its_chunk_locks_neither_the_job_nor_another_chunk(
    chunk: ImportChunk, wait_for_creates: bool
) -> None:
    """Otherwise the workers of a job would wait for each other, and a redrive could deadlock with one of them."""
    other = ImportChunk.objects.create(
        job=chunk.job, number=1, first_index=1, row_count=1, first_byte=2, byte_count=2, status="processing", epoch=1
    )
    errors: list[Exception] = []

    def lock_the_others() -> None:
        try:
            with lock_timeout(1):
                ImportChunk.objects.locked(other.pk)
                ImportJob.objects.select_for_update().get(pk=chunk.job_id)
        except OperationalError as error:
            errors.append(error)
        connection.close()

    with transaction.atomic():
        ImportChunk.objects.locked(chunk.pk, wait_for_creates=wait_for_creates)
        another = threading.Thread(target=lock_the_others)
        another.start()
        another.join()

    assert not errors


def test_a_claim_does_not_wait_for_create_calls_of_the_previous_worker(chunk: ImportChunk) -> None:
    ImportChunk.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    with overlapping_create_calls(chunk), lock_timeout(20):
        ImportChunk.objects.locked(chunk.pk).claim("next", lease_seconds=20)

    chunk.refresh_from_db()
    assert chunk.epoch == 2


def test_a_finish_waits_for_a_create_call_in_flight(chunk: ImportChunk) -> None:
    with overlapping_create_calls(chunk), pytest.raises(OperationalError, match="statement timeout"), lock_timeout(1):
        ImportChunk.objects.locked(chunk.pk, wait_for_creates=True)


@contextmanager
def create_call_that_hangs(chunk: ImportChunk) -> Iterator[None]:
    """Run a create call that has the chunk locked as long as the block runs."""
    has_the_lock, is_over = threading.Event(), threading.Event()

    def create() -> None:
        with transaction.atomic():
            LockedChunk.lock(chunk.pk, 0)
            has_the_lock.set()
            is_over.wait()
        connection.close()

    caller = threading.Thread(target=create)
    caller.start()
    has_the_lock.wait()
    try:
        yield
    finally:
        is_over.set()
        caller.join()


@pytest.mark.parametrize("verb", ["finish", "dead"])
def test_a_finish_behind_a_create_call_that_hangs_is_503_within_seconds_and_can_be_repeated(
    chunk: ImportChunk, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Otherwise each try of the worker would occupy a process of the web server for as long as the call hangs."""
    monkeypatch.setattr(chunk_columns, "LOCK_SECONDS", 1)
    worker = APIClient(headers={"Authorization": f"Bearer {WORKER_SECRET}"})
    path = f"/bulk-import/worker/chunks/{chunk.pk}/{verb}"
    report = Finish(chunk.epoch, rejected=0, failed=0, unprocessed=chunk.row_count, failures_key="").to_dict()

    with create_call_that_hangs(chunk):  # it hangs until there is an answer
        answer = worker.post(path, report, format="json")

    assert (answer.status_code, answer.json()["code"]) == (503, "creates_running")
    assert int(answer["Retry-After"]) > 0
    assert worker.post(path, report, format="json").status_code == 200
