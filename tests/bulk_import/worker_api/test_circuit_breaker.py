"""The circuit breaker pauses a job in which nearly every row fails, until somebody resumes it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db.models import F

from bulk_import import operations
from bulk_import.models import ImportChunk, ImportJob, JobStatus, circuit_breaker
from bulk_import.models.pause import MAX_PAUSE_SECONDS
from lambda_worker import retries
from products.models import Product
from tests.bulk_import.conftest import Aws, call, claim, deliver, expire_lease, finish, make_user, record, release

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

CODE = "most_rows_failed"


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the three rows of the first chunk decide."""
    monkeypatch.setattr(circuit_breaker, "MIN_ROWS", 3)


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.get()
    return job


def report_release(worker: APIClient, message: ChunkMessage, *, failed: int, tried: int = 3, pause: str = "") -> int:
    """Claim the chunk and release it with these outcomes. Returns the epoch."""
    epoch = claim(worker, message).epoch
    body = release(epoch, rows_tried=tried, rows_failed=failed, pause=pause)
    assert call(worker, "release", message, body).status_code == 200
    return epoch


def report_finish(worker: APIClient, message: ChunkMessage, **outcomes: int) -> None:
    """Claim the first chunk and finish it: no row was created, and each of them has one of these outcomes."""
    body = finish(claim(worker, message).epoch, rows_tried=3, rows_failed=outcomes.get("failed", 0), **outcomes)
    assert call(worker, "finish", message, body).status_code == 200


def test_a_finished_chunk_whose_rows_failed_pauses_the_job_and_says_why(
    worker: APIClient, messages: list[ChunkMessage], client_of_merchandiser: APIClient
) -> None:
    epoch_of_other_worker = claim(worker, messages[1]).epoch
    report_finish(worker, messages[0], failed=3)

    shown = client_of_merchandiser.get(f"/products/bulk/{the_job().pk}").json()
    assert (shown["status"], shown["pause"]["code"], shown["pause"]["retry_at"]) == ("paused", CODE, None)
    assert "paused because nearly every row failed" in shown["message"]
    assert shown["links"]["resume"].endswith("/resume")
    (email,) = mail.outbox
    assert email.subject == "Import of 4 products paused: nearly every row failed"
    assert "and resume the import" in email.body
    assert "We retry automatically" not in email.body
    assert call(worker, "heartbeat", messages[1], {"epoch": epoch_of_other_worker}).json()["paused"]
    expire_lease(messages[1])
    refused = call(worker, "claim", messages[1])
    assert (refused.status_code, refused["Retry-After"]) == (409, str(MAX_PAUSE_SECONDS))


