"""A job with everything that can expire, and what is left of it."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.management import call_command
from django.utils import timezone

from bulk_import.models import ImportedRow, ImportJob, JobStatus
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import Aws, call, claim, finish, product, record
from tests.bulk_import.reports.test_failures import a_line

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage


FAILURES = "bulk-import-failures"
ROWS = [product(str(n)) for n in range(4)]
EVERYTHING = "1 payloads, 3 failure files, 2 ledger records, 0 jobs"
NOTHING = "0 payloads, 0 failure files, 0 ledger records, 0 jobs"


class Remaining(NamedTuple):
    """How many of each there are, of all jobs together."""

    payloads: int
    failures: int
    records: int
    jobs: int


ALL = Remaining(1, 3, 2, 1)
ONLY_THE_JOB = Remaining(0, 0, 0, 1)


def remaining(aws: Aws) -> Remaining:
    return Remaining(
        len(aws.payload_keys()), len(failure_keys(aws)), ImportedRow.objects.count(), ImportJob.objects.count()
    )


def failure_keys(aws: Aws) -> list[str]:
    return [found["Key"] for found in aws.s3.list_objects_v2(Bucket=FAILURES).get("Contents", [])]


def end(aws: Aws, worker: APIClient, messages: list[ChunkMessage]) -> ImportJob:
    """End the job: rows 0 and 3 are created, rows 1 and 2 are not. The first chunk is dead after two deliveries."""
    first, last = messages
    epoch = claim(worker, first).epoch
    record(first, 0)
    record(last, 3)
    keys = [f"{first.job_id}/{name}.jsonl" for name in ("000000000-1", "000000000-2", "000000003-1")]
    for key in keys:
        aws.s3.put_object(Bucket=FAILURES, Key=key, Body=a_line(1, b"{}") + a_line(2, b"{}"))
    problems = [{**problem("category", "does_not_exist", "No such category.", 1), "count": 2}]
    report = finish(epoch, unprocessed=2, failures_key=keys[0], problems=problems)
    assert call(worker, "dead", first, report).status_code == 200
    assert call(worker, "finish", last, finish(claim(worker, last).epoch)).status_code == 200
    job: ImportJob = ImportJob.objects.get(pk=first.job_id)
    assert job.status == JobStatus.PARTIALLY_SUCCEEDED
    return job


def set_end_days_ago(days: float, **fields: Any) -> None:
    """Pretend that every ended job has ended this many days ago."""
    ended = ImportJob.objects.exclude(finished_at=None)
    ended.update(finished_at=timezone.now() - timedelta(days=days), **fields)


def set_retention(settings: Settings, **days: int | None) -> None:
    names = {f"{kind.upper()}_RETENTION_DAYS": count for kind, count in days.items()}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **names}


def expire(*arguments: str) -> str:
    output = StringIO()
    call_command("bulk_import_expire", *arguments, stdout=output)
    return output.getvalue().strip()
