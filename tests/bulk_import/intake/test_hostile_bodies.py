"""A small body that would be a lot of work is refused soon."""

from __future__ import annotations

import gzip
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.http import HttpRequest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.request import Request

from benchmarks.hostile_bodies import CSV, HOSTILE_BODIES, JSON, NDJSON
from bulk_import.conf import conf
from bulk_import.exceptions import BadImport
from bulk_import.intake import upload_limits
from bulk_import.intake.json_rows import parse_row
from bulk_import.intake.payload import Payload
from bulk_import.intake.request_body import as_upload
from bulk_import.intake.spreadsheets.text_encoding import _undecodable_byte
from bulk_import.intake.validation import validate_rows
from bulk_import.intake.validation_result import MAX_ERRORS, MAX_LISTED_ERRORS
from tests.bulk_import.conftest import post_bytes, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = pytest.mark.one_database

CODES_OF_ROWS = {"invalid_rows", "too_many_errors"}
"""Codes of the bodies whose rows were validated."""

PROCESSOR_SECONDS = 4
"""Processor time of a body until it is refused. All need less than 2 s, and most a tenth of it. The system counts more
for the same work if other processes share the processor."""


def check(media_type: str, body: bytes, *, skip_invalid: bool) -> BadImport | None:
    """Validate a body as the endpoint does, and return why it is refused."""
    plain = HttpRequest()
    plain.method = "POST"
    with Payload() as payload:
        try:
            target, request = conf().target("products"), Request(plain)
            rows = as_upload(media_type, "", body).rows(target, request)
            result = validate_rows(target, rows, request, payload, skip_invalid=skip_invalid)
            result.check_valid(skip_invalid=skip_invalid)
        except BadImport as error:
            return error
    return None


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_a_hostile_body_is_refused_within_seconds(name: str) -> None:
    hostile = HOSTILE_BODIES[name]
    body = hostile.make()
    for skip_invalid in (False, True):
        began = time.process_time()
        refused = check(hostile.media_type, body, skip_invalid=skip_invalid)
        took = time.process_time() - began

        assert refused is not None
        assert refused.code in hostile.codes
        assert took < PROCESSOR_SECONDS
        if refused.code not in CODES_OF_ROWS:
            break  # no row was validated, so it makes no difference what happens to invalid ones


@pytest.mark.django_db
@pytest.mark.parametrize("query", ["", "?on_invalid=skip", "?dry_run=true"])
def test_after_too_many_errors_validation_stops(client_of_merchandiser: APIClient, query: str) -> None:
    rows = [product("A"), *[{}] * 20_000]
    answer = post_rows(client_of_merchandiser, rows, f"/products/bulk{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "too_many_errors")
    document = answer.json()
    errors_per_row = document["error_count"] / document["invalid_rows"]
    assert len(document["errors"]) == MAX_LISTED_ERRORS
    assert MAX_ERRORS < document["error_count"] <= MAX_ERRORS + errors_per_row
    assert document["error_count_is_minimum"] is True


@pytest.mark.django_db
def test_as_many_errors_as_the_limit_are_counted_to_the_end(client_of_merchandiser: APIClient) -> None:
    wrong = {**product("A"), "sku": "", "price": "cheap"}
    answer = post_rows(client_of_merchandiser, [wrong] * (MAX_ERRORS // 2))

    assert answer.json()["code"] == "invalid_rows"
    assert answer.json()["error_count"] == MAX_ERRORS
    assert "error_count_is_minimum" not in answer.json()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content_type", "head", "line"),
    [(NDJSON, b"", b"\n"), (NDJSON, b"{}\n", b" \r\n"), (CSV, b"sku,name\n", b"\n"), (CSV, b"", b"\r")],
)
def test_too_many_blank_lines_are_413(
    client_of_merchandiser: APIClient,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    content_type: str,
    head: bytes,
    line: bytes,
) -> None:
    """The bodies of the first test are as large as a body may be. These are small, and go through the endpoint."""
    monkeypatch.setattr(upload_limits, "SPARE_LINES", 1_000)
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS": 3}
    body = gzip.compress(head + line * (upload_limits.max_lines() + 1))
    answer = post_bytes(client_of_merchandiser, "/products/bulk", body, content_type, {"Content-Encoding": "gzip"})

    expected = (413, "too_many_lines") if head or content_type == NDJSON else (400, "empty_body")
    assert (answer.status_code, answer.json()["code"]) in (expected, (400, "empty_body"))
    assert (answer.json()["code"] == "empty_body") == (not head)


@pytest.mark.django_db
def test_line_breaks_in_the_cells_of_a_full_file_are_no_problem(
    client_of_merchandiser: APIClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_limits, "SPARE_LINES", 1)
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS": 3}
    header = b"sku,name,price,currency,category,description\n"
    rows = b"".join(b'%d,Tent,1,EUR,tents,"1\n2\n3\n4\n5\n6\n7\n8\n9\n10"\n' % n for n in range(3))

    def dry_run(body: bytes) -> Any:
        return post_bytes(client_of_merchandiser, "/products/bulk?dry_run=1", body, CSV)

    assert dry_run(header + rows).json().get("valid_rows") == 3
    assert dry_run(header + rows + b"\n").json()["code"] == "too_many_lines"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, json.dumps([{**product(str(n)), "sizes": [1] * 8} for n in range(3)]).encode()),
        (CSV, b"sku,name,price,currency,category,x\n" + b"".join(b"%d,T,1,EUR,tents,1\n" % n for n in range(4))),
    ],
)
def test_too_many_values_for_the_rows_are_413(
    client_of_merchandiser: APIClient, content_type: str, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of each body have 14 and 6 values."""
    monkeypatch.setattr(upload_limits, "SPARE_VALUES", 17)
    monkeypatch.setattr(upload_limits, "VALUES_PER_ROW", 0)
    answer = post_bytes(client_of_merchandiser, "/products/bulk?dry_run=1", body, content_type)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_values")


def number_of_values(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return len(parts) + sum(map(number_of_values, parts))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text("a,[{"),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("a,[{"), inner, max_size=4),
    )
)
def test_the_values_of_a_row_are_counted_at_every_depth(row: Any) -> None:
    assert parse_row(json.dumps(row).encode(), 65_536)[2] == number_of_values(row)


def first_line_that_is_not_utf_8(body: bytes) -> int:
    for number, line in enumerate(body.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    raise AssertionError


pieces = st.lists(st.sampled_from([b"\n", b"a", "ä".encode(), "\U0001f3d5".encode(), b"\n" * 9])).map(b"".join)


@given(pieces, st.sampled_from([b"\xff", b"\xc3", b"\xf0\x9f", b"\xe2\x82"]), pieces, st.integers(1, 7))
def test_the_line_that_is_not_utf_8_is_found_in_pieces_of_any_size(
    before: bytes, wrong: bytes, after: bytes, size: int
) -> None:
    body = before + wrong + b"\n" + after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bulk_import.intake.spreadsheets.text_encoding.PIECE_BYTES", size)
        position = _undecodable_byte(body, "utf-8")
    assert position is not None
    assert body.count(b"\n", 0, position) + 1 == first_line_that_is_not_utf_8(body)
