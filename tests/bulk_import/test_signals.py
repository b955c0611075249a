"""`job_finished` is sent for each end that is committed, at least once, and no receiver harms an import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import connection

from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus
from bulk_import.outbox.delivery import RETRY_AFTER
from bulk_import.outbox.relay import send_due_signals
from bulk_import.signals import job_finished
from tests.bulk_import.conftest import call, claim, finish, in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from rest_framework.test import APIClient

    from bulk_import_wire.contract import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


class Listener:
    """Writes down what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str]] = []
        self.in_transaction: list[bool] = []
        self.raises: BaseException | None = None

    def hear(self, sender: Any, job: ImportJob, event_id: Any, **_kwargs: Any) -> None:
        assert sender is ImportJob
        self.told.append((job.status, job.rejected_count, str(event_id)))
        self.in_transaction.append(connection.in_atomic_block)
        if self.raises:
            raise self.raises


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    job_finished.connect(listener.hear)
    yield listener
    job_finished.disconnect(listener.hear)


@pytest.fixture
def ended_job(listener: Listener, merchandiser: Any) -> ImportJob:
    """It has ended, and nobody has been told."""
    job: ImportJob = ImportJob.objects.create(
        target="products", submitter=merchandiser, rows=4, status=JobStatus.FAILED, request_sha256=b""
    )
    job.record(EventKind.ENDED, note=JobStatus.FAILED)
    return job


def end_job(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """Every answer comes twice, as if the first had been lost."""
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count)
        for _ in range(2):
            assert call(worker, "finish", message, report).status_code == 200


def owed() -> int:
    return ImportEvent.objects.filter(signal_due_at__isnull=False).count()


def let_time_pass(passed: timedelta) -> None:
    for event in ImportEvent.objects.filter(signal_due_at__isnull=False):
        event.signal_due_at -= passed
        event.save()


def test_the_end_of_a_job_is_told_once_it_is_committed(
    listener: Listener, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    end_job(worker, messages)
    call_command("bulk_import_relay")

    event = ImportEvent.objects.get(kind=EventKind.ENDED)
    assert listener.told == [("failed", 4, str(event.pk))]
    assert listener.in_transaction == [False]
    assert owed() == 0


def test_a_receiver_that_raises_changes_nothing_and_is_logged(
    listener: Listener, worker: APIClient, messages: list[ChunkMessage], caplog: pytest.LogCaptureFixture
) -> None:
    listener.raises = ValueError("a receiver's own mistake")
    another = Listener()
    job_finished.connect(another.hear)
    end_job(worker, messages)
    job_finished.disconnect(another.hear)

    assert ImportJob.objects.get().status == JobStatus.FAILED
    assert "a receiver's own mistake" in caplog.text
    assert (len(listener.told), len(another.told), owed()) == (1, 1, 0)


def test_killed_in_a_receiver_the_relay_tells_again_under_the_same_id(ended_job: ImportJob, listener: Listener) -> None:
    """SystemExit in place of the kill."""
    listener.raises = SystemExit()
    with pytest.raises(SystemExit):
        send_due_signals()
    assert owed() == 1
    listener.raises = None

    call_command("bulk_import_relay")
    assert len(listener.told) == 1  # the process may be at it still
    let_time_pass(RETRY_AFTER)
    call_command("bulk_import_relay")
    assert [event_id for _, _, event_id in listener.told] == [str(ended_job.events.get().pk)] * 2
    assert owed() == 0


def test_two_processes_at_once_tell_once(ended_job: ImportJob, listener: Listener) -> None:
    assert sorted(in_threads(*[send_due_signals] * 4)) == [0, 0, 0, 1]
    assert len(listener.told) == 1


def test_an_end_that_was_undone_before_it_was_told_is_not_told(ended_job: ImportJob, listener: Listener) -> None:
    ImportJob.objects.update(status=JobStatus.PENDING)
    send_due_signals()

    assert (listener.told, owed()) == ([], 0)


def test_the_end_after_a_retry_is_told_again_under_an_id_of_its_own(
    listener: Listener,
    client_of_merchandiser: APIClient,
    worker: APIClient,
    messages: list[ChunkMessage],
) -> None:
    end_job(worker, messages)
    job = ImportJob.objects.get()
    assert client_of_merchandiser.post(f"/products/bulk/{job.pk}/retry").status_code == 202
    end_job(worker, messages)

    assert [status for status, _, _ in listener.told] == ["failed", "failed"]
    assert len({event_id for _, _, event_id in listener.told}) == 2


def test_where_nobody_listens_nothing_is_owed(merchandiser: Any) -> None:
    job = ImportJob.objects.create(target="products", submitter=merchandiser, rows=4, request_sha256=b"")
    job.record(EventKind.ENDED, note=JobStatus.FAILED)

    assert owed() == 0
