"""`job_finished` is sent once for each committed end of a job, and a failing receiver does not harm the import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus
from bulk_import.signals import job_finished
from tests.bulk_import.conftest import call, claim, finish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


class Receiver:
    """Keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str]] = []
        self.in_transaction: list[bool] = []
        self.error: Exception | None = None

    def receive(self, sender: Any, job: ImportJob, event_id: Any, **_kwargs: Any) -> None:
        assert sender is ImportJob
        self.calls.append((job.status, job.rejected_count, str(event_id)))
        self.in_transaction.append(connection.in_atomic_block)
        if self.error:
            raise self.error


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    job_finished.connect(receiver.receive)
    yield receiver
    job_finished.disconnect(receiver.receive)


def end_job(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """Send every report twice, as if the first response had been lost."""
    for message in messages:
        report = finish(claim(worker, message).epoch, rejected=message.row_count)
        for _ in range(2):
            assert call(worker, "finish", message, report).status_code == 200


def test_the_signal_is_sent_once_after_the_commit(
    receiver: Receiver, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    end_job(worker, messages)
    call_command("bulk_import_relay")

    event = ImportEvent.objects.get(kind=EventKind.ENDED)
    assert receiver.calls == [("failed", 4, str(event.pk))]
    assert receiver.in_transaction == [False]


def test_an_error_in_a_receiver_is_logged_and_affects_nothing_else(
    receiver: Receiver, worker: APIClient, messages: list[ChunkMessage], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.error = ValueError("an error in the receiver")
    another = Receiver()
    job_finished.connect(another.receive)
    end_job(worker, messages)
    job_finished.disconnect(another.receive)

    assert ImportJob.objects.get().status == JobStatus.FAILED
    assert "an error in the receiver" in caplog.text
    assert (len(receiver.calls), len(another.calls)) == (1, 1)


def test_no_signal_is_sent_if_the_transaction_is_rolled_back(receiver: Receiver, merchandiser: Any) -> None:
    job = ImportJob.objects.create(target="products", submitter=merchandiser, rows=4, request_sha256=b"")
    with transaction.atomic():
        job.record(EventKind.ENDED, note=JobStatus.FAILED)
        transaction.set_rollback(True)

    assert receiver.calls == []
    assert not ImportEvent.objects.exists()


def test_a_retried_job_sends_another_signal_with_another_event_id(
    receiver: Receiver,
    client_of_merchandiser: APIClient,
    worker: APIClient,
    messages: list[ChunkMessage],
) -> None:
    end_job(worker, messages)
    job = ImportJob.objects.get()
    assert client_of_merchandiser.post(f"/products/bulk/{job.pk}/retry").status_code == 202
    end_job(worker, messages)

    assert [status for status, _, _ in receiver.calls] == ["failed", "failed"]
    assert len({event_id for _, _, event_id in receiver.calls}) == 2
