"""The download of very many failures on a real server: what counts is what gunicorn's worker holds in memory."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.bulk_import.monolith import AUTHORIZATION, MEBIBYTE, PATH, Monolith, only_on_linux, running_monolith

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW, MANY = 1_000, 100_000
CHUNK_ROWS = 500

pytestmark = only_on_linux

MAKE_JOBS = """
import json, sys
import django
django.setup()
from django.contrib.auth import get_user_model
from django.core.files.storage import storages
from bulk_import.models import ImportChunk, ImportJob
from bulk_import_wire.lines import failure_line

ids, chunk_rows = json.loads(sys.argv[1]), int(sys.argv[2])
errors = [{"field": "category", "code": "does_not_exist", "message": "Object with slug=kayaks does not exist."}]
known = {"outcome": "rejected", "status": 400, "errors": errors, "attempts": 1, "at": "2026-01-31T12:00:00.000+00:00"}
submitter = get_user_model().objects.get(username="demo")
storage = storages["bulk_import_failures"]
for rows, job_id in ids.items():
    rows = int(rows)
    job = ImportJob.objects.create(
        id=job_id, target="products", submitter=submitter, status="failed", rows=rows, request_sha256=b""
    )
    for number, first in enumerate(range(0, rows, chunk_rows)):
        lines = (
            failure_line({"index": n, **known}, json.dumps({"sku": f"S{n}", "description": "=" * 200}).encode())
            for n in range(first, first + chunk_rows)
        )
        key = f"{job_id}/{first:09}-1.jsonl"
        storage.connection.meta.client.put_object(Bucket=storage.bucket_name, Key=key, Body=b"".join(lines))
        ImportChunk.objects.create(
            job=job, number=number, first_index=first, row_count=chunk_rows, first_byte=0, byte_count=0, status="done",
            rejected=chunk_rows, failures_key=key,
        )
"""
"""Makes jobs of the user `demo` none of whose rows was created: their IDs by their number of rows, and rows a chunk."""


@pytest.fixture(scope="module")
def monolith() -> Iterator[Monolith]:
    # Each thread has a client of S3, which takes 18 MiB.
    with running_monolith("--threads=1") as monolith:
        yield monolith


@pytest.fixture(scope="module")
def jobs(monolith: Monolith) -> dict[int, str]:
    """The ids of two jobs, by the number of their failures."""
    ids = {failures: str(uuid.uuid4()) for failures in (FEW, MANY)}
    monolith.stack.run("-c", MAKE_JOBS, json.dumps(ids), str(CHUNK_ROWS))
    return ids


def index_of_line(line: str) -> int:
    index: int = json.loads(line)["index"]
    return index


def index_of_record(line: str) -> int:
    return int(line.partition(",")[0])


def index_of_row(line: str) -> int:
    return int(json.loads(line)["sku"].removeprefix("S"))


@pytest.mark.parametrize(
    ("path", "index_of", "header_lines"),
    [
        ("failures", index_of_line, 0),
        ("failures?part=rows", index_of_row, 0),
        ("failures?format=csv", index_of_record, 1),
        ("results", index_of_line, 0),
    ],
    ids=["JSON Lines", "rows", "CSV", "results"],
)
def test_a_hundred_thousand_failures_take_no_more_memory_than_a_thousand(
    monolith: Monolith,
    jobs: dict[int, str],
    *,
    path: str,
    index_of: Callable[[str], int],
    header_lines: int,
    record_property: Any,
) -> None:
    """Whole, and in input order; the rest of the memory is the server's, and what Python keeps for itself."""

    def download(failures: int) -> tuple[int, int]:
        """The peak of the server's memory meanwhile and the size of the answer, in bytes."""
        baseline, size, lines = monolith.reset_memory_peak(), 0, 0
        url = f"{monolith.url}{PATH}/{jobs[failures]}/{path}"
        headers = {"Authorization": AUTHORIZATION}
        with httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if lines >= header_lines:
                    assert index_of(line) == lines - header_lines
                lines += 1
                size += len(line)
        assert lines == failures + header_lines
        return monolith.memory("VmHWM") - baseline, size

    download(FEW)  # all that is imported late is imported now
    few, _size = download(FEW)
    many, size = download(MANY)

    record_property("peak_kibibytes", [few // 1024, many // 1024])
    assert size > 15 * MEBIBYTE
    assert many < few + 4 * MEBIBYTE, f"{many // 1024} KiB instead of {few // 1024}"
