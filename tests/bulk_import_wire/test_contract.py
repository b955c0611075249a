"""The message and the bodies of the worker API: decoding returns what was encoded, and refuses anything else."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.contract import Claim, ClaimRequest, Finish, Heartbeat, HeartbeatAnswer, Release, ReleaseAnswer
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.message import MAX_MESSAGE_BYTES, MESSAGE_VERSION, ChunkMessage
from tests.lambda_worker.conftest import a_claim, a_message

CONTENT = "content-never-to-be-repeated"
MESSAGE = a_message().to_dict()

a_count = st.integers(1, 10**12)
an_offset = st.integers(0, 10**12)
uuids = st.uuids().map(str)
messages = st.builds(
    ChunkMessage,
    job_id=uuids,
    chunk_id=uuids,
    bucket=st.text(max_size=30),
    key=st.text(max_size=60),
    etag=st.text(max_size=40),
    first_byte=an_offset,
    byte_count=a_count,
    first_index=an_offset,
    row_count=a_count,
    version=st.just(MESSAGE_VERSION),
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
"""Everything that json.loads may return, including NaN and Infinity."""


def decode(**fields: Any) -> ChunkMessage:
    return ChunkMessage.decode(json.dumps(MESSAGE | fields))


@given(messages)
def test_decoding_a_message_returns_what_was_encoded(message: ChunkMessage) -> None:
    assert ChunkMessage.decode(message.encode()) == message


@given(st.text() | any_json.map(json.dumps))
def test_decoding_any_other_text_raises_message_error(text: str) -> None:
    with pytest.raises(MessageError):
        ChunkMessage.decode(text)


@given(st.sampled_from(sorted(MESSAGE)), any_json)
def test_any_value_of_any_field_is_accepted_or_raises_message_error(name: str, value: object) -> None:
    try:
        message = decode(**{name: value})
    except MessageError:
        return
    assert getattr(message, name) == value


@pytest.mark.parametrize("version", [0, 2, -1, "1", 1.0, True, None, [], {}, 10**100])
def test_an_unknown_version_is_refused(version: object) -> None:
    with pytest.raises(MessageError):
        decode(version=version)


@pytest.mark.parametrize("name", ["first_byte", "byte_count", "first_index", "row_count"])
@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, [1], {}, -1, float("nan"), float("inf")])
def test_an_invalid_count_is_refused(name: str, value: object) -> None:
    with pytest.raises(MessageError):
        decode(**{name: value})


@pytest.mark.parametrize("name", ["byte_count", "row_count"])
def test_an_empty_chunk_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match="out of range"):
        decode(**{name: 0})


@pytest.mark.parametrize("name", ["job_id", "chunk_id"])
@pytest.mark.parametrize(
    "value",
    ["", "1", "../../products", "x?y#z", "{01990000-0000-7000-8000-000000000002}", MESSAGE["job_id"] + "\n", "\ud800"],
)
def test_an_id_that_would_change_a_path_is_refused(name: str, value: str) -> None:
    with pytest.raises(MessageError, match="not a UUID"):
        decode(**{name: value})


@pytest.mark.parametrize("name", ["job_id", "chunk_id", "bucket", "key", "etag"])
@pytest.mark.parametrize("value", [1, None, True, ["x"], {"x": 1}])
def test_a_text_field_of_another_type_is_refused(name: str, value: object) -> None:
    with pytest.raises(MessageError):
        decode(**{name: value})


@pytest.mark.parametrize("name", sorted(MESSAGE.keys() - {"version"}))
def test_a_missing_field_is_named(name: str) -> None:
    text = json.dumps({key: value for key, value in MESSAGE.items() if key != name})

    with pytest.raises(MessageError, match=f"missing: {name}$"):
        ChunkMessage.decode(text)


def test_a_field_of_a_later_release_is_ignored() -> None:
    body = {**a_message().to_dict(), "colour": "red", "url": "http://evil.example/"}

    assert ChunkMessage.from_dict(body) == a_message()


def test_a_field_with_a_default_may_be_missing() -> None:
    body = {name: value for name, value in a_claim().to_dict().items() if name != "give_up"}

    assert Claim.from_dict(body) == a_claim()


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '"text"', "{", "[" * MAX_MESSAGE_BYTES, "{}{}", "\x00"])
def test_anything_but_an_object_is_refused(text: str) -> None:
    with pytest.raises(MessageError):
        ChunkMessage.decode(text)


def test_a_huge_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MessageError, match="longer than"):
        ChunkMessage.decode(" " * MAX_MESSAGE_BYTES + a_message().encode())


@pytest.mark.parametrize(
    "text",
    [
        CONTENT,
        json.dumps(CONTENT),
        json.dumps([CONTENT]),
        json.dumps({**MESSAGE, "version": CONTENT}),
        json.dumps({**MESSAGE, "job_id": CONTENT}),
        json.dumps({**MESSAGE, "row_count": CONTENT}),
        json.dumps({**MESSAGE, "key": {CONTENT: 1}}),
        json.dumps({**MESSAGE, "bucket": CONTENT, "row_count": 0}),
        CONTENT * 1000,
    ],
)
def test_an_error_never_repeats_a_part_of_the_message(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        ChunkMessage.decode(text)

    assert CONTENT not in repr(caught.value)


def test_a_message_with_the_longest_names_that_s3_allows_is_short_enough() -> None:
    message = a_message(bucket="b" * 63, key="k" * 1024, etag='"' + "e" * 64 + '"', row_count=10**9, byte_count=10**12)

    assert len(message.encode()) <= MAX_MESSAGE_BYTES


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        a_message().bucket = "another"  # type: ignore[misc]


@pytest.mark.parametrize(
    "body",
    [
        a_claim(created=[[0, 3], [5, 5]]),
        ClaimRequest(message=a_message().to_dict(), claimant="random"),
        Heartbeat(epoch=1),
        Release(epoch=1, failures_key="k", pause="forbidden", retry_after_seconds=3, rows_tried=2, rows_failed=1),
        ReleaseAnswer(retry_after_seconds=3),
        HeartbeatAnswer(lease_seconds=60, cancelled=True, paused=False, concurrency=2),
        Finish(epoch=1, rejected=1, failed=0, unprocessed=0, failures_key="k", problems=[{"field": None, "count": 1}]),
    ],
    ids=lambda body: type(body).__name__,
)
def test_decoding_a_body_returns_what_was_encoded(
    body: ClaimRequest | Claim | Heartbeat | HeartbeatAnswer | Release | ReleaseAnswer | Finish,
) -> None:
    assert type(body).from_dict(json.loads(json.dumps(body.to_dict()))) == body


@pytest.mark.parametrize(
    "created", [None, {}, "", [1], [[1, "2"]], [[True, 2]], [[1.0, 2]], [[1, 2], None], [[[1], 2]]]
)
def test_a_claim_whose_ranges_are_not_integers_is_refused(created: object) -> None:
    with pytest.raises(MessageError, match="created"):
        Claim.from_dict(a_claim().to_dict() | {"created": created})


def test_an_answer_whose_flag_is_a_number_is_refused() -> None:
    with pytest.raises(MessageError, match="cancelled"):
        HeartbeatAnswer.from_dict({"lease_seconds": 60, "cancelled": 1, "paused": False, "concurrency": 2})


@pytest.mark.parametrize("problems", [{}, [1], [None], [[]], "x"])
def test_a_report_whose_problems_are_not_objects_is_refused(problems: object) -> None:
    report = Finish(epoch=1, rejected=0, failed=0, unprocessed=0, failures_key="").to_dict()

    with pytest.raises(MessageError, match="problems"):
        Finish.from_dict(report | {"problems": problems})
