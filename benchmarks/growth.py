"""`make bench-growth`: measures the pages for people with few jobs and with many, on PostgreSQL.

It fills an empty database and requests each page in process with Django's test client. At the end it prints
PostgreSQL's plan for each query that reads a table of `bulk_import`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import django
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

FEW_JOBS = 100
LARGE_JOB_ROWS = 100_000
TIMES = 15

JOBS = """
INSERT INTO bulk_import_importjob (id, submitter_id, target, language, status, rows, payload_bucket, payload_key,
    payload_etag, idempotency_key, request_sha256, traceparent, problems, notify, pause_code, created_at, finished_at,
    finished_rows_before, is_expiring, host, mode, rehearsal)
SELECT gen_random_uuid(), %(user)s, 'products', 'en', CASE WHEN n %% 1000 = 0 THEN 'processing' ELSE 'succeeded' END,
    %(rows)s, 'b', 'k', 'e', '', '', '', '[]', '', '', now() - n * interval '1 minute',
    CASE WHEN n %% 1000 = 0 THEN NULL ELSE now() - n * interval '1 minute' END, 0, false,
    '', 'create', false
FROM generate_series(1, %(jobs)s) n"""
CHUNKS = """
INSERT INTO bulk_import_importchunk (id, job_id, number, first_index, row_count, first_byte, byte_count, status, epoch,
    claimant, created, rejected, failed, unprocessed, problems, failures_key, updated, unchanged, deleted,
    failed_deliveries, row_hashes, row_lines)
SELECT gen_random_uuid(), job.id, n, n * 500, least(500, rows - n * 500), 0, 1,
    CASE WHEN job.status = 'processing' THEN 'processing' ELSE 'done' END, 1, '', least(500, rows - n * 500), 0, 0, 0,
    '[]', '', 0, 0, 0, 0, '', ''
FROM bulk_import_importjob job, generate_series(0, (rows - 1) / 500) n
WHERE NOT EXISTS (SELECT 1 FROM bulk_import_importchunk WHERE job_id = job.id)"""
RECORDS = """
INSERT INTO bulk_import_importedrow (job_id, index, body_sha256, object_id, created_at, outcome, lookup, object_hash)
SELECT job.id, n, decode(repeat('ab', 32), 'hex'), n::text, job.created_at + n * interval '5 milliseconds', 'created',
    'SKU-' || n, ''
FROM bulk_import_importjob job, generate_series(0, rows - 1) n
WHERE NOT EXISTS (SELECT 1 FROM bulk_import_importedrow WHERE job_id = job.id)"""
EVENTS = """
INSERT INTO bulk_import_importevent (id, job_id, kind, at, note, rows)
SELECT gen_random_uuid(), id, 'ended', finished_at, status, 0 FROM bulk_import_importjob job
WHERE finished_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM bulk_import_importevent WHERE job_id = job.id)"""


def fill(user: Any, jobs: int, rows: int) -> None:
    """Add jobs of `rows` rows each, with chunks, ledger records and events."""
    from django.db import connection  # noqa: PLC0415 - Django must be set up first

    with connection.cursor() as cursor:
        cursor.execute(JOBS, {"user": user.pk, "jobs": jobs, "rows": rows})
        for statement in (CHUNKS, RECORDS, EVENTS, "VACUUM ANALYZE"):
            cursor.execute(statement)


def milliseconds(client: Any, path: str) -> float:
    """Return the median duration of several requests. The first request is a warm-up and does not count."""
    took = []
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        answer = client.get(path)
        took.append(1000 * (time.perf_counter() - began))
        assert answer.status_code == 200, (path, answer.status_code)  # noqa: PLR2004, S101 - otherwise the figure is meaningless
    return statistics.median(took[1:])


def queries_of(client: Any, path: str) -> list[str]:
    from django.db import connection  # noqa: PLC0415 - as above
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415 - as above

    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    return [query["sql"] for query in queries.captured_queries]


def scans(query: str) -> list[str]:
    """Return the lines of PostgreSQL's plan for a query that scan a table of `bulk_import`."""
    from django.db import connection  # noqa: PLC0415 - as above

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}")
        plan = [row[0].strip(" ->") for row in cursor.fetchall()]
    return [line for line in plan if re.search(r"Scan.* (on|using) bulk_import", line)]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=100, help="rows of each job")
    options = parser.parse_args(arguments)
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.accept_settings"
    django.setup()
    client, user = open_site()
    fill(user, 1, LARGE_JOB_ROWS)
    fill(user, FEW_JOBS, options.rows)
    pages = pages_of(options.rows)
    few = {page: milliseconds(client, path) for page, path in pages.items()}
    fill(user, options.jobs, options.rows)
    many = {page: milliseconds(client, path) for page, path in pages.items()}
    last = report(client, pages, few, many)
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


