"""Quotas limit the requests, open jobs and rows of one user, and say when to try again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import cache
from django.utils import timezone

from bulk_import.intake.quotas import FEW_ROWS, count_dry_run, dry_runs
from bulk_import.intake.validation import validate_rows
from bulk_import.models import TERMINAL_STATUSES, ImportJob, JobStatus
from tests.bulk_import.conftest import Aws, make_user, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

DAY_SECONDS = 24 * 3600
DRY_RUN = "/products/bulk?dry_run=1"


def set_quota(settings: Settings, **quota: Any) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **quota}


def make_job(submitter: Any, rows: int = 1, status: str = JobStatus.PROCESSING, seconds_ago: int = 0) -> None:
    job = ImportJob.objects.create(
        target="products", submitter=submitter, rows=rows, status=status, request_sha256=b"", language=""
    )
    ImportJob.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(seconds=seconds_ago))


def test_too_many_open_jobs_are_429_with_retry_after(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=2)
    for _ in range(2):
        assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202
    answer = post_rows(client_of_merchandiser, [product("B")])

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (429, "quota_exceeded", "60")
    assert ImportJob.objects.count() == len(aws.payload_keys()) == 2


@pytest.mark.parametrize("status", JobStatus)
def test_only_unfinished_jobs_count(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings, status: JobStatus
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=1)
    make_job(merchandiser, status=status)

    expected = 202 if status in TERMINAL_STATUSES else 429
    assert post_rows(client_of_merchandiser, [product("A")]).status_code == expected


def test_the_jobs_and_rows_of_other_users_do_not_count(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=1, MAX_ROWS_PER_DAY=1)
    make_job(make_user("rival"), rows=100)
    make_job(None, rows=100)

    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202


def test_open_jobs_do_not_limit_dry_runs(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=1)
    make_job(merchandiser)

    assert post_rows(client_of_merchandiser, [product("A")], DRY_RUN).status_code == 200


def test_the_rows_of_dry_runs_count_for_the_daily_quota(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=5)
    rows = [product(str(n)) for n in range(2)]
    answers = [post_rows(client_of_merchandiser, rows, path) for path in (DRY_RUN, DRY_RUN, DRY_RUN, "/products/bulk")]

    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert answers[3].json()["code"] == "quota_exceeded"
    assert 0 < int(answers[3]["Retry-After"]) <= DAY_SECONDS
    assert post_rows(client_of_merchandiser, rows[:1]).status_code == 202


def test_the_dry_runs_of_another_user_or_of_yesterday_do_not_count(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=1)
    count_dry_run(make_user("rival"), 100)
    with monkeypatch.context() as yesterday:
        yesterday.setattr("bulk_import.intake.quotas.timezone.now", lambda: datetime.now(UTC) - timedelta(hours=24))
        count_dry_run(merchandiser, 100)

    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202


def test_a_dry_run_counts_longer_than_the_default_timeout_of_the_cache(
    merchandiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "default_timeout", 0)  # what has this timeout expires at once
    count_dry_run(merchandiser, 2)
    count_dry_run(merchandiser, 3)

    assert [rows for _end, rows in dry_runs(merchandiser, timezone.now())] == [5]


def test_a_dry_run_works_with_a_cache_that_keeps_nothing(merchandiser: Any, settings: Settings) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

    count_dry_run(merchandiser, 2)


def test_with_a_used_up_quota_no_row_is_validated(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=1)
    make_job(merchandiser)

    for path in (DRY_RUN, "/products/bulk"):
        assert post_rows(client_of_merchandiser, [{}], path).json()["code"] == "quota_exceeded"


def test_rows_up_to_the_daily_quota_are_accepted(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=10)
    make_job(merchandiser, rows=8)

    assert post_rows(client_of_merchandiser, [product(str(n)) for n in range(2)]).status_code == 202


def test_rows_over_the_daily_quota_are_429_until_enough_are_a_day_old(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    """When the job of an hour ago expires, too few rows become free. The next one, half an hour old, frees enough."""
    set_quota(settings, MAX_ROWS_PER_DAY=10)
    make_job(merchandiser, rows=1, seconds_ago=3600)
    make_job(merchandiser, rows=5, seconds_ago=1800)
    make_job(merchandiser, rows=3, seconds_ago=60)
    answer = post_rows(client_of_merchandiser, [product(str(n)) for n in range(3)])

    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert int(answer["Retry-After"]) == pytest.approx(DAY_SECONDS - 1800, abs=30)
    assert ImportJob.objects.count() == 3
    assert aws.payload_keys() == []


@pytest.mark.parametrize("path", ["/products/bulk", DRY_RUN])
def test_rows_that_were_accepted_while_many_rows_were_validated_count(
    client_of_merchandiser: APIClient, merchandiser: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=FEW_ROWS + 1)

    def validate(*args: Any, **kwargs: Any) -> Any:
        result = validate_rows(*args, **kwargs)
        make_job(merchandiser)
        return result

    monkeypatch.setattr("bulk_import.intake.accept.validate_rows", validate)
    answer = post_rows(client_of_merchandiser, [product(str(n)) for n in range(FEW_ROWS + 1)], path)

    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")


def test_jobs_older_than_a_day_do_not_count(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=1)
    make_job(merchandiser, seconds_ago=DAY_SECONDS + 1)

    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202


def test_more_rows_at_once_than_the_daily_quota_are_413_without_retry_after(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_ROWS_PER_DAY=1)
    answer = post_rows(client_of_merchandiser, [product("A"), product("B")])

    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_rows")
    assert "Retry-After" not in answer


def test_too_many_submissions_are_429_with_retry_after(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, SUBMISSION_RATE="2/min")
    answers = [post_rows(client_of_merchandiser, b"[]") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [400, 400, 429]
    assert answers[2].json()["code"] == "throttled"
    assert 0 < int(answers[2]["Retry-After"]) <= 60


def test_the_rate_limit_of_uploads_does_not_apply_to_other_requests(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, SUBMISSION_RATE="1/min")
    location = post_rows(client_of_merchandiser, [product("A")])["Location"]

    for _ in range(3):
        assert client_of_merchandiser.get(location).status_code == 200
        assert client_of_merchandiser.get("/products/bulk").status_code == 200


def test_a_repeated_request_gets_its_job_even_if_the_quota_is_used_up(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=1, MAX_ROWS_PER_DAY=1)
    first, second = (
        post_rows(client_of_merchandiser, [product("A")], headers={"Idempotency-Key": "key"}) for _ in range(2)
    )

    assert (first.status_code, second.status_code) == (202, 202)
    assert first["Location"] == second["Location"]
    assert post_rows(client_of_merchandiser, [product("A")], headers={"Idempotency-Key": "new"}).status_code == 429


def test_a_request_over_the_quota_does_not_use_up_its_key(
    client_of_merchandiser: APIClient, merchandiser: Any, aws: Aws, settings: Settings
) -> None:
    set_quota(settings, MAX_OPEN_JOBS=1)
    make_job(merchandiser)
    headers = {"Idempotency-Key": "key"}
    assert post_rows(client_of_merchandiser, [product("A")], headers=headers).status_code == 429

    ImportJob.objects.update(status="succeeded")
    assert post_rows(client_of_merchandiser, [product("A")], headers=headers).status_code == 202
