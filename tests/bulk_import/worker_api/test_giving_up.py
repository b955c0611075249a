"""A chunk that no delivery can complete ends as dead, with the reason, and a redrive runs it again."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.db.models import F

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.operations import pause, redrive, resume
from bulk_import_wire.message import MAX_RETRY_SECONDS
from tests.bulk_import.conftest import Aws, call, claim, deliver, expire_lease, finish, record, release

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

MAX_DELIVERIES = 5


def let_time_pass(**duration: float) -> None:
    """Move the times of the pause into the past."""
    passed = timedelta(**duration)
    ImportJob.objects.update(paused_at=F("paused_at") - passed, paused_until=F("paused_until") - passed)


def let_the_retry_become_due(seconds: int = MAX_RETRY_SECONDS) -> None:
    """Let so many seconds pass since the last failed delivery: the longest wait, by default."""
    ImportChunk.objects.update(retry_at=F("retry_at") - timedelta(seconds=seconds))


def failures(client: APIClient, job: ImportJob) -> list[dict[str, Any]]:
    answer: Any = client.get(f"/products/bulk/{job.pk}/failures")
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def test_a_job_that_is_paused_for_too_long_ends_and_can_be_redriven(
    client_of_merchandiser: APIClient, merchandiser: Any, messages: list[ChunkMessage], run_worker: Any
) -> None:
    permissions = list(merchandiser.user_permissions.all())
    merchandiser.user_permissions.clear()
    deliver(messages)
    job = ImportJob.objects.get()
    assert job.status == JobStatus.PAUSED

    for _delivery in range(10):  # the pause never seems to end
        let_time_pass(hours=5)
        deliver(messages)

    job.refresh_from_db()
    assert job.status == JobStatus.FAILED
    assert set(job.chunks.values_list("status", flat=True)) == {ChunkStatus.DEAD}
    assert {line["errors"][0]["code"] for line in failures(client_of_merchandiser, job)} == {"paused_too_long"}
    (text,) = {problem["message"] for problem in job.problems}
    assert "24 hours" in text
    assert "permission" in text

    merchandiser.user_permissions.set(permissions)
    assert redrive(job) == 2
    deliver(messages)
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED


def test_a_chunk_whose_workers_all_die_is_given_up(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """For example, a row that takes too much memory kills each worker. Each copy of a message starts to count anew."""
    for _delivery in range(MAX_DELIVERIES):
        assert claim(worker, messages[0]).give_up == {}
        expire_lease(messages[0])

    given_up = claim(worker, messages[0])
    assert given_up.give_up["code"] == "dead_letter"
    report = finish(given_up.epoch, unprocessed=3, problems=[])
    assert call(worker, "dead", messages[0], report).status_code == 200
    assert ImportChunk.objects.get(number=0).status == ChunkStatus.DEAD


def test_a_chunk_that_makes_progress_is_not_given_up(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """For example, its worker dies with each deployment of the site, but creates some rows each time."""
    epoch = claim(worker, messages[0]).epoch
    ImportChunk.objects.update(failed_deliveries=MAX_DELIVERIES - 1)
    record(messages[0], 0)

    call(worker, "heartbeat", messages[0], {"epoch": epoch})

    assert ImportChunk.objects.get(pk=messages[0].chunk_id).failed_deliveries == 0


def test_failed_deliveries_count_and_deferred_ones_do_not(worker: APIClient, messages: list[ChunkMessage]) -> None:
    for _delivery in range(MAX_DELIVERIES):
        call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch))
        let_the_retry_become_due()
        call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch, has_failed=True))
        let_the_retry_become_due()

    assert ImportChunk.objects.get(number=0).failed_deliveries == MAX_DELIVERIES
    assert claim(worker, messages[0]).give_up
    assert not claim(worker, messages[1]).give_up


def test_a_second_message_is_not_a_delivery_of_its_own(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """After a failed delivery, no message of the chunk is accepted before its worker wanted to try again."""
    for seconds in (10, 40, 160, 600):
        call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch, has_failed=True))
        second = call(worker, "claim", messages[0])
        assert (second.status_code, second.json()["code"]) == (409, "retried_too_soon")
        assert second["Retry-After"] == str(seconds)

        let_the_retry_become_due(seconds)

    call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch, has_failed=True))
    assert claim(worker, messages[0]).give_up, "nothing is retried any more, so there is nothing to wait for"


def test_after_a_release_without_a_failure_nobody_waits(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """The failures before still count, but the copy of the message comes without a delay."""
    ImportChunk.objects.update(failed_deliveries=MAX_DELIVERIES - 1)
    call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch))

    assert claim(worker, messages[0]).epoch == 2


def test_a_resumed_job_does_not_wait(worker: APIClient, messages: list[ChunkMessage], aws: Aws) -> None:
    """A person who resumes a job expects that it continues at once."""
    call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch, has_failed=True))
    job = ImportJob.objects.get()
    assert pause(job, None)
    assert resume(job)

    assert claim(worker, messages[0]).epoch == 2


def test_a_claim_that_is_repeated_still_says_that_the_worker_must_give_up(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    ImportChunk.objects.update(failed_deliveries=MAX_DELIVERIES)
    body = {"message": messages[0].to_dict(), "claimant": "one"}
    answers = [call(worker, "claim", messages[0], body).json() for _ in range(2)]

    assert [answer["epoch"] for answer in answers] == [1, 1]
    assert all(answer["give_up"] for answer in answers)


@pytest.mark.parametrize("action", ["redrive", "retry"])
def test_a_redrive_and_a_retry_start_to_count_anew(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, action: str
) -> None:
    ImportChunk.objects.update(failed_deliveries=MAX_DELIVERIES)
    for message in messages:
        epoch = claim(worker, message).epoch
        call(worker, "dead", message, finish(epoch, unprocessed=message.row_count))
    job = ImportJob.objects.get()
    with transaction.atomic():
        assert getattr(job, action)() == 2

    assert set(job.chunks.values_list("failed_deliveries", flat=True)) == {0}
    assert not claim(worker, messages[0]).give_up


def test_a_redrive_of_a_job_that_is_still_paused_ends_the_pause(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch, pause="endpoint_away"))
    let_time_pass(hours=25)
    call(worker, "dead", messages[0], finish(claim(worker, messages[0]).epoch, unprocessed=3))
    job = ImportJob.objects.get()
    assert job.status == JobStatus.PAUSED
    assert redrive(job) == 1

    job.refresh_from_db()
    assert (job.status, job.paused_at) == (JobStatus.PROCESSING, None)
    assert not claim(worker, messages[0]).give_up


def test_a_job_that_staff_paused_waits_for_as_long_as_they_want(
    worker: APIClient, messages: list[ChunkMessage], merchandiser: Any
) -> None:
    with transaction.atomic():
        ImportJob.objects.get().pause_by_staff(merchandiser)
    let_time_pass(hours=1000)

    assert call(worker, "claim", messages[0]).json()["code"] == "paused"


def test_a_live_worker_that_is_asked_for_its_last_delivery_still_finishes(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    ImportChunk.objects.update(failed_deliveries=MAX_DELIVERIES - 1)
    granted = claim(worker, messages[0])
    record(messages[0], 0, 1, 2)

    assert not granted.give_up
    assert call(worker, "finish", messages[0], finish(granted.epoch)).status_code == 200
