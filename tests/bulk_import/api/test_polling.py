"""Looking at jobs: cheap when nothing changed, and never at another's."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView

from bulk_import.models import TERMINAL_STATUSES, ImportChunk, ImportJob, JobStatus
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.conftest import make_user, product

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.django_db

LIST = "/products/bulk"


def make_job(submitter: Any, rows: int = 10, created: int = 0, *, target: str = "products", **fields: Any) -> ImportJob:
    """A job of one chunk, of which so many rows are created."""
    if fields.get("status") == JobStatus.PAUSED:
        fields |= {"pause_code": PauseCode.ENDPOINT_AWAY, "paused_at": timezone.now(), "paused_until": timezone.now()}
    job: ImportJob = ImportJob.objects.create(
        target=target, submitter=submitter, rows=rows, request_sha256=b"", **fields
    )
    ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=rows, first_byte=0, byte_count=rows, created=created
    )
    return job


def path(job: ImportJob) -> str:
    return f"{LIST}/{job.pk}"


def ids(answer: Any) -> list[str]:
    return [job["id"] for job in answer.json()["results"]]


def walk(client: APIClient, url: str) -> list[str]:
    """The ids of every page."""
    found: list[str] = []
    next_url: str | None = url
    while next_url:
        answer = client.get(next_url)
        found += ids(answer)
        next_url = answer.json()["next"]
    return found


# --- one job


def test_the_throttles_of_the_project_do_not_apply_to_polling(
    client_of_merchandiser: APIClient, merchandiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The create calls of the import count for the submitter's throttle, so polling would get 429."""
    monkeypatch.setattr(UserRateThrottle, "rate", "1/day", raising=False)
    monkeypatch.setattr(APIView, "throttle_classes", [UserRateThrottle])
    job = make_job(merchandiser)

    assert [client_of_merchandiser.get(path(job)).status_code for _ in range(3)] == [200, 200, 200]
    assert client_of_merchandiser.get(f"{path(job)}/failures").status_code == 200


def test_a_job_that_did_not_change_is_304_without_a_body(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser)
    etag = client_of_merchandiser.get(path(job))["ETag"]
    answer = client_of_merchandiser.get(path(job), headers={"If-None-Match": etag})

    assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", etag)


def test_time_alone_does_not_change_the_etag(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    """The rate and the time left differ from one look to the next."""
    job = make_job(merchandiser, 1000, 100, status="processing", started_at=timezone.now())
    first, second = (client_of_merchandiser.get(path(job)) for _ in range(2))

    assert first.json()["rows_per_second"] != second.json()["rows_per_second"]
    assert first["ETag"] == second["ETag"]


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job.chunks.update(created=1),
        lambda job: job.chunks.update(rejected=1),
        lambda _job: ImportJob.objects.update(status="processing"),
        lambda _job: ImportJob.objects.update(finished_at=timezone.now()),
        lambda _job: ImportJob.objects.update(problems=[{"field": None, "code": "x", "message": "y", "count": 1}]),
    ],
    ids=["created", "rejected", "status", "finished_at", "problems"],
)
def test_whatever_changes_in_a_job_changes_its_etag(
    client_of_merchandiser: APIClient, merchandiser: Any, change: Any
) -> None:
    job = make_job(merchandiser)
    etag = client_of_merchandiser.get(path(job))["ETag"]
    change(job)
    answer = client_of_merchandiser.get(path(job), headers={"If-None-Match": etag})

    assert answer.status_code == 200
    assert answer["ETag"] != etag


def test_another_language_is_another_etag(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser)
    answers = [client_of_merchandiser.get(path(job), headers={"Accept-Language": name}) for name in ("en", "pt-br")]

    assert all("Accept-Language" in answer["Vary"] for answer in answers)
    if answers[0].json()["message"] != answers[1].json()["message"]:
        assert answers[0]["ETag"] != answers[1]["ETag"]


