"""Repeated claims, released chunks, and the pauses of a job for which no row can be created."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F

from bulk_import.models import ImportChunk, ImportJob, JobStatus
from bulk_import.models.pause import MAX_PAUSE_SECONDS
from bulk_import.models.status import PAUSES_UNTIL_RESUMED
from bulk_import_wire.contract import Claim, ClaimRequest, PauseCode
from tests.bulk_import.conftest import Aws, call, claim, expire_lease, finish, in_threads, record, release

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

PAUSE_SECONDS = 3  # of settings.local
LEASE_SECONDS = 20
TOLERANCE_SECONDS = 60  # a slow machine may add this much


def claim_as(worker: APIClient, message: ChunkMessage, claimant: str) -> Any:
    return call(worker, "claim", message, ClaimRequest(message.to_dict(), claimant).to_dict())


def status_and_code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def pause(worker: APIClient, message: ChunkMessage, code: str = "endpoint_away", asked_seconds: int = 0) -> int:
    """Claim the chunk and release it with a pause. Returns the length of the pause in seconds."""
    body = release(claim(worker, message).epoch, pause=code, retry_after_seconds=asked_seconds)
    answer = call(worker, "release", message, body)
    assert answer.status_code == 200
    seconds: int = answer.json()["retry_after_seconds"]
    return seconds


def let_time_pass(seconds: float) -> None:
    """Move the times of the pause into the past by so many seconds."""
    passed = timedelta(seconds=seconds)
    ImportJob.objects.update(paused_at=F("paused_at") - passed, paused_until=F("paused_until") - passed)


def paused_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.get()
    assert job.status == JobStatus.PAUSED
    return job


def events() -> list[str]:
    return list(ImportJob.objects.get().events.values_list("kind", flat=True))


# --- claim


def test_a_claimant_whose_answer_was_lost_gets_the_same_claim_again(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    answers = [Claim.from_dict(claim_as(worker, messages[0], "one").json()) for _ in range(2)]

    assert [answer.epoch for answer in answers] == [1, 1]
    assert status_and_code(claim_as(worker, messages[0], "another")) == (409, "lease_held")


def test_a_claimant_that_asks_again_after_its_lease_gets_a_new_epoch(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """Another worker may have had the chunk in between, so the epoch must grow."""
    claim_as(worker, messages[0], "one")
    expire_lease(messages[0])

    assert claim_as(worker, messages[0], "one").json()["epoch"] == 2


def test_a_repeated_claim_extends_the_lease(worker: APIClient, messages: list[ChunkMessage]) -> None:
    claim_as(worker, messages[0], "one")
    chunk = ImportChunk.objects.get(epoch=1)
    claim_as(worker, messages[0], "one")

    assert ImportChunk.objects.filter(pk=chunk.pk, lease_expires_at__gt=chunk.lease_expires_at).exists()


@pytest.mark.parametrize("claimant", ["", "x" * 37])
def test_an_empty_or_too_long_claimant_is_400(worker: APIClient, messages: list[ChunkMessage], claimant: str) -> None:
    assert status_and_code(claim_as(worker, messages[0], claimant)) == (400, "malformed")


def test_no_chunk_of_a_paused_job_can_be_claimed_before_the_pause_is_over(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    pause(worker, messages[0], asked_seconds=100)
    answers = [call(worker, "claim", message) for message in messages]

    assert [status_and_code(answer) for answer in answers] == [(409, "paused")] * 2
    assert all(0 < int(answer["Retry-After"]) <= 100 for answer in answers)
    assert not ImportChunk.objects.filter(pk=messages[1].chunk_id, epoch__gt=0).exists()


def test_one_claim_is_admitted_as_a_probe_after_the_pause(worker: APIClient, messages: list[ChunkMessage]) -> None:
    seconds = pause(worker, messages[0])
    let_time_pass(seconds)

    assert claim(worker, messages[1]).epoch == 1
    later = call(worker, "claim", messages[0])
    assert status_and_code(later) == (409, "paused")
    assert 0 < int(later["Retry-After"]) <= LEASE_SECONDS
    assert paused_job().events.count() == 1


def test_the_probe_may_repeat_its_claim(worker: APIClient, messages: list[ChunkMessage]) -> None:
    let_time_pass(pause(worker, messages[0]))

    assert [claim_as(worker, messages[0], "probe").json()["epoch"] for _ in range(2)] == [2, 2]


def test_another_claim_is_admitted_when_the_worker_of_the_probe_dies(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    let_time_pass(pause(worker, messages[0]))
    claim(worker, messages[1])
    let_time_pass(LEASE_SECONDS)

    assert claim(worker, messages[0]).epoch == 2


def test_a_claim_of_a_chunk_with_a_live_lease_does_not_use_up_the_probe(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    claim(worker, messages[1])
    let_time_pass(pause(worker, messages[0]))

    assert status_and_code(call(worker, "claim", messages[1])) == (409, "lease_held")
    assert claim(worker, messages[0]).epoch == 2


def test_only_one_of_several_simultaneous_claims_is_admitted_as_the_probe(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    let_time_pass(pause(worker, messages[0]))

    answers = in_threads(*[lambda message=message: call(worker, "claim", message) for message in messages * 3])

    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 5]


# --- release


def test_a_released_chunk_can_be_claimed_immediately(worker: APIClient, messages: list[ChunkMessage]) -> None:
    answer = call(worker, "release", messages[0], release(claim(worker, messages[0]).epoch))

    assert (answer.status_code, answer.json()) == (200, {"retry_after_seconds": 0})
    assert claim(worker, messages[0]).epoch == 2
    assert ImportJob.objects.get().status == JobStatus.PROCESSING


def test_the_next_claim_gets_the_created_rows_and_the_failures_key_of_a_released_chunk(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    key = f"{messages[0].job_id}/0-1.jsonl"
    first = claim(worker, messages[0])
    record(messages[0], 1)
    call(worker, "release", messages[0], release(first.epoch, failures_key=key))
    second = claim(worker, messages[0])

    assert (first.failures_key, second.failures_key, second.created) == ("", key, [[1, 1]])
    assert ImportJob.objects.for_reports().get().created_count == 1


def test_a_stale_worker_cannot_release(worker: APIClient, messages: list[ChunkMessage]) -> None:
    stale = claim(worker, messages[0]).epoch
    expire_lease(messages[0])
    claim_as(worker, messages[0], "next")
    answer = call(worker, "release", messages[0], release(stale, pause="forbidden"))

    assert status_and_code(answer) == (409, "stale_epoch")
    assert status_and_code(call(worker, "claim", messages[0])) == (409, "lease_held")
    assert ImportJob.objects.get().status == JobStatus.PROCESSING


@pytest.mark.parametrize(
    "invalid",
    [
        {"failures_key": "other.jsonl"},
        {"failures_key": f"{uuid.UUID(int=1)}/0-1.jsonl"},
        {"pause": "tired"},
        {"pause": "ENDPOINT_AWAY"},
        {"retry_after_seconds": "soon"},
    ],
)
def test_an_invalid_release_is_400_and_changes_nothing(
    worker: APIClient, messages: list[ChunkMessage], invalid: dict[str, Any]
) -> None:
    body = {**release(claim(worker, messages[0]).epoch), **invalid}

    assert status_and_code(call(worker, "release", messages[0], body)) == (400, "malformed")
    assert status_and_code(call(worker, "claim", messages[0])) == (409, "lease_held")


# --- pause


@pytest.mark.parametrize("code", set(PauseCode) - PAUSES_UNTIL_RESUMED)
def test_a_release_with_a_pause_pauses_the_job_and_says_why(
    worker: APIClient, messages: list[ChunkMessage], client_of_merchandiser: APIClient, code: PauseCode
) -> None:
    assert pause(worker, messages[0], code) == PAUSE_SECONDS

    job = paused_job()
    shown = client_of_merchandiser.get(f"/products/bulk/{job.pk}").json()
    assert shown["status"] == "paused"
    assert shown["pause"]["code"] == code.value
    assert shown["pause"]["message"] in shown["message"]
    assert job.paused_at
    assert job.paused_until == job.paused_at + timedelta(seconds=PAUSE_SECONDS)
    (event,) = job.events.all()
    assert (event.kind, event.note, event.actor) == ("paused", code.value, None)


def test_each_further_pause_is_as_long_as_the_total_so_far_up_to_five_minutes(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    lasted = 0
    while lasted < 4 * MAX_PAUSE_SECONDS:
        seconds = pause(worker, messages[0])
        wanted = min(max(PAUSE_SECONDS, lasted), MAX_PAUSE_SECONDS)
        assert wanted <= seconds <= min(wanted + TOLERANCE_SECONDS, MAX_PAUSE_SECONDS)
        let_time_pass(seconds)
        lasted += seconds

    assert events() == ["paused"]


@pytest.mark.parametrize(
    ("asked", "got"),
    [(0, PAUSE_SECONDS), (2, PAUSE_SECONDS), (60, 60), (10**9, MAX_PAUSE_SECONDS)],
)
def test_a_pause_is_at_least_what_the_endpoint_asked_for(
    worker: APIClient, messages: list[ChunkMessage], asked: int, got: int
) -> None:
    assert pause(worker, messages[0], asked_seconds=asked) == got


def test_a_pause_is_at_most_five_minutes_even_if_the_setting_is_longer(
    worker: APIClient, messages: list[ChunkMessage], settings: Settings
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PAUSE_SECONDS": 10_000}

    assert pause(worker, messages[0]) == MAX_PAUSE_SECONDS


def test_a_paused_job_shows_the_latest_reason(worker: APIClient, messages: list[ChunkMessage]) -> None:
    let_time_pass(pause(worker, messages[0], "endpoint_away"))
    pause(worker, messages[1], "forbidden")

    assert paused_job().pause_code == "forbidden"


def test_a_job_that_has_ended_is_not_paused(worker: APIClient, messages: list[ChunkMessage]) -> None:
    epoch = claim(worker, messages[0]).epoch
    ImportJob.objects.update(status=JobStatus.CANCELLED)
    answer = call(worker, "release", messages[0], release(epoch, pause="forbidden"))

    assert answer.json() == {"retry_after_seconds": 0}
    assert ImportJob.objects.get().status == JobStatus.CANCELLED
    assert events() == []


# --- resume


@pytest.mark.parametrize("verb", ["heartbeat", "release", "finish"])
def test_a_job_resumes_as_soon_as_a_row_was_created(worker: APIClient, messages: list[ChunkMessage], verb: str) -> None:
    let_time_pass(pause(worker, messages[0]))
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0)
    body = {"heartbeat": {"epoch": epoch}, "release": release(epoch), "finish": finish(epoch, rejected=2)}[verb]
    assert call(worker, verb, messages[0], body).status_code == 200

    job = ImportJob.objects.get()
    assert (job.status, job.pause_code, job.paused_at, job.paused_until) == (JobStatus.PROCESSING, "", None, None)
    assert events() == ["paused", "resumed"]
    assert not job.events.filter(deliveries__channel="email").exists()
    assert claim(worker, messages[1]).epoch == 1


@pytest.mark.parametrize("verb", ["heartbeat", "release"])
def test_a_job_stays_paused_while_no_row_is_created(worker: APIClient, messages: list[ChunkMessage], verb: str) -> None:
    record(messages[0], 0)  # the release that begins the pause counts it
    let_time_pass(pause(worker, messages[0]))
    epoch = claim(worker, messages[0]).epoch
    call(worker, verb, messages[0], {"heartbeat": {"epoch": epoch}, "release": release(epoch)}[verb])

    assert paused_job().events.count() == 1


def test_a_pause_after_created_rows_starts_again_with_the_shortest_time(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    for _ in range(4):
        let_time_pass(pause(worker, messages[0]))
    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0)
    answer = call(worker, "release", messages[0], release(epoch, pause="endpoint_busy"))

    assert answer.json() == {"retry_after_seconds": PAUSE_SECONDS}
    assert events() == ["paused", "resumed", "paused"]


def test_a_paused_job_ends_with_its_last_chunk(worker: APIClient, messages: list[ChunkMessage], aws: Aws) -> None:
    seconds = pause(worker, messages[0])
    for message in messages:
        let_time_pass(max(seconds, LEASE_SECONDS))
        body = finish(claim(worker, message).epoch, unprocessed=message.row_count)
        assert call(worker, "dead", message, body).status_code == 200

    job = ImportJob.objects.get()
    assert (job.status, job.pause_code, job.paused_at, job.paused_until) == (JobStatus.FAILED, "", None, None)
    assert not job.events.filter(kind="paused", deliveries__channel="email").exists()


def test_a_claim_that_only_reports_is_granted_during_a_pause(worker: APIClient, messages: list[ChunkMessage]) -> None:
    pause(worker, messages[0])
    body = ClaimRequest(messages[1].to_dict(), "a dead-letter function", creates=False).to_dict()

    assert call(worker, "claim", messages[1], body).status_code == 200
    assert paused_job()
