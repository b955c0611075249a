"""Retrying the rows that were not created, and submitting corrected rows as a new job."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportJob, JobStatus
from bulk_import.operations import retry
from products.models import Category, Product
from tests.bulk_import.conftest import Aws, call, claim, finish, in_threads, make_user, post_rows, product, record
from tests.counts import counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import Settings

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.for_reports().get()
    return job


def shown(client: APIClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get(f"/products/bulk/{the_job().pk}").json()
    return document


def end(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """Row 0 is created, rows 1 and 2 are rejected and failed; row 3 is created."""
    first, second = messages
    epoch = claim(worker, first).epoch
    record(first, 0)
    key = f"{first.job_id}/0-1.jsonl"
    assert call(worker, "finish", first, finish(epoch, rejected=1, failed=1, failures_key=key)).status_code == 200
    epoch = claim(worker, second).epoch
    record(second, 3)
    assert call(worker, "finish", second, finish(epoch)).status_code == 200


@pytest.fixture
def ended(worker: APIClient, messages: list[ChunkMessage]) -> list[ChunkMessage]:
    end(worker, messages)
    return messages


def retry_path() -> str:
    return f"/products/bulk/{ImportJob.objects.get().pk}/retry"


@pytest.mark.usefixtures("ended")
def test_only_chunks_with_rows_that_were_not_created_run_again(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws
) -> None:
    answer = client_of_merchandiser.post(retry_path())

    document = answer.json()
    assert (answer.status_code, document["status"]) == (202, "queued")
    assert document["counts"] == counts(created=2, pending=2)
    assert (document["problems"], document["finished_at"], document["started_at"]) == ([], None, None)
    assert document["links"]["retry"] is None
    assert [message.first_index for message in aws.messages()] == [0]
    event = ImportJob.objects.get().events.last()
    assert event is not None
    assert (event.kind, event.actor) == ("retried", merchandiser)


@pytest.mark.usefixtures("ended")
def test_a_retry_tries_rejected_and_failed_rows_again_but_not_created_ones(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    client_of_merchandiser.post(retry_path())
    (message,) = aws.messages()
    granted = claim(worker, message)

    assert (granted.epoch, granted.created, granted.failures_key) == (2, [[0, 0]], "")
    record(message, 1, 2)
    assert call(worker, "finish", message, finish(granted.epoch)).status_code == 200
    assert the_job().status == JobStatus.SUCCEEDED
    assert shown(client_of_merchandiser)["links"]["retry"] is None


@pytest.mark.usefixtures("ended")
def test_a_second_retry_has_no_effect(client_of_merchandiser: APIClient, aws: Aws) -> None:
    answers = [client_of_merchandiser.post(retry_path()) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 200]
    assert len(aws.messages()) == 1
    assert [event.kind for event in ImportJob.objects.get().events.all()] == ["ended", "retried"]


@pytest.mark.usefixtures("ended")
def test_a_double_click_has_one_effect(merchandiser: Any) -> None:
    job = ImportJob.objects.get()

    def click() -> int:
        return retry(job, merchandiser)

    assert sorted(in_threads(click, click)) == [0, 1]
    assert job.events.filter(kind="retried").count() == 1


@pytest.mark.usefixtures("messages")
def test_a_job_that_has_not_ended_cannot_be_retried(client_of_merchandiser: APIClient, aws: Aws) -> None:
    assert shown(client_of_merchandiser)["links"]["retry"] is None
    assert client_of_merchandiser.post(retry_path()).status_code == 200
    assert aws.messages() == []
    assert the_job().status == JobStatus.QUEUED


def test_a_job_whose_rows_were_all_created_cannot_be_retried(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    for message in messages:
        epoch = claim(worker, message).epoch
        record(message, *range(message.first_index, message.first_index + message.row_count))
        call(worker, "finish", message, finish(epoch))

    assert client_of_merchandiser.post(retry_path()).status_code == 200
    assert the_job().status == JobStatus.SUCCEEDED


@pytest.mark.usefixtures("ended")
def test_the_rows_per_second_of_a_retry_do_not_include_earlier_rows(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    client_of_merchandiser.post(retry_path())
    (message,) = aws.messages()
    claim(worker, message)

    job = the_job()
    assert (job.finished_rows_before, job.finished_rows) == (2, 2)
    assert shown(client_of_merchandiser)["rows_per_second"] is None


@pytest.mark.usefixtures("ended")
def test_a_retry_needs_the_permission_to_create(merchandiser: Any, client_of_merchandiser: APIClient, aws: Aws) -> None:
    merchandiser.user_permissions.clear()

    assert client_of_merchandiser.post(retry_path()).status_code == 403
    assert aws.messages() == []


@pytest.mark.usefixtures("ended")
def test_a_retry_counts_as_an_open_job(
    client_of_merchandiser: APIClient, settings: Settings, worker: APIClient, aws: Aws
) -> None:
    path = retry_path()
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_OPEN_JOBS": 1}
    assert post_rows(client_of_merchandiser, [product("other")]).status_code == 202

    answer = client_of_merchandiser.post(path)
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    (other,) = aws.messages()
    epoch = claim(worker, other).epoch
    record(other, 0)
    call(worker, "finish", other, finish(epoch))
    assert client_of_merchandiser.post(path).status_code == 202


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("path", ["retry", "", "failures"])
def test_another_users_job_is_404(path: str) -> None:
    stranger = APIClient()
    stranger.force_login(make_user("stranger", "add_product"))
    url = f"/products/bulk/{ImportJob.objects.get().pk}/{path}".rstrip("/")

    method = {"retry": "POST", "": "DELETE", "failures": "GET"}[path]
    assert stranger.generic(method, url).status_code == 404
    assert the_job().status == JobStatus.PARTIALLY_SUCCEEDED


def test_a_retry_creates_the_remaining_rows_when_the_cause_is_fixed(
    client_of_merchandiser: APIClient, run_worker: Callable[[], None], aws: Aws
) -> None:
    rows = [product("good"), product("late", category="kayaks"), product("bad", price="-1")]
    assert post_rows(client_of_merchandiser, rows, "/products/bulk?on_invalid=skip").status_code == 202
    run_worker()
    # The endpoint rejected one row. The other was invalid when it was submitted, so a retry does not try it.
    assert the_job().counts["rejected"] == 2
    Category.objects.create(slug="kayaks", name="Kayaks")

    assert client_of_merchandiser.post(retry_path()).status_code == 202
    run_worker()

    assert the_job().status == JobStatus.PARTIALLY_SUCCEEDED
    assert [entry["field"] for entry in the_job().problems] == ["price"]
    assert sorted(Product.objects.values_list("sku", flat=True)) == ["good", "late"]
    assert aws.messages() == []


def test_a_retry_creates_a_row_that_the_endpoint_no_longer_rejects(
    client_of_merchandiser: APIClient, run_worker: Callable[[], None]
) -> None:
    assert post_rows(client_of_merchandiser, [product("A"), product("B")]).status_code == 202
    taken = Product.objects.create(
        sku="B", name="Taken", price="1.00", currency="EUR", category=Category.objects.get(slug="tents")
    )
    run_worker()
    assert the_job().counts["rejected"] == 1
    taken.delete()

    assert client_of_merchandiser.post(retry_path()).status_code == 202
    run_worker()

    assert the_job().status == JobStatus.SUCCEEDED
    assert the_job().counts == counts(created=2)
    assert sorted(Product.objects.values_list("sku", "name")) == [("A", "Ridge Tent"), ("B", "Ridge Tent")]


# --- corrections


@pytest.mark.usefixtures("ended")
def test_a_correction_names_the_job_that_it_corrects(client_of_merchandiser: APIClient) -> None:
    corrected = ImportJob.objects.get()
    answer = post_rows(client_of_merchandiser, [product("1")], f"/products/bulk?corrects={corrected.pk}")

    assert answer.status_code == 202
    assert answer.json()["corrects"] == str(corrected.pk)
    assert client_of_merchandiser.get(answer["Location"]).json()["corrects"] == str(corrected.pk)
    assert [str(job.pk) for job in corrected.corrections.all()] == [answer.json()["id"]]


@pytest.mark.parametrize(
    ("corrects", "status_and_code"),
    [
        ("", (400, "invalid_parameter")),
        ("7", (400, "invalid_parameter")),
        (str(uuid.UUID(int=0)), (404, "not_found")),
        ("another's", (404, "not_found")),
    ],
)
def test_a_correction_of_an_unknown_or_foreign_job_is_refused_and_nothing_is_stored(
    client_of_merchandiser: APIClient, corrects: str, status_and_code: tuple[int, str], aws: Aws
) -> None:
    if corrects == "another's":
        stranger = APIClient()
        stranger.force_login(make_user("stranger", "add_product"))
        corrects = post_rows(stranger, [product("theirs")]).json()["id"]
    before = (ImportJob.objects.count(), aws.payload_keys())

    answer = post_rows(client_of_merchandiser, [product("1")], f"/products/bulk?corrects={corrects}")

    assert (answer.status_code, answer.json()["code"]) == status_and_code
    assert "corrects" in answer.content.decode()
    assert (ImportJob.objects.count(), aws.payload_keys()) == before


@pytest.mark.usefixtures("ended")
def test_a_retried_chunk_can_be_claimed_with_its_earlier_message(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    """If the earlier message is delivered late, its worker does the work, and the new message finds a closed chunk."""
    client_of_merchandiser.post(retry_path())
    (message,) = aws.messages()
    granted = claim(worker, message)
    record(message, 1, 2)
    call(worker, "finish", message, finish(granted.epoch))

    assert call(worker, "claim", message).status_code == 410
    assert ImportChunk.objects.get(pk=message.chunk_id).created == 3
