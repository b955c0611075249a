"""Staff pause a job and resume it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail

from bulk_import import operations
from bulk_import.models import ImportJob, JobStatus
from bulk_import.models.pause import MAX_PAUSE_SECONDS
from bulk_import.operations import resume
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.conftest import Aws, call, claim, expire_lease, finish, make_user, record, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(shop: None) -> Any:
    return make_user("staff", is_staff=True)


@pytest.fixture
def pause_job(messages: list[ChunkMessage], staff: Any) -> Callable[[], bool]:
    return lambda: operations.pause(the_job(), staff)


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.get()
    return job


def test_a_heartbeat_reports_the_pause_and_no_chunk_can_be_claimed(
    pause_job: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage]
) -> None:
    first, second = messages
    granted = claim(worker, first)
    assert pause_job()

    assert call(worker, "heartbeat", first, {"epoch": granted.epoch}).json()["paused"]
    answer = call(worker, "release", first, release(granted.epoch, pause=PauseCode.STAFF.value))
    assert answer.json() == {"retry_after_seconds": MAX_PAUSE_SECONDS}
    for message in (first, second):
        refused = call(worker, "claim", message)
        assert (refused.status_code, refused.json()["code"]) == (409, "paused")
        assert refused["Retry-After"] == str(MAX_PAUSE_SECONDS)


def test_a_pause_by_staff_ends_when_staff_resume_and_not_when_a_late_row_is_created(
    pause_job: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any, aws: Aws
) -> None:
    granted = claim(worker, messages[0])
    pause_job()
    record(messages[0], 0)
    call(worker, "heartbeat", messages[0], {"epoch": granted.epoch})
    assert the_job().status == JobStatus.PAUSED
    assert aws.messages() == []
    expire_lease(messages[0])

    assert resume(the_job(), staff)

    assert the_job().status == JobStatus.PROCESSING
    assert aws.messages() == messages
    assert [(event.kind, event.actor) for event in the_job().events.all()] == [("paused", staff), ("resumed", staff)]


def test_a_job_that_was_paused_before_its_first_claim_is_queued_again(
    pause_job: Callable[[], bool], staff: Any, aws: Aws, messages: list[ChunkMessage]
) -> None:
    pause_job()
    assert the_job().is_paused_by_staff

    resume(the_job(), staff)

    assert the_job().status == JobStatus.QUEUED
    assert aws.messages() == messages


@pytest.mark.parametrize("code", PauseCode)
def test_a_worker_cannot_end_a_pause_by_staff_or_change_its_reason(
    pause_job: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], code: PauseCode
) -> None:
    granted = claim(worker, messages[0])
    pause_job()

    call(worker, "release", messages[0], release(granted.epoch, pause=code.value))

    assert (the_job().status, the_job().pause_code, the_job().paused_until) == ("paused", "staff", None)


def test_a_late_report_of_a_pause_by_staff_does_not_pause_the_job_again(
    pause_job: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any
) -> None:
    granted = claim(worker, messages[0])
    pause_job()
    resume(the_job(), staff)

    answer = call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.STAFF.value))

    assert answer.json() == {"retry_after_seconds": 0}
    assert the_job().status == JobStatus.PROCESSING


def test_staff_can_end_a_pause_that_a_worker_began(
    worker: APIClient, messages: list[ChunkMessage], staff: Any, aws: Aws
) -> None:
    granted = claim(worker, messages[0])
    call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.ENDPOINT_AWAY.value))
    assert call(worker, "claim", messages[1]).status_code == 409
    expire_lease(messages[0])

    assert resume(the_job(), staff)

    assert call(worker, "claim", messages[1]).status_code == 200
    assert len(aws.messages()) == 2


def test_a_second_pause_or_resume_has_no_effect(pause_job: Callable[[], bool], staff: Any) -> None:
    assert [pause_job(), pause_job()] == [True, False]
    assert [resume(the_job(), staff), resume(the_job(), staff)] == [True, False]
    assert the_job().events.count() == 2


def test_a_pause_by_staff_sends_no_email(pause_job: Callable[[], bool]) -> None:
    pause_job()

    assert not the_job().events.filter(deliveries__channel="email").exists()
    assert mail.outbox == []


def test_a_job_that_staff_paused_ends_if_the_calls_in_flight_create_its_last_rows(
    pause_job: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any
) -> None:
    epochs = [claim(worker, message).epoch for message in messages]
    pause_job()
    for message, epoch in zip(messages, epochs, strict=True):
        record(message, *range(message.first_index, message.first_index + message.row_count))
        assert call(worker, "finish", message, finish(epoch)).status_code == 200

    assert the_job().status == JobStatus.SUCCEEDED
    assert not resume(the_job(), staff)


def test_a_job_that_staff_paused_says_why_and_what_happens_next(
    pause_job: Callable[[], bool], client_of_merchandiser: APIClient
) -> None:
    pause_job()

    document = client_of_merchandiser.get(f"/products/bulk/{the_job().pk}").json()
    assert document["status"] == "paused"
    assert document["pause"]["retry_at"] is None
    assert "paused because a member of staff paused it" in document["message"]
    assert "The import continues when staff resume it." in document["message"]