@pytest.mark.parametrize("sent", ['W/"other"', '"other", {strong}', "*", "{etag}", '"x", {etag}'])
def test_if_none_match_is_a_list_compared_weakly(
    client_of_merchandiser: APIClient, merchandiser: Any, sent: str
) -> None:
    job = make_job(merchandiser)
    etag = client_of_merchandiser.get(path(job))["ETag"]
    header = sent.format(etag=etag, strong=etag.removeprefix("W/"))
    answer = client_of_merchandiser.get(path(job), headers={"If-None-Match": header})

    assert answer.status_code == (200 if sent == 'W/"other"' else 304)


def test_another_user_gets_no_304_for_a_known_etag(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser)
    etag = client_of_merchandiser.get(path(job))["ETag"]
    rival = APIClient()
    rival.force_login(make_user("rival", "add_product"))

    assert rival.get(path(job), headers={"If-None-Match": etag}).status_code == 404


@pytest.mark.parametrize(
    ("rows", "created", "seconds"),
    [(10, 0, "1"), (100, 90, "1"), (10_000, 1000, "9"), (100_000, 100, "30")],
    ids=["nothing known", "nearly done", "a tenth of the time left", "never more than half a minute"],
)
def test_retry_after_is_a_tenth_of_the_time_left(
    client_of_merchandiser: APIClient, merchandiser: Any, rows: int, created: int, seconds: str
) -> None:
    started_at = timezone.now() - timedelta(seconds=10.5)
    job = make_job(merchandiser, rows, created, status="processing", started_at=started_at)

    assert client_of_merchandiser.get(path(job))["Retry-After"] == seconds


@pytest.mark.parametrize("status", JobStatus)
def test_only_a_job_that_goes_on_has_retry_after(
    client_of_merchandiser: APIClient, merchandiser: Any, status: JobStatus
) -> None:
    job = make_job(merchandiser, status=status)

    assert ("Retry-After" in client_of_merchandiser.get(path(job))) is (status not in TERMINAL_STATUSES)


def test_a_304_says_when_to_look_again_too(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser)
    etag = client_of_merchandiser.get(path(job))["ETag"]

    assert client_of_merchandiser.get(path(job), headers={"If-None-Match": etag})["Retry-After"] == "1"


def test_head_tells_the_etag(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser)

    assert client_of_merchandiser.head(path(job))["ETag"] == client_of_merchandiser.get(path(job))["ETag"]


# --- the list


def test_the_list_is_empty_before_the_first_import(client_of_merchandiser: APIClient) -> None:
    assert client_of_merchandiser.get(LIST).json() == {
        "next": None,
        "previous": None,
        "results": [],
        "template": "http://testserver/products/bulk/template",
    }


