"""What has expired is deleted, and what is still needed is not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.utils import timezone

from bulk_import import retention
from bulk_import.exceptions import Expired
from bulk_import.models import RETAINED_DATA, TERMINAL_STATUSES, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import.operations import redrive, retry
from bulk_import.retention import Deleted, expire_jobs
from bulk_import.storage import failures
from tests.bulk_import.conftest import Aws, call, claim, finish, in_threads, post_rows, product
from tests.bulk_import.retention.retained import (
    ALL,
    EVERYTHING,
    FAILURES,
    NOTHING,
    ONLY_THE_JOB,
    Remaining,
    end,
    expire,
    failure_keys,
    remaining,
    set_end_days_ago,
    set_retention,
)
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage


pytestmark = pytest.mark.django_db(transaction=True)


def test_payload_failures_and_ledger_are_deleted_and_the_job_stays(job: ImportJob, aws: Aws) -> None:
    set_end_days_ago(31)
    before = ImportJob.objects.with_counts().get()
    events = list(job.events.values())

    assert remaining(aws) == ALL
    assert expire() == f"Deleted {EVERYTHING}."
    assert remaining(aws) == ONLY_THE_JOB
    after = ImportJob.objects.with_counts().get()
    assert (after.status, after.counts, after.problems) == (before.status, before.counts, before.problems)
    assert after.counts == counts(created=2, unprocessed=2)
    assert list(job.events.values()) == events
    assert (set(after.expired), after.is_expiring) == (set(RETAINED_DATA), False)


def test_a_second_run_has_no_effect(job: ImportJob, aws: Aws) -> None:
    set_end_days_ago(31)
    expire()
    before = ImportJob.objects.values().get()

    assert expire() == f"Deleted {NOTHING}."
    assert ImportJob.objects.values().get() == before


def test_the_data_of_other_jobs_is_not_deleted(
    job: ImportJob, aws: Aws, worker: APIClient, client_of_merchandiser: APIClient
) -> None:
    set_end_days_ago(31)
    post_rows(client_of_merchandiser, [product(f"B{n}") for n in range(4)])
    other = end(aws, worker, aws.messages())
    expire()

    assert remaining(aws) == Remaining(1, 3, 2, 2)
    assert aws.payload_keys() == [other.payload_key]
    assert all(key.startswith(f"{other.pk}/") for key in failure_keys(aws))
    assert set(ImportedRow.objects.values_list("job", flat=True)) == {other.pk}


def test_before_the_retention_period_is_over_nothing_is_deleted(job: ImportJob, aws: Aws) -> None:
    set_end_days_ago(29.99)

    assert expire() == f"Deleted {NOTHING}."
    assert remaining(aws) == ALL


@pytest.mark.parametrize("status", sorted(set(JobStatus) - TERMINAL_STATUSES))
def test_a_job_that_has_not_ended_never_expires(job: ImportJob, aws: Aws, status: JobStatus) -> None:
    long_ago = timezone.now() - timedelta(days=1000)
    ImportJob.objects.update(status=status, created_at=long_ago, finished_at=None)
    assert expire() == f"Deleted {NOTHING}."
    ImportJob.objects.update(finished_at=long_ago)  # cannot happen, but must be harmless
    assert expire() == f"Deleted {NOTHING}."

    assert remaining(aws) == ALL


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_a_job_expires_with_every_terminal_status(job: ImportJob, aws: Aws, status: JobStatus) -> None:
    set_end_days_ago(31, status=status)
    expire()

    assert remaining(aws) == ONLY_THE_JOB


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("payload", ALL._replace(payloads=0)),
        ("failures", ALL._replace(failures=0)),
        ("ledger", ALL._replace(records=0)),
    ],
)
def test_each_kind_of_data_has_its_own_retention_period(
    job: ImportJob, aws: Aws, settings: Settings, kind: str, left: Remaining
) -> None:
    set_retention(settings, **{**dict.fromkeys(RETAINED_DATA, 90), kind: 28})
    set_end_days_ago(29)
    expire()
    assert remaining(aws) == left
    set_end_days_ago(91)
    expire()

    assert remaining(aws) == ONLY_THE_JOB


def test_a_retention_of_none_keeps_the_data_for_ever(job: ImportJob, aws: Aws, settings: Settings) -> None:
    set_retention(settings, payload=None, failures=None, ledger=None)
    set_end_days_ago(10_000)

    assert expire() == f"Deleted {NOTHING}."
    assert remaining(aws) == ALL


@pytest.mark.parametrize("days", [None, 60])
def test_no_data_is_kept_longer_than_its_job(job: ImportJob, aws: Aws, settings: Settings, days: int | None) -> None:
    set_retention(settings, payload=days, failures=days, ledger=days, job=40)
    set_end_days_ago(39)
    expire()
    assert remaining(aws) == ALL
    set_end_days_ago(41)

    assert expire() == "Deleted 1 payloads, 3 failure files, 2 ledger records, 1 jobs."
    assert remaining(aws) == Remaining(0, 0, 0, 0)
    assert not ImportChunk.objects.exists()


def test_an_expired_job_is_deleted_when_its_own_retention_period_is_over(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    correction = ImportJob.objects.create(target="products", rows=1, request_sha256=b"", corrects=job)
    set_retention(settings, job=40)
    set_end_days_ago(31)
    expire()
    assert remaining(aws) == ONLY_THE_JOB._replace(jobs=2)
    set_end_days_ago(41)
    expire()

    assert list(ImportJob.objects.values_list("pk", "corrects")) == [(correction.pk, None)]


def test_the_failures_of_every_delivery_are_deleted(job: ImportJob, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "PAGE_KEYS", 2)
    for epoch in range(3, 7):
        aws.s3.put_object(Bucket=FAILURES, Key=f"{job.pk}/000000000-{epoch}.jsonl", Body=b"")
    set_end_days_ago(31)

    assert "7 failure files" in expire("--dry-run")
    assert "7 failure files" in expire()
    assert failure_keys(aws) == []


def test_a_dry_run_reports_what_would_be_deleted_and_deletes_nothing(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    set_retention(settings, job=40)
    set_end_days_ago(41)
    before = ImportJob.objects.values().get()

    assert expire("--dry-run") == "Would delete 1 payloads, 3 failure files, 2 ledger records, 1 jobs."
    assert (remaining(aws), ImportJob.objects.values().get()) == (ALL, before)


def mark_expired(job: ImportJob, *kinds: str) -> bool:
    with transaction.atomic():
        return job.expire(kinds)


def test_a_job_that_was_retried_in_the_meantime_is_not_deleted(job: ImportJob, aws: Aws) -> None:
    set_end_days_ago(31)
    as_read = ImportJob.objects.get()
    assert retry(job) == 1

    assert not mark_expired(as_read, *RETAINED_DATA)
    assert expire() == f"Deleted {NOTHING}."
    assert (remaining(aws), ImportJob.objects.get().expired) == (ALL, {})


def test_a_job_that_was_retried_and_ended_in_the_meantime_is_not_deleted(
    job: ImportJob, aws: Aws, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    set_end_days_ago(31)
    as_read = ImportJob.objects.get()
    retry(job)
    epoch = claim(worker, messages[0]).epoch
    assert call(worker, "finish", messages[0], finish(epoch, rejected=2)).status_code == 200

    assert not mark_expired(as_read, *RETAINED_DATA)
    assert expire() == f"Deleted {NOTHING}."


def test_a_job_that_has_not_ended_cannot_expire(job: ImportJob) -> None:
    ImportJob.objects.update(status=JobStatus.PROCESSING, finished_at=None)

    assert not mark_expired(ImportJob.objects.get(), *RETAINED_DATA)
    assert ImportJob.objects.get().expired == {}


def test_a_job_that_another_run_has_deleted_is_skipped(job: ImportJob, aws: Aws) -> None:
    as_read, deleted = ImportJob.objects.get(), Deleted()
    ImportJob.objects.get().delete()
    retention._expire_job(as_read, {*RETAINED_DATA, "job"}, deleted)

    assert deleted == Deleted()


@pytest.mark.parametrize("reopen", [retry, redrive])
def test_expiry_and_retry_at_the_same_time_exclude_each_other(job: ImportJob, aws: Aws, reopen: Any) -> None:
    set_end_days_ago(31)

    def try_to_reopen() -> int | None:
        try:
            return int(reopen(ImportJob.objects.get()))
        except Expired:
            return None

    reopened, _deleted = in_threads(try_to_reopen, expire_jobs)

    assert remaining(aws) == (ALL if reopened else ONLY_THE_JOB)
    assert bool(ImportJob.objects.get().expired) == (not reopened)


@pytest.mark.parametrize("job_days", [None, 30])
def test_several_runs_at_the_same_time_are_harmless(
    job: ImportJob, aws: Aws, settings: Settings, job_days: int | None
) -> None:
    set_retention(settings, job=job_days)
    set_end_days_ago(31)
    in_threads(*[expire_jobs] * 4)

    assert remaining(aws) == ONLY_THE_JOB._replace(jobs=0 if job_days else 1)
    assert not ImportJob.objects.filter(is_expiring=True).exists()


def test_a_run_does_not_clear_the_mark_of_another_run(job: ImportJob) -> None:
    """If the other run were killed, the next run would need the mark to resume it."""
    mine, others = ImportJob.objects.get(), ImportJob.objects.get()
    mark_expired(mine, "payload")
    mark_expired(others, "ledger")
    mine.mark_deleted()
    assert ImportJob.objects.get().is_expiring

    others.mark_deleted()
    assert not ImportJob.objects.get().is_expiring
