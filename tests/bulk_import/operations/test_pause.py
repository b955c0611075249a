"""Staff pause a job, and let it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail

from bulk_import import operations
from bulk_import.models import ImportJob, JobStatus
from bulk_import.models.job import MAX_PAUSE_SECONDS
from bulk_import.operations import resume
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.conftest import Aws, call, claim, expire_lease, finish, make_user, record, release

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.test import APIClient

    from bulk_import_wire.contract import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff(shop: None) -> Any:
    return make_user("staff", is_staff=True)


@pytest.fixture
def hold(messages: list[ChunkMessage], staff: Any) -> Callable[[], bool]:
    return lambda: operations.pause(the_job(), staff)


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.get()
    return job


def test_workers_hear_of_it_and_nobody_claims_a_chunk(
    hold: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage]
) -> None:
    first, second = messages
    granted = claim(worker, first)
    assert hold()

    assert call(worker, "heartbeat", first, {"epoch": granted.epoch}).json()["paused"]
    answer = call(worker, "release", first, release(granted.epoch, pause=PauseCode.STAFF.value))
    assert answer.json() == {"retry_after_seconds": MAX_PAUSE_SECONDS, "is_too_long": False}
    for message in (first, second):
        refused = call(worker, "claim", message)
        assert (refused.status_code, refused.json()["code"]) == (409, "paused")
        assert refused["Retry-After"] == str(MAX_PAUSE_SECONDS)


def test_it_goes_on_when_staff_say_so_and_not_because_a_late_row_was_created(
    hold: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any, aws: Aws
) -> None:
    granted = claim(worker, messages[0])
    hold()
    record(messages[0], 0)
    call(worker, "heartbeat", messages[0], {"epoch": granted.epoch})
    assert the_job().status == JobStatus.PAUSED
    assert aws.messages() == []
    expire_lease(messages[0])

    assert resume(the_job(), staff)

    assert the_job().status == JobStatus.PROCESSING
    assert aws.messages() == messages
    assert [(event.kind, event.actor) for event in the_job().events.all()] == [("paused", staff), ("resumed", staff)]


def test_a_job_that_was_paused_before_anything_began_is_queued_again(
    hold: Callable[[], bool], staff: Any, aws: Aws, messages: list[ChunkMessage]
) -> None:
    hold()
    assert the_job().is_paused_by_staff

    resume(the_job(), staff)

    assert the_job().status == JobStatus.QUEUED
    assert aws.messages() == messages


@pytest.mark.parametrize("code", PauseCode)
def test_no_worker_takes_the_pause_away_or_changes_its_reason(
    hold: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], code: PauseCode
) -> None:
    granted = claim(worker, messages[0])
    hold()

    call(worker, "release", messages[0], release(granted.epoch, pause=code.value))

    assert (the_job().status, the_job().pause_code, the_job().paused_until) == ("paused", "staff", None)


def test_a_worker_that_hears_of_the_pause_too_late_does_not_begin_it_anew(
    hold: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any
) -> None:
    granted = claim(worker, messages[0])
    hold()
    resume(the_job(), staff)

    answer = call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.STAFF.value))

    assert answer.json() == {"retry_after_seconds": 0, "is_too_long": False}
    assert the_job().status == JobStatus.PROCESSING


def test_staff_may_end_a_pause_that_a_worker_began(
    worker: APIClient, messages: list[ChunkMessage], staff: Any, aws: Aws
) -> None:
    granted = claim(worker, messages[0])
    call(worker, "release", messages[0], release(granted.epoch, pause=PauseCode.ENDPOINT_AWAY.value))
    assert call(worker, "claim", messages[1]).status_code == 409
    expire_lease(messages[0])

    assert resume(the_job(), staff)

    assert call(worker, "claim", messages[1]).status_code == 200
    assert len(aws.messages()) == 2


def test_twice_is_once(hold: Callable[[], bool], staff: Any) -> None:
    assert [hold(), hold()] == [True, False]
    assert [resume(the_job(), staff), resume(the_job(), staff)] == [True, False]
    assert the_job().events.count() == 2


def test_nobody_is_mailed_about_what_staff_did(hold: Callable[[], bool]) -> None:
    hold()

    assert not the_job().events.filter(mail_due_at__isnull=False).exists()
    assert mail.outbox == []


def test_the_calls_in_flight_may_end_the_job(
    hold: Callable[[], bool], worker: APIClient, messages: list[ChunkMessage], staff: Any
) -> None:
    epochs = [claim(worker, message).epoch for message in messages]
    hold()
    for message, epoch in zip(messages, epochs, strict=True):
        record(message, *range(message.first_index, message.first_index + message.row_count))
        assert call(worker, "finish", message, finish(epoch)).status_code == 200

    assert the_job().status == JobStatus.SUCCEEDED
    assert not resume(the_job(), staff)


def test_the_job_says_why_and_what_comes_next(hold: Callable[[], bool], client_of_merchandiser: APIClient) -> None:
    hold()

    document = client_of_merchandiser.get(f"/products/bulk/{the_job().pk}").json()
    assert document["status"] == "paused"
    assert document["pause"]["retry_at"] is None
    assert "paused because a member of staff paused it" in document["message"]
    assert "The import continues when staff resume it." in document["message"]