def open_site() -> tuple[Any, Any]:
    """Create the tables and a superuser. Returns a client that is signed in as that user, and the user."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415 - as above
    from django.core.management import call_command  # noqa: PLC0415 - as above
    from django.db import connection  # noqa: PLC0415 - as above
    from django.test import Client  # noqa: PLC0415 - as above
    from django.test.utils import setup_test_environment  # noqa: PLC0415 - as above

    if connection.vendor != "postgresql":
        raise SystemExit("This needs an empty PostgreSQL database: DATABASE_URL=postgres://…")
    setup_test_environment()
    call_command("migrate", verbosity=0)
    user = get_user_model().objects.create_superuser("demo", password="demo")  # noqa: S106 - of an empty database
    client = Client()
    client.force_login(user)
    return client, user


def pages_of(rows: int) -> dict[str, str]:
    """Return the paths of the pages to measure. A small job has `rows` rows."""
    from bulk_import.models import ImportJob  # noqa: PLC0415 - as above

    large = ImportJob.objects.get(rows=LARGE_JOB_ROWS).pk
    small = ImportJob.objects.filter(rows=rows).earliest("created_at").pk
    admin = "/admin/bulk_import/importjob/"
    return {
        "status of a job": f"/products/bulk/{small}",
        f"status of a job of {LARGE_JOB_ROWS:,} rows": f"/products/bulk/{large}",
        "list of the user's jobs": "/products/bulk",
        "admin: list": admin,
        "admin: a job": f"{admin}{small}/change/",
        f"admin: a job of {LARGE_JOB_ROWS:,} rows": f"{admin}{large}/change/",
    }


def report(client: Any, pages: dict[str, str], few: dict[str, float], many: dict[str, float]) -> dict[str, Any]:
    """Print the table and the plans of the queries, and return the summary."""
    from bulk_import.models import ImportedRow, ImportJob  # noqa: PLC0415 - as above

    jobs, records = ImportJob.objects.count(), ImportedRow.objects.count()

    console = Console(width=130)
    console.print(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL"
    )
    table = Table(
        "page", "queries", f"ms, {FEW_JOBS} jobs", f"ms, {jobs:,} jobs, {records:,} records", "ratio", title="Growth"
    )
    whole_scans = set()
    plans: dict[str, list[str]] = {}
    for page, path in pages.items():
        queries = queries_of(client, path)
        table.add_row(page, str(len(queries)), f"{few[page]:.1f}", f"{many[page]:.1f}", f"{many[page] / few[page]:.2f}")
        plans[page] = [scan for query in queries if "bulk_import" in query for scan in scans(query)]
        whole_scans |= {scan.partition(" (")[0] for scan in plans[page] if "Seq Scan" in scan}
    console.print(table)
    for page, lines in plans.items():
        console.print(f"{page}:", *lines, sep="\n    ")
    return {
        "jobs": jobs,
        "records": records,
        "worst_times": round(max(many[page] / few[page] for page in pages), 2),
        "whole_table_scans": sorted(whole_scans),
    }


if __name__ == "__main__":
    sys.exit(main())
