"""Rows are split into chunks without a gap, and their payload is stored once."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bulk_import.exceptions import StorageUnavailable
from bulk_import.intake import accept
from bulk_import.intake.accept import split_into_chunks
from bulk_import.intake.payload import Payload
from bulk_import.models import ImportChunk, ImportJob
from bulk_import.models.row import row_hash, unpack_lines
from bulk_import.storage.payloads import put_payload

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.bulk_import.conftest import Aws

PAYLOADS = "bulk_import_payloads"


def limit_chunks(settings: Settings, monkeypatch: pytest.MonkeyPatch, rows: int, size_bytes: int) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CHUNK_ROWS": rows}
    monkeypatch.setattr(accept, "MAX_CHUNK_BYTES", size_bytes)


def cut(*lines: bytes) -> list[ImportChunk]:
    with Payload() as payload:
        for index, line in enumerate(lines):
            payload.append(line, index + 2)
        return list(split_into_chunks(ImportJob(rows=len(lines)), payload))


def change_storage(settings: Settings, **options: Any) -> None:
    storage = settings.STORAGES[PAYLOADS]
    changed = {**storage, "OPTIONS": {**storage["OPTIONS"], **options}}
    settings.STORAGES = {**settings.STORAGES, PAYLOADS: changed}


@given(
    lines=st.lists(st.binary(min_size=1, max_size=12), min_size=1, max_size=40),
    max_rows=st.integers(1, 6),
    max_bytes=st.integers(1, 30),
)
@example(lines=[b"x" * 12], max_rows=1, max_bytes=1)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chunks_cover_every_row_and_byte_once_and_in_order(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[bytes],
    max_rows: int,
    max_bytes: int,
) -> None:
    limit_chunks(settings, monkeypatch, max_rows, max_bytes)
    payload = b"".join(line + b"\n" for line in lines)

    chunks = cut(*lines)

    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    index = first_byte = 0
    for chunk in chunks:
        assert (chunk.first_index, chunk.first_byte) == (index, first_byte)
        content = payload[chunk.first_byte : chunk.first_byte + chunk.byte_count]
        assert content == b"".join(line + b"\n" for line in lines[index : index + chunk.row_count])
        assert chunk.row_hashes == b"".join(row_hash(line) for line in lines[index : index + chunk.row_count])
        assert list(unpack_lines(bytes(chunk.row_lines))) == list(range(index + 2, index + chunk.row_count + 2))
        assert 1 <= chunk.row_count <= max_rows
        assert chunk.byte_count <= max_bytes or chunk.row_count == 1
        index += chunk.row_count
        first_byte += chunk.byte_count
    assert (index, first_byte) == (len(lines), len(payload))


@given(
    lines=st.lists(st.binary(min_size=1, max_size=12), min_size=2, max_size=40),
    max_rows=st.integers(1, 6),
    max_bytes=st.integers(1, 30),
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_chunk_is_as_full_as_the_limits_allow(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[bytes],
    max_rows: int,
    max_bytes: int,
) -> None:
    """The first row of the next chunk would not fit."""
    limit_chunks(settings, monkeypatch, max_rows, max_bytes)

    chunks = cut(*lines)

    for chunk in chunks[:-1]:
        next_line = lines[chunk.first_index + chunk.row_count] + b"\n"
        assert chunk.row_count == max_rows or chunk.byte_count + len(next_line) > max_bytes


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1])],
)
def test_a_chunk_has_at_most_chunk_rows(
    rows: int, expected: list[int], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_chunks(settings, monkeypatch, rows=3, size_bytes=1000)

    assert [chunk.row_count for chunk in cut(*[b"{}"] * rows)] == expected


def test_the_newline_counts_as_one_byte(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_chunks(settings, monkeypatch, rows=100, size_bytes=6)

    assert [chunk.byte_count for chunk in cut(b"[]", b"[]", b"[]")] == [6, 3]


def test_a_row_that_is_larger_than_a_chunk_gets_its_own_chunk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_chunks(settings, monkeypatch, rows=100, size_bytes=6)

    assert [chunk.row_count for chunk in cut(b"[]", b"[" + b" " * 50 + b"]", b"[]")] == [1, 1, 1]


def test_every_chunk_has_its_own_id(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_chunks(settings, monkeypatch, rows=1, size_bytes=100)

    assert len({chunk.pk for chunk in cut(b"1", b"2", b"3")}) == 3


def test_a_payload_is_stored_under_the_target_and_the_job(aws: Aws) -> None:
    job_id = uuid.uuid4()

    stored = put_payload("products", job_id, b"{}\n")

    assert (stored.bucket, stored.key) == ("bulk-import-payloads", f"products/{job_id}.jsonl")
    found = aws.s3.get_object(Bucket=stored.bucket, Key=stored.key, IfMatch=stored.etag)
    assert (found["Body"].read(), found["ContentType"]) == (b"{}\n", "application/x-ndjson")


def test_the_location_and_object_parameters_of_the_storage_are_used(aws: Aws, settings: Settings) -> None:
    change_storage(settings, location="imports/eu", object_parameters={"Metadata": {"team": "shop"}})
    job_id = uuid.uuid4()

    stored = put_payload("products", job_id, b"{}\n")

    assert stored.key == f"imports/eu/products/{job_id}.jsonl"
    assert aws.s3.head_object(Bucket=stored.bucket, Key=stored.key)["Metadata"] == {"team": "shop"}


def test_an_existing_payload_is_never_overwritten(aws: Aws) -> None:
    """boto3 repeats a put after a lost response. It must then find the same object."""
    job_id = uuid.uuid4()
    first = put_payload("products", job_id, b"first\n")

    again = put_payload("products", job_id, b"second\n")

    assert again == first
    assert aws.payload(first.key) == b"first\n"


def test_each_target_has_its_own_payloads(aws: Aws) -> None:
    job_id = uuid.uuid4()

    put_payload("products", job_id, b"1\n")
    put_payload("categories", job_id, b"2\n")

    assert aws.payload_keys() == [f"categories/{job_id}.jsonl", f"products/{job_id}.jsonl"]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    "options",
    [{"bucket_name": "missing-bucket"}, {"endpoint_url": "http://127.0.0.1:9"}],
    ids=["no such bucket", "unreachable"],
)
def test_an_unreachable_storage_raises_storage_unavailable(options: dict[str, str], settings: Settings) -> None:
    change_storage(settings, **options)

    with pytest.raises(StorageUnavailable):
        put_payload("products", uuid.uuid4(), b"{}\n")