def test_a_released_chunk_counts_once_although_its_report_is_repeated(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    """For example, the response to the first report was lost."""
    epoch = report_release(worker, messages[0], tried=2, failed=2)
    call(worker, "release", messages[0], release(epoch, rows_tried=2, rows_failed=2))
    assert the_job().status == JobStatus.PROCESSING

    report_release(worker, messages[0], tried=1, failed=1)
    assert the_job().pause_code == CODE
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("outcomes", "max_share"), [({"rejected": 3}, 0.9), ({"failed": 2, "rejected": 1}, 0.9), ({"failed": 3}, None)]
)
def test_a_job_with_rejected_or_few_failed_rows_is_not_paused(
    worker: APIClient,
    messages: list[ChunkMessage],
    settings: Settings,
    outcomes: dict[str, int],
    max_share: float | None,
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_FAILED_SHARE": max_share}
    report_finish(worker, messages[0], **outcomes)

    assert the_job().status == JobStatus.PROCESSING


def test_few_rows_decide_nothing(
    worker: APIClient, messages: list[ChunkMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit_breaker, "MIN_ROWS", 4)
    report_finish(worker, messages[0], failed=3)

    assert the_job().status == JobStatus.PROCESSING


def test_the_last_chunk_ends_the_job_and_does_not_pause_it(worker: APIClient, messages: list[ChunkMessage]) -> None:
    epoch = claim(worker, messages[1]).epoch
    record(messages[1], 3)
    call(worker, "finish", messages[1], finish(epoch, rows_tried=1))
    report_finish(worker, messages[0], failed=3)

    assert the_job().status == JobStatus.PARTIALLY_SUCCEEDED
    assert [event.kind for event in the_job().events.all()] == ["ended"]


def test_a_job_whose_endpoint_is_away_is_resumed_by_the_worker_and_counts_from_zero(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    report_release(worker, messages[0], failed=3, pause="endpoint_away")
    assert the_job().pause_code == "endpoint_away"
    ImportJob.objects.update(paused_until=F("paused_at"), failed_since_resume=3, tried_since_resume=3)

    epoch = claim(worker, messages[0]).epoch
    record(messages[0], 0)
    call(worker, "heartbeat", messages[0], {"epoch": epoch})

    job = the_job()
    assert (job.status, job.tried_since_resume, job.failed_since_resume) == (JobStatus.PROCESSING, 0, 0)


def test_the_submitter_resumes_the_job_and_it_is_not_paused_for_this_reason_again(
    worker: APIClient, messages: list[ChunkMessage], client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws
) -> None:
    report_release(worker, messages[0], failed=3)
    path = f"/products/bulk/{the_job().pk}/resume"

    answers = [client_of_merchandiser.post(path) for _double_click in range(2)]

    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (202, "processing"),
        (200, "processing"),
    ]
    assert answers[0].json()["links"]["resume"] is None
    assert aws.messages() == messages
    report_release(worker, messages[0], failed=3)
    assert the_job().status == JobStatus.PROCESSING
    assert [(event.kind, event.actor) for event in the_job().events.all()] == [
        ("paused", None),
        ("resumed", merchandiser),
    ]


@pytest.mark.parametrize("code", ["staff", "endpoint_away"])
def test_the_submitter_cannot_end_another_pause(
    worker: APIClient, messages: list[ChunkMessage], client_of_merchandiser: APIClient, code: str
) -> None:
    if code == "staff":
        operations.pause(the_job(), make_user("staff", is_staff=True))
    else:
        report_release(worker, messages[0], tried=0, failed=0, pause=code)

    answer = client_of_merchandiser.post(f"/products/bulk/{the_job().pk}/resume")

    assert (answer.status_code, answer.json()["pause"]["code"], answer.json()["links"]["resume"]) == (200, code, None)


def test_resuming_needs_the_permission_of_the_endpoint_and_counts_against_the_submission_rate(
    worker: APIClient, messages: list[ChunkMessage], client_of_merchandiser: APIClient, merchandiser: Any, settings: Any
) -> None:
    report_release(worker, messages[0], failed=3)
    path = f"/products/bulk/{the_job().pk}/resume"
    permissions = list(merchandiser.user_permissions.all())
    merchandiser.user_permissions.clear()
    assert client_of_merchandiser.post(path).status_code == 403

    merchandiser.user_permissions.set(permissions)
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "SUBMISSION_RATE": "1/min"}
    client_of_merchandiser.post(path)
    assert client_of_merchandiser.post(path).status_code == 429


def test_a_job_that_nobody_resumes_ends_and_can_be_redriven(
    worker: APIClient, messages: list[ChunkMessage], run_worker: Any
) -> None:
    report_release(worker, messages[0], failed=3)
    ImportJob.objects.update(paused_at=F("paused_at") - timedelta(hours=25))

    deliver(messages)

    job = the_job()
    assert (job.status, job.chunks.dead().count()) == (JobStatus.FAILED, 2)
    assert {problem["code"] for problem in job.problems} == {"paused_too_long"}
    assert "nearly every row failed" in job.problems[0]["message"]
    assert operations.redrive(job) == 2
    deliver(messages)
    assert the_job().status == JobStatus.SUCCEEDED


@pytest.mark.parametrize("counts", [{"rows_tried": 4}, {"rows_tried": 1, "rows_failed": 2}, {"rows_failed": -1}])
@pytest.mark.parametrize("verb", ["release", "finish"])
def test_counts_that_cannot_be_true_are_refused(
    worker: APIClient, messages: list[ChunkMessage], verb: str, counts: dict[str, int]
) -> None:
    epoch = claim(worker, messages[0]).epoch
    body = (release(epoch) if verb == "release" else finish(epoch, rejected=3)) | counts

    assert call(worker, verb, messages[0], body).status_code == 400
    assert ImportChunk.objects.get(pk=messages[0].chunk_id).lease_expires_at is not None


def test_a_failing_endpoint_gets_the_rows_of_one_chunk_only(
    client_of_merchandiser: APIClient,
    messages: list[ChunkMessage],
    run_worker: Any,
    aws: Aws,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole way, with a real worker and a real server: fail, pause, resume, create."""
    monkeypatch.setattr(retries, "BACKOFF_BASE_SECONDS", 0.001)
    monkeypatch.setattr(retries, "RETRIES_PER_SECOND", 1e6)
    tried: set[str] = set()

    def fail(product: Product, **_options: Any) -> None:
        tried.add(product.sku)
        raise RuntimeError("the shop's own bug")

    with monkeypatch.context() as bug:
        bug.setattr(Product, "save", fail)
        deliver(messages[:1])
        deliver(messages[1:])
    assert tried == {"0", "1", "2"}
    assert the_job().pause_code == CODE

    assert client_of_merchandiser.post(f"/products/bulk/{the_job().pk}/resume").status_code == 202
    deliver(aws.messages())
    job = ImportJob.objects.for_reports().get()
    assert (job.status, job.created_count, job.failed_count) == (JobStatus.PARTIALLY_SUCCEEDED, 1, 3)
    operations.retry(job)
    deliver(aws.messages())
    assert the_job().status == JobStatus.SUCCEEDED
