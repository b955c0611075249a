"""A row that was not created is stored with the reasons, byte for byte as it was sent."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.contract import Outcome
from lambda_worker.exceptions import ChunkReturned
from lambda_worker.failure_file import RowFailure, group_failures, read_failures, write_failures
from tests.lambda_worker.conftest import JOB_ID, Buckets, Reply, a_message, a_row, s3_at, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

TAKEN = {"field": "sku", "code": "unique", "message": "Taken."}
BLANK = {"field": "name", "code": "blank", "message": "Required."}

numbers = st.sampled_from(["12.50", "0.10", "1E2", "-0", "12345678901234567890", "1e-7"])
texts = st.text(st.characters(codec="utf-8")).map(lambda text: json.dumps(text, ensure_ascii=len(text) % 2 == 0))
rows = st.lists(st.tuples(texts, numbers | texts), max_size=5).map(
    lambda pairs: ("{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}").encode()
)


def a_failure(index: int, row: bytes | None = None, **fields: Any) -> RowFailure:
    known: dict[str, Any] = {
        "outcome": Outcome.REJECTED,
        "status": 400,
        "errors": [TAKEN],
        "attempts": 1,
        "at": "2026-01-01T00:00:00.000+00:00",
    }
    return RowFailure(index=index, row=a_row(index) if row is None else row, **(known | fields))


@given(rows, st.text())
def test_a_line_is_json_and_contains_the_row_byte_for_byte(row: bytes, message: str) -> None:
    line = a_failure(3, row, errors=[{**TAKEN, "message": message}]).line()

    assert line.endswith(b', "row": ' + row + b"}\n")
    assert line.count(b"\n") == 1
    assert json.loads(line)["row"] == json.loads(row)
    assert json.loads(line)["errors"][0]["message"] == message


def test_reading_returns_the_failures_that_were_stored(buckets: Buckets) -> None:
    """Also with characters that Python treats as the end of a line: a CR between values, U+2028 or U+0085."""
    odd = [b'{"a":\r1}', '{"a":"\u2028\u0085"}'.encode(), b'{"a":", \\"row\\": "}']
    failures = [a_failure(index, row, errors=[{**TAKEN, "message": '"row": \u2028'}]) for index, row in enumerate(odd)]
    key = write_failures(buckets.s3, buckets.failures, a_message(), 1, failures)

    assert read_failures(buckets.s3, buckets.failures, a_message(), key) == failures


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"index": 1, "row": {}}', b"\xff"])
def test_an_object_that_is_not_a_failures_file_is_an_error(buckets: Buckets, content: bytes) -> None:
    key = f"{JOB_ID}/0-1.jsonl"
    buckets.s3.put_object(Bucket=buckets.failures, Key=key, Body=content)

    with pytest.raises(ChunkReturned, match="not a failures file"):
        read_failures(buckets.s3, buckets.failures, a_message(), key)


def test_the_failures_of_another_job_are_not_read(buckets: Buckets) -> None:
    with pytest.raises(ChunkReturned, match="not belong to this job"):
        read_failures(buckets.s3, buckets.failures, a_message(), "another-job/0-1.jsonl")


def test_a_line_contains_all_fields_of_the_failure() -> None:
    line = a_failure(7, b'{"price":12.50,"ean":12345678901234567890}').line()

    assert json.loads(line, parse_float=Decimal) == {
        "index": 7,
        "outcome": "rejected",
        "status": 400,
        "errors": [TAKEN],
        "attempts": 1,
        "at": "2026-01-01T00:00:00.000+00:00",
        "row": {"price": Decimal("12.50"), "ean": 12345678901234567890},
    }


def test_the_failures_are_stored_in_input_order_under_a_key_of_the_epoch(buckets: Buckets) -> None:
    message = a_message(first_index=1200)

    key = write_failures(buckets.s3, buckets.failures, message, 4, [a_failure(1207), a_failure(1203)])

    assert key == f"{JOB_ID}/000001200-4.jsonl"
    assert [line["index"] for line in buckets.failure_lines(key)] == [1203, 1207]


def test_another_epoch_has_another_key(buckets: Buckets) -> None:
    keys = {write_failures(buckets.s3, buckets.failures, a_message(), epoch, [a_failure(0)]) for epoch in (1, 2)}

    assert set(buckets.failure_keys()) == keys
    assert len(keys) == 2


def test_without_failures_nothing_is_stored(buckets: Buckets) -> None:
    assert write_failures(buckets.s3, buckets.failures, a_message(), 1, []) == ""
    assert buckets.failure_keys() == []


def test_when_the_bucket_does_not_exist_the_delivery_fails(buckets: Buckets) -> None:
    with pytest.raises(ChunkReturned, match="failures bucket"):
        write_failures(buckets.s3, "no-such-bucket", a_message(), 1, [a_failure(0)])


@pytest.fixture
def misbehaving() -> Iterator[tuple[S3Client, list[Reply]]]:
    """Yield a client of an S3 that answers every request with the last reply of the list."""
    replies: list[Reply] = []
    with serving(lambda _request: replies[-1]) as server, s3_at(server.url) as s3:
        yield s3, replies


@pytest.mark.parametrize(
    "reply",
    [Reply(cut_at=-1), Reply(403, b"<Error><Code>AccessDenied</Code></Error>"), Reply(503, b""), Reply(500, b"<html>")],
    ids=["closed", "denied", "busy", "garbage"],
)
def test_when_the_bucket_does_not_accept_the_failures_the_delivery_fails(
    misbehaving: tuple[S3Client, list[Reply]], reply: Reply
) -> None:
    s3, replies = misbehaving
    replies.append(reply)

    with pytest.raises(ChunkReturned, match="failures bucket"):
        write_failures(s3, "failures", a_message(), 1, [a_failure(0)])


def unparsable(**_options: Any) -> None:
    raise ResponseParserError("<html>")


@pytest.mark.parametrize(
    "call",
    [
        lambda s3: write_failures(s3, "failures", a_message(), 1, [a_failure(0)]),
        lambda s3: read_failures(s3, "failures", a_message(), f"{JOB_ID}/0-1.jsonl"),
    ],
    ids=["write", "read"],
)
def test_when_a_proxy_responds_with_html_the_delivery_fails(call: Any) -> None:
    with pytest.raises(ChunkReturned, match="failures bucket"):
        call(SimpleNamespace(put_object=unparsable, get_object=unparsable))


def test_equal_failures_are_grouped_and_a_row_counts_in_each_of_its_errors() -> None:
    failures = [a_failure(5, errors=[TAKEN, BLANK]), a_failure(2), a_failure(9)]

    assert group_failures(failures) == [
        {**TAKEN, "count": 3, "first_index": 2},
        {**BLANK, "count": 1, "first_index": 5},
    ]
