"""The page "Imports now" finds what it shows with indexes, however many imports there have been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from bulk_import.admin.now_page import report
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus

if TYPE_CHECKING:
    from django.db.models import Model

pytestmark = pytest.mark.django_db

JOBS, CHUNKS_OF_JOB = 2000, 20


def create_ended_imports() -> None:
    """Create 40,000 chunks, which are 8 million imported rows. They ended within the last 40 hours."""
    job = ImportJob.objects.create(target="products", status=JobStatus.SUCCEEDED, rows=4000, request_sha256=b"")
    chunk = {"number": 0, "first_index": 0, "row_count": 200, "first_byte": 0, "byte_count": 1, "created": 200}
    ImportChunk.objects.create(job=job, status=ChunkStatus.DONE, **chunk)
    copy(ImportJob, f"generate_series(1, {JOBS})", id="gen_random_uuid()")
    copy(
        ImportChunk,
        f"bulk_import_importjob AS job, generate_series(1, {CHUNKS_OF_JOB}) AS n",
        id="gen_random_uuid()",
        job_id="job.id",
        number="n",
        ended_at="now() - n * interval '2 hours'",
    )


def copy(model: type[Model], source: str, **values: str) -> None:
    """Insert a copy of the only row of a table for each row of the source, with other values in some columns."""
    table = model._meta.db_table
    columns = [str(field.column) for field in model._meta.concrete_fields]
    selected = ", ".join(values.get(column, f'old."{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} ({names}) SELECT {selected} FROM {table} AS old, {source}")  # noqa: S608 - our own names


def test_no_query_of_the_page_reads_all_jobs_or_chunks() -> None:
    """Only what is open or recent is read, with indexes."""
    queries: list[tuple[str, Any]] = []

    def keep(execute: Any, sql: str, params: Any, *args: Any) -> Any:
        queries.append((sql, params))
        return execute(sql, params, *args)

    create_ended_imports()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE bulk_import_importjob, bulk_import_importchunk")

    with connection.execute_wrapper(keep):
        report()

    with connection.cursor() as cursor:
        plans = []
        for sql, params in queries:
            cursor.execute(f"EXPLAIN {sql}", params)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    assert len(plans) == 10
    assert [plan for plan in plans if "Seq Scan on bulk_import_import" in plan] == []