def test_the_list_holds_the_own_jobs_of_the_target_only(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    own = make_job(merchandiser)
    make_job(make_user("rival"))
    make_job(None)
    make_job(merchandiser, target="categories")

    assert ids(client_of_merchandiser.get(LIST)) == [str(own.pk)]


def test_a_job_in_the_list_is_the_job_as_it_is_alone(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    job = make_job(merchandiser, 10, 3)

    assert client_of_merchandiser.get(LIST).json()["results"] == [client_of_merchandiser.get(path(job)).json()]


def test_the_newest_job_is_the_first(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    jobs = [make_job(merchandiser) for _ in range(3)]

    assert ids(client_of_merchandiser.get(LIST)) == [str(job.pk) for job in reversed(jobs)]


def test_pages_hold_every_job_once(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    """Also where several were made at the same instant, and more than one page of them."""
    jobs = [make_job(merchandiser) for _ in range(7)]
    ImportJob.objects.filter(pk__in=[job.pk for job in jobs[1:6]]).update(created_at=jobs[3].created_at)
    found = walk(client_of_merchandiser, f"{LIST}?page_size=2")

    assert sorted(found) == sorted(str(job.pk) for job in jobs)
    assert (found[0], found[-1]) == (str(jobs[6].pk), str(jobs[0].pk))


def test_a_page_stays_what_it_was_while_new_jobs_come_in(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    jobs = [make_job(merchandiser) for _ in range(4)]
    first = client_of_merchandiser.get(f"{LIST}?page_size=2").json()
    make_job(merchandiser)

    assert ids(client_of_merchandiser.get(first["next"])) == [str(job.pk) for job in (jobs[1], jobs[0])]


@pytest.mark.parametrize(("asked", "got"), [("", 20), ("?page_size=3", 3), ("?page_size=100", 25)])
def test_a_page_has_twenty_jobs_unless_told(
    client_of_merchandiser: APIClient, merchandiser: Any, asked: str, got: int
) -> None:
    for _ in range(25):
        make_job(merchandiser)

    assert len(ids(client_of_merchandiser.get(f"{LIST}{asked}"))) == got


def test_a_page_asks_the_database_a_fixed_number_of_times(
    client_of_merchandiser: APIClient, merchandiser: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(20):
        make_job(merchandiser)

    with django_assert_max_num_queries(5):
        client_of_merchandiser.get(LIST)


@pytest.mark.parametrize("status", JobStatus)
def test_the_list_can_be_filtered_by_status(
    client_of_merchandiser: APIClient, merchandiser: Any, status: JobStatus
) -> None:
    jobs = {one: make_job(merchandiser, status=one) for one in JobStatus}

    assert ids(client_of_merchandiser.get(f"{LIST}?status={status}")) == [str(jobs[status].pk)]


def test_the_next_page_keeps_the_filter(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    for status in (JobStatus.FAILED, JobStatus.QUEUED) * 3:
        make_job(merchandiser, status=status)

    assert len(walk(client_of_merchandiser, f"{LIST}?status=failed&page_size=1")) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("status=PENDING", "status"),
        ("status=", "status"),
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=", "page_size"),
    ],
)
def test_a_bad_filter_is_400_in_the_one_shape(client_of_merchandiser: APIClient, query: str, field: str) -> None:
    answer = client_of_merchandiser.get(f"{LIST}?{query}")

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_parameter"
    assert answer.json().keys() == {"code", "message", "errors"}
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize("query", ["on_invalid=ignore", "on_invalid=", "dry_run=perhaps", "dry_run="])
def test_a_bad_option_is_400_in_the_one_shape(client_of_merchandiser: APIClient, query: str) -> None:
    answer = client_of_merchandiser.post(f"{LIST}?{query}", [product("A")], format="json")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert [error["field"] for error in answer.json()["errors"]] == [query.partition("=")[0]]


def test_a_bad_cursor_is_an_error_in_the_one_shape(client_of_merchandiser: APIClient) -> None:
    answer = client_of_merchandiser.get(f"{LIST}?cursor=nonsense")

    assert answer.status_code == 404
    assert answer.json().keys() == {"code", "message"}


@pytest.mark.parametrize("url", [LIST, f"{LIST}/{uuid.UUID(int=4)}"])
def test_nobody_is_401_in_the_one_shape(db: None, url: str) -> None:
    answer = APIClient().get(url)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_a_user_without_the_right_to_create_still_sees_the_own_jobs(shop: None) -> None:
    """The right may have been withdrawn since."""
    user = make_user("former")
    job = make_job(user)
    client = APIClient()
    client.force_login(user)

    assert client.get(path(job)).status_code == 200
    assert ids(client.get(LIST)) == [str(job.pk)]


@pytest.mark.parametrize("method", ["put", "patch"])
def test_another_method_is_405_in_the_one_shape(
    client_of_merchandiser: APIClient, merchandiser: Any, method: str
) -> None:
    job = make_job(merchandiser)
    urls: Sequence[str] = (LIST, path(job))
    answers = [getattr(client_of_merchandiser, method)(url) for url in urls]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(405, "method_not_allowed")] * 2
