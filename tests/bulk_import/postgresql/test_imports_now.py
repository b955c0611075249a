"""The page "Imports now" finds what it shows with indexes, however many imports there have been."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from bulk_import.admin.now_page import report

pytestmark = pytest.mark.django_db

JOBS, CHUNKS_OF_JOB = 2000, 20

ENDED_JOBS = """
INSERT INTO bulk_import_importjob (
    id, target, language, host, mode, rehearsal, status, rows, payload_bucket, payload_key, payload_etag,
    idempotency_key, request_sha256, traceparent, problems, reading, notify, pause_code, tried_since_resume,
    failed_since_resume, created_at, finished_rows_before, is_expiring, file_name
)
SELECT gen_random_uuid(), 'products', '', '', 'create', false, 'succeeded', 4000, '', '', '', '', '', '', '[]', '{}',
       '', '', 0, 0, now() - interval '1 day', 0, false, ''
FROM generate_series(1, %s)
"""

ENDED_CHUNKS = """
INSERT INTO bulk_import_importchunk (
    id, job_id, number, first_index, row_count, first_byte, byte_count, row_hashes, row_lines, status, epoch, claimant,
    worker, ended_at, rows_before, calls, created, updated, unchanged, deleted, rejected, failed, unprocessed, problems,
    failed_deliveries, failures_key
)
SELECT gen_random_uuid(), job.id, number, 200 * number, 200, 0, 1, '', '', 'done', 1, '', '',
       now() - number * interval '2 hours', 0, '{}', 200, 0, 0, 0, 0, 0, 0, '[]', 0, ''
FROM bulk_import_importjob AS job, generate_series(1, %s) AS number
"""


def test_no_query_of_the_page_reads_all_jobs_or_chunks() -> None:
    """40,000 chunks are 8 million imported rows. Only what is open or recent is read."""
    queries: list[tuple[str, Any]] = []

    def keep(execute: Any, sql: str, params: Any, *args: Any) -> Any:
        queries.append((sql, params))
        return execute(sql, params, *args)

    with connection.cursor() as cursor:
        cursor.execute(ENDED_JOBS, [JOBS])
        cursor.execute(ENDED_CHUNKS, [CHUNKS_OF_JOB])
        cursor.execute("ANALYZE bulk_import_importjob, bulk_import_importchunk")

    with connection.execute_wrapper(keep):
        report()

    with connection.cursor() as cursor:
        plans = []
        for sql, params in queries:
            cursor.execute(f"EXPLAIN {sql}", params)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert len(plans) == 9
    assert [plan for plan in plans if "Seq Scan on bulk_import_import" in plan] == []
