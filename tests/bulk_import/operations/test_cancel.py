"""A cancelled job creates no further row and reports what was created before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportJob, JobStatus
from bulk_import.operations import cancel
from bulk_import_wire.contract import VERDICT_HEADER, PauseCode
from products.models import Product
from tests.bulk_import.conftest import (
    Aws,
    call,
    claim,
    expire_lease,
    finish,
    in_threads,
    post_rows,
    product,
    record,
    release,
)
from tests.counts import counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulk_import_wire.contract import Claim
    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.for_reports().get()
    return job


def job_path() -> str:
    return f"/products/bulk/{ImportJob.objects.get().pk}"


def create(claim: Claim, index: int, row: dict[str, Any]) -> Any:
    """Call the create endpoint as the worker with this claim does."""
    headers = {"Authorization": f"Import {claim.token}", "Idempotency-Key": f"{the_job().pk}:{index}"}
    return APIClient().post("/products/", row, format="json", headers=headers)


def test_the_answer_to_a_cancel_says_how_many_rows_were_created(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage], merchandiser: Any
) -> None:
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0, 1)
    call(worker, "heartbeat", messages[0], {"epoch": epoch})

    answer = client_of_merchandiser.delete(job_path())

    document = answer.json()
    assert (answer.status_code, document["status"], answer["Retry-After"]) == (202, "processing", "1")
    assert document["message"].startswith(
        "The import is being cancelled. No more rows are created. So far, 2 of 4 products were created."
    )
    assert document["cancel_requested_at"]
    assert document["links"]["cancel"] is None
    (event,) = ImportJob.objects.get().events.all()
    assert (event.kind, event.actor) == ("cancelled", merchandiser)


def test_a_cancelled_job_creates_no_further_row_but_still_replays_created_ones(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    granted = claim(worker, messages[0])
    assert create(granted, 0, product("0")).status_code == 201
    client_of_merchandiser.delete(job_path())

    refused, replayed = create(granted, 1, product("1")), create(granted, 0, product("0"))

    assert (refused.status_code, refused[VERDICT_HEADER]) == (409, "cancelled")
    assert (replayed.status_code, replayed[VERDICT_HEADER]) == (201, "replayed")
    assert [row.sku for row in Product.objects.all()] == ["0"]


def test_the_next_heartbeat_or_claim_tells_the_worker_of_a_cancel(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    first, second = messages
    granted = claim(worker, first)
    assert not granted.cancelled
    client_of_merchandiser.delete(job_path())

    assert call(worker, "heartbeat", first, {"epoch": granted.epoch}).json()["cancelled"]
    assert claim(worker, second).cancelled


def test_the_job_is_cancelled_when_every_row_has_an_outcome(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    first, second = messages
    epoch = claim(worker, first).epoch
    record(first, 0)
    client_of_merchandiser.delete(job_path())
    call(worker, "finish", first, finish(epoch, unprocessed=2))
    assert the_job().status == JobStatus.PROCESSING
    call(worker, "finish", second, finish(claim(worker, second).epoch, unprocessed=1))

    assert the_job().status == JobStatus.CANCELLED
    assert the_job().counts == counts(created=1, unprocessed=3)
    document = client_of_merchandiser.get(job_path()).json()
    assert document["message"] == "The import was cancelled. 1 of 4 products had been created."
    assert document["links"]["retry"] == f"http://testserver{job_path()}/retry"


def test_a_job_whose_rows_were_all_created_before_the_workers_stop_has_succeeded(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    epochs = [claim(worker, message).epoch for message in messages]
    client_of_merchandiser.delete(job_path())
    for message, epoch in zip(messages, epochs, strict=True):
        record(message, *range(message.first_index, message.first_index + message.row_count))
        call(worker, "finish", message, finish(epoch))

    assert the_job().status == JobStatus.SUCCEEDED
    assert client_of_merchandiser.delete(job_path()).status_code == 200
    assert the_job().status == JobStatus.SUCCEEDED


def test_a_second_cancel_has_no_effect(client_of_merchandiser: APIClient, messages: list[ChunkMessage]) -> None:
    client_of_merchandiser.delete(job_path())
    before = ImportJob.objects.values().get()

    assert client_of_merchandiser.delete(job_path()).status_code == 202
    assert ImportJob.objects.values().get() == before
    assert ImportJob.objects.get().events.count() == 1
    assert len(messages) == 2


@pytest.mark.usefixtures("messages")
def test_a_double_click_has_one_effect(merchandiser: Any) -> None:
    job = ImportJob.objects.get()

    def click() -> bool:
        return cancel(job, merchandiser)

    assert sorted(in_threads(click, click)) == [False, True]
    assert job.events.filter(kind="cancelled").count() == 1


def test_a_cancel_sends_the_chunks_without_a_lease_again_because_their_messages_may_be_delayed(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    first, second = messages
    claim(worker, first)
    assert aws.messages() == []

    client_of_merchandiser.delete(job_path())

    assert aws.messages() == [second]
    assert [chunk.status for chunk in ImportChunk.objects.order_by("number")] == ["processing", "queued"]


def test_a_paused_job_can_be_cancelled_and_its_chunks_do_not_wait_for_a_probe(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    granted = claim(worker, messages[0])
    call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.FORBIDDEN.value))
    assert the_job().status == JobStatus.PAUSED

    client_of_merchandiser.delete(job_path())

    job = the_job()
    assert (job.status, job.pause_code, job.paused_until) == (JobStatus.PROCESSING, "", None)
    assert aws.messages() == messages
    for message in messages:
        expire_lease(message)
        granted = claim(worker, message)
        assert granted.cancelled
        call(worker, "finish", message, finish(granted.epoch, unprocessed=message.row_count))
    assert the_job().status == JobStatus.CANCELLED


def test_a_job_that_is_being_cancelled_is_not_paused_by_a_worker(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    granted = claim(worker, messages[0])
    client_of_merchandiser.delete(job_path())

    answer = call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.ENDPOINT_AWAY.value))

    assert answer.json() == {"retry_after_seconds": 0}
    assert the_job().status == JobStatus.PROCESSING


def test_a_cancelled_import_lists_its_rows_and_can_be_retried(
    client_of_merchandiser: APIClient, run_worker: Callable[[], None], aws: Aws
) -> None:
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(5)])
    client_of_merchandiser.delete(job_path())
    run_worker()
    assert the_job().status == JobStatus.CANCELLED
    assert the_job().counts["unprocessed"] == 5
    assert Product.objects.count() == 0
    download = client_of_merchandiser.get(f"{job_path()}/failures?part=rows")
    assert len(b"".join(download.streaming_content).splitlines()) == 5  # type: ignore[attr-defined] # it is streamed

    assert client_of_merchandiser.post(f"{job_path()}/retry").status_code == 202
    run_worker()

    assert the_job().status == JobStatus.SUCCEEDED
    assert Product.objects.count() == 5
    assert aws.messages() == []
