"""Reading a chunk returns all of its rows, each once and in order, or the delivery fails."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.parsers import ResponseParserError

from lambda_worker.exceptions import ChunkReturned, MessageRefused
from lambda_worker.payload_reader import MAX_READS, read_rows
from tests.lambda_worker.conftest import (
    Buckets,
    Reply,
    Request,
    a_message,
    a_row,
    misbehaving,
    s3_at,
    say_without_end,
    serving,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.message import ChunkMessage

ROWS = [a_row(index) for index in range(10)]
BEFORE = b'{"sku":"of another chunk"}\n'
CHUNK = b"".join(row + b"\n" for row in ROWS)


class CuttingS3:
    """Serves one object as S3 does. The n-th connection breaks off after `cuts[n]` bytes of the body."""

    def __init__(self, cuts: list[int], *, ignores_range: bool = False) -> None:
        self.cuts = cuts
        self.ignores_range = ignores_range

    def respond(self, request: Request) -> Reply:
        whole = BEFORE + CHUNK + b"{}\n"
        cut = self.cuts.pop(0) if self.cuts else None
        if self.ignores_range:
            return Reply(200, whole, {"ETag": '"etag"'}, cut)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert found
        first, last = map(int, found.groups())
        content_range = f"bytes {first}-{last}/{len(whole)}"
        return Reply(206, whole[first : last + 1], {"ETag": '"etag"', "Content-Range": content_range}, cut)


def cut_message() -> ChunkMessage:
    return a_message(first_byte=len(BEFORE), byte_count=len(CHUNK), row_count=len(ROWS))


def read_from(url: str, message: ChunkMessage) -> list[bytes]:
    with s3_at(url) as s3:
        return read_rows(s3, "payloads", message)


@pytest.fixture
def stored(buckets: Buckets) -> tuple[Buckets, ChunkMessage]:
    return buckets, buckets.store(ROWS, before=BEFORE)


def test_exactly_the_rows_of_the_byte_range_are_read_in_order(stored: tuple[Buckets, ChunkMessage]) -> None:
    buckets, message = stored

    assert read_rows(buckets.s3, buckets.payloads, message) == ROWS


def test_a_foreign_bucket_is_refused_without_a_read() -> None:
    with serving(CuttingS3([]).respond) as server:
        with pytest.raises(MessageRefused, match="bucket"):
            read_from(server.url, replace(cut_message(), bucket="of-somebody-else"))

        assert server.requests == []


def test_when_the_object_is_missing_the_delivery_fails(stored: tuple[Buckets, ChunkMessage]) -> None:
    buckets, message = stored
    buckets.s3.delete_object(Bucket=buckets.payloads, Key=message.key)

    with pytest.raises(ChunkReturned, match="NoSuchKey"):
        read_rows(buckets.s3, buckets.payloads, message)


def test_when_the_object_has_changed_the_delivery_fails(stored: tuple[Buckets, ChunkMessage]) -> None:
    buckets, message = stored
    body = (BEFORE + CHUNK).replace(b"TENT", b"TEST")
    buckets.s3.put_object(Bucket=buckets.payloads, Key=message.key, Body=body)

    with pytest.raises(ChunkReturned, match="PreconditionFailed"):
        read_rows(buckets.s3, buckets.payloads, message)


@pytest.mark.parametrize("kept", [0, len(BEFORE) - 5, len(BEFORE), len(BEFORE) + 5, len(BEFORE + CHUNK) - 1])
def test_when_the_object_is_truncated_the_delivery_fails(buckets: Buckets, kept: int) -> None:
    """Also if its ETag is the promised one. Then the range is too short or does not exist."""
    stored = buckets.s3.put_object(Bucket=buckets.payloads, Key="cut", Body=(BEFORE + CHUNK)[:kept])
    message = replace(cut_message(), bucket=buckets.payloads, key="cut", etag=stored["ETag"])

    with pytest.raises(ChunkReturned):
        read_rows(buckets.s3, buckets.payloads, message)


@pytest.mark.parametrize("row_count", [1, len(ROWS) - 1, len(ROWS) + 1])
def test_when_the_number_of_rows_is_not_as_promised_the_delivery_fails(
    stored: tuple[Buckets, ChunkMessage], row_count: int
) -> None:
    buckets, message = stored

    with pytest.raises(ChunkReturned, match=f"{len(ROWS)} of {row_count} rows"):
        read_rows(buckets.s3, buckets.payloads, replace(message, row_count=row_count))


@pytest.mark.parametrize("row_count", [len(ROWS), len(ROWS) - 1])
def test_when_the_range_ends_within_a_row_the_delivery_fails(
    stored: tuple[Buckets, ChunkMessage], row_count: int
) -> None:
    buckets, message = stored
    cut = replace(message, byte_count=message.byte_count - 1, row_count=row_count)

    with pytest.raises(ChunkReturned, match="does not match the message"):
        read_rows(buckets.s3, buckets.payloads, cut)


@pytest.mark.parametrize("cuts", [[0], [1], [len(ROWS[0])], [len(ROWS[0]) + 1], [100, 50, 0, 1], [len(CHUNK) - 1]])
def test_a_read_that_breaks_off_is_resumed_and_no_row_is_lost_or_duplicated(cuts: list[int]) -> None:
    with serving(CuttingS3(list(cuts)).respond) as server:
        assert read_from(server.url, cut_message()) == ROWS

    last = len(BEFORE) + len(CHUNK) - 1
    firsts = [len(BEFORE) + sum(cuts[:read]) for read in range(len(cuts) + 1)]
    assert [request.headers["Range"] for request in server.requests] == [f"bytes={first}-{last}" for first in firsts]
    assert {request.headers["If-Match"] for request in server.requests} == {'"etag"'}


def test_when_every_read_breaks_off_the_delivery_fails() -> None:
    with serving(CuttingS3([10] * MAX_READS).respond) as server:
        with pytest.raises(ChunkReturned, match="broke off"):
            read_from(server.url, cut_message())

        assert len(server.requests) == MAX_READS


@pytest.mark.parametrize("cuts", [[], [len(BEFORE) + 20]], ids=["at first", "when it is resumed"])
def test_a_store_that_ignores_the_range_is_detected(cuts: list[int]) -> None:
    with (
        serving(CuttingS3(cuts, ignores_range=True).respond) as server,
        pytest.raises(ChunkReturned, match="does not match the message"),
    ):
        read_from(server.url, cut_message())


def test_too_many_bytes_are_detected_even_if_the_number_of_rows_is_right() -> None:
    half_a_row = len(BEFORE) // 2
    cut = replace(cut_message(), first_byte=half_a_row, byte_count=len(BEFORE) - half_a_row, row_count=1)
    with (
        serving(lambda _request: Reply(200, BEFORE, {"ETag": '"etag"'})) as server,
        pytest.raises(ChunkReturned, match="does not match the message"),
    ):
        read_from(server.url, cut)


def test_only_the_beginning_of_an_endless_object_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    with misbehaving(say_without_end(head)) as url, pytest.raises(ChunkReturned, match="does not match the message"):
        read_from(url, cut_message())


@pytest.mark.parametrize("reply", [Reply(500, b"<html>"), Reply(200, b"<html>"), Reply(503, b""), Reply(cut_at=-1)])
def test_when_s3_answers_nonsense_the_delivery_fails(reply: Reply) -> None:
    with serving(lambda _request: reply) as server, pytest.raises(ChunkReturned):
        read_from(server.url, cut_message())


def test_when_a_proxy_responds_with_html_the_delivery_fails() -> None:
    def get_object(**_options: Any) -> None:
        raise ResponseParserError("<html>")

    with pytest.raises(ChunkReturned, match="broke off"):
        read_rows(cast("S3Client", SimpleNamespace(get_object=get_object)), "payloads", cut_message())
