"""A run that is killed is resumed by the next run, and the memory of a run is limited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.utils import timezone

from bulk_import import retention
from bulk_import.models import RETAINED_DATA, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import.retention import BATCH_RECORDS
from tests.bulk_import.retention.retained import (
    ALL,
    ONLY_THE_JOB,
    Remaining,
    remaining,
    set_end_days_ago,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bulk_import.conftest import Aws


pytestmark = pytest.mark.django_db(transaction=True)

PROJECT = Path(__file__).resolve().parents[3]


KILLED_AT_STEP = """
import os, signal, sys
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from bulk_import import retention
from bulk_import.storage.buckets import open_bucket

settings.BULK_IMPORT["JOB_RETENTION_DAYS"] = 40
retention.BATCH_RECORDS = 1

def run(steps):
    left = iter(range(steps))

    def step(**_):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(execute, sql, params, many, context):
        step()
        return execute(sql, params, many, context)

    for client in clients:
        client.meta.events.register("before-call.s3", step)
    with connection.execute_wrapper(execute):
        call_command("bulk_import_expire", stdout=sys.stderr)

# All processes inherit these two, because it takes long to create them.
clients = [open_bucket(alias)[1] for alias in ("bulk_import_payloads", "bulk_import_failures")]

for line in sys.stdin:
    if not (child := os.fork()):
        run(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""For each number in the input, runs the command in a process that is killed before its step of that number.

A step is an SQL statement or a request to S3. Prints the exit code of the process.
"""


@pytest.fixture
def run_steps(aws: Aws) -> Iterator[Callable[[int], int]]:
    """A function that runs the command for this many steps and returns the exit code."""
    name = str(connection.settings_dict["NAME"])
    database_url = f"sqlite:///{name}"
    if connection.vendor == "postgresql":
        database_url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    urls = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL": aws.url}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_AT_STEP],
        cwd=PROJECT,
        env={**os.environ, **urls, "DJANGO_SETTINGS_MODULE": "settings.local"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run(steps: int) -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.kill()


def test_a_run_that_is_killed_at_any_step_is_resumed(job: ImportJob, aws: Aws, run_steps: Callable[[int], int]) -> None:
    """Kill one run after the other, each one step later than the run before."""
    set_end_days_ago(41)
    steps, seen = 0, [ALL]
    while (exit_code := run_steps(steps)) == -signal.SIGKILL:
        left = remaining(aws)
        if left not in {ALL, ONLY_THE_JOB, Remaining(0, 0, 0, 0)}:
            job.refresh_from_db()
            assert job.is_expiring  # nothing is deleted before the job is marked
            assert set(job.expired) == set(RETAINED_DATA)
        seen += [left] if left != seen[-1] else []
        steps += 1

    assert exit_code == 0
    assert seen == [
        ALL,
        Remaining(payloads=0, failures=3, records=2, jobs=1),
        Remaining(payloads=0, failures=0, records=2, jobs=1),
        Remaining(payloads=0, failures=0, records=1, jobs=1),
        ONLY_THE_JOB,
        Remaining(payloads=0, failures=0, records=0, jobs=0),
    ]
    assert not ImportChunk.objects.exists()


def test_a_large_ledger_is_deleted_in_small_statements_and_constant_memory(aws: Aws, record_property: Any) -> None:
    small, large = (peak_of_expiry(rows) for rows in (2 * BATCH_RECORDS, 200 * BATCH_RECORDS))

    record_property("peak_bytes", [small, large])
    assert large < small + 256 * 1024


MULTIPLY = """
INSERT INTO bulk_import_importedrow (job_id, "index", body_sha256, object_id, created_at, outcome, lookup, object_hash)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < %s)
SELECT job_id, n, body_sha256, object_id, created_at, outcome, lookup, object_hash FROM bulk_import_importedrow, numbers
"""
"""Copies the only record until there are this many."""


def peak_of_expiry(rows: int) -> int:
    """The peak memory, in bytes, while a job with this many created rows expires."""
    job = ImportJob.objects.create(
        target="products",
        rows=rows,
        request_sha256=b"",
        status=JobStatus.SUCCEEDED,
        finished_at=timezone.now() - timedelta(days=31),
        payload_bucket="bulk-import-payloads",
        payload_key="x",
    )
    ImportedRow.objects.create(job=job, index=0, body_sha256=b"x" * 32)
    with connection.cursor() as cursor:
        cursor.execute(MULTIPLY, [rows])
    sizes: list[int] = []

    def execute(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if sql.startswith("DELETE"):
            sizes.append(context["cursor"].rowcount)
        return answer

    tracemalloc.start()
    try:
        with connection.execute_wrapper(execute):
            deleted = retention.expire_jobs()
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert deleted.ledger_records == rows
    assert sizes == [BATCH_RECORDS] * (rows // BATCH_RECORDS)
    return peak
