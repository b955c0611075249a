"""Limits of a body on a real server: how a worker of gunicorn reads it, and how much memory that takes."""

from __future__ import annotations

import gzip
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.bulk_import.conftest import product
from tests.bulk_import.monolith import MEBIBYTE, Monolith, only_on_linux, running_monolith

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_BYTES = 64 * MEBIBYTE
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ROWS = json.dumps([product("A"), product("B")]).encode()
HEADER = b"sku,name,price,currency,category\n"

pytestmark = only_on_linux


@pytest.fixture(scope="module")
def monolith() -> Iterator[Monolith]:
    with running_monolith() as monolith:
        assert monolith.post(ROWS).status_code == 202  # import all modules before memory is measured
        yield monolith


def in_pieces(body: bytes, size: int = 64 * 1024) -> Iterator[bytes]:
    """Yield the body in pieces, which httpx sends in chunked transfer encoding."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


# --- transfer encodings


def test_a_chunked_body_is_read(monolith: Monolith) -> None:
    answer = monolith.post(in_pieces(ROWS, 7))

    assert "Content-Length" not in answer.request.headers
    assert (answer.status_code, answer.json()["rows"]) == (202, 2)


def test_a_chunked_gzip_body_is_read(monolith: Monolith) -> None:
    answer = monolith.post(in_pieces(gzip.compress(ROWS), 7), **{"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["rows"]) == (202, 2)


def test_a_chunked_body_over_the_limit_is_413(monolith: Monolith) -> None:
    answer = monolith.post(in_pieces(b" " * (LIMIT_BYTES + 1)))

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_chunked_form_is_asked_for_its_length(monolith: Monolith) -> None:
    answer = monolith.post(in_pieces(b"--x--\r\n"), "multipart/form-data; boundary=x")

    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("content_type", [JSON, "multipart/form-data; boundary=x"])
def test_a_body_announced_over_the_limit_is_413_before_any_of_it_is_sent(monolith: Monolith, content_type: str) -> None:
    status, document = monolith.converse(f"Content-Type: {content_type}", f"Content-Length: {2 * LIMIT_BYTES}")

    assert (status, document["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("coding", ["deflate", "br"])
def test_another_coding_is_415(monolith: Monolith, coding: str) -> None:
    answer = monolith.post(ROWS, **{"Content-Encoding": coding})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


# --- incomplete bodies


def test_the_first_half_of_a_csv_is_not_accepted(monolith: Monolith) -> None:
    """The connection breaks right after a record."""
    body = HEADER + b"A,Tent,1,EUR,tents\n"
    status, document = monolith.converse(f"Content-Type: {CSV}", f"Content-Length: {len(body) + 100}", body=body)

    assert (status, document["message"]) == (400, "The upload is incomplete. Send the file again.")


@pytest.mark.parametrize("end", [b"", b"0", b"zz\r\n"], ids=["no end", "half an end", "no chunk"])
def test_the_first_half_of_a_chunked_csv_is_not_accepted(monolith: Monolith, end: bytes) -> None:
    piece = HEADER + b"A,Tent,1,EUR,tents\n"
    body = b"%x\r\n%s\r\n%s" % (len(piece), piece, end)
    status, document = monolith.converse(f"Content-Type: {CSV}", "Transfer-Encoding: chunked", body=body)

    assert (status, document["message"]) == (400, "The upload is incomplete. Send the file again.")


# --- memory


def long_rows(size: int) -> list[dict[str, Any]]:
    """Return rows with long descriptions, `size` bytes in all. They are few, so validating them is fast."""
    return [product(str(number), description="d" * 19_800) for number in range(size // 20_000)]


def valid_array() -> bytes:
    return json.dumps(long_rows(60 * MEBIBYTE)).encode()


def invalid_lines() -> bytes:
    return b"\n".join(json.dumps({**row, "price": "x"}).encode() for row in long_rows(60 * MEBIBYTE))


def table() -> bytes:
    """Return a CSV with an emoji in each row, so that Python uses four bytes per character."""
    row = "A{n},Tent \U0001f3d5,1,EUR,tents,{text}\n"
    rows = [row.format(n=number, text="d" * 19_900) for number in range(60 * MEBIBYTE // 20_000)]
    return b"sku,name,price,currency,category,description\n" + "".join(rows).encode()


def garbage() -> bytes:
    return random.Random(7).randbytes(LIMIT_BYTES)  # noqa: S311 - any bytes are fine if each run has the same


def invalid_lines_to_skip() -> bytes:
    """Return invalid rows and a valid one. With its errors, a stored invalid row is many times as large as it was."""
    texts = dict.fromkeys(("price", "currency", "stock", "barcode", "is_active"), "x")
    wrong = json.dumps({**texts, "sku": "", "name": "", "description": {}, "color": {}, "size": {}, "category": None})
    return b"\n".join([wrong.encode()] * 400 + [json.dumps(product("A")).encode()])


BODIES: dict[str, tuple[str, Any, int]] = {
    "garbage": (JSON, garbage, 400),
    "garbage in an array": (JSON, lambda: b"[" + garbage()[1:], 400),
    "garbage lines": (NDJSON, garbage, 400),
    "garbage table": (CSV, garbage, 400),
    "nesting": (JSON, lambda: b"[" * LIMIT_BYTES, 400),
    "nesting in a line": (NDJSON, lambda: b"[" * LIMIT_BYTES, 400),
    "endless string": (JSON, lambda: b'["' + b"a" * (LIMIT_BYTES - 2), 413),
    "endless line": (NDJSON, lambda: b'"' + b"a" * (LIMIT_BYTES - 1), 400),
    "endless cell": (CSV, lambda: b'"' + b"a" * (LIMIT_BYTES - 1), 413),
    "blanks": (JSON, lambda: b" " * LIMIT_BYTES, 400),
    "valid array": (JSON, valid_array, 202),
    "invalid lines": (NDJSON, invalid_lines, 400),
    "table": (CSV, table, 202),
    "invalid lines to skip": (NDJSON, invalid_lines_to_skip, 202),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_takes_a_limited_amount_of_memory(monolith: Monolith, name: str, record_property: Any) -> None:
    """The limit is three times the body (the bytes, their text, the rows) plus 64 MiB."""
    content_type, make_body, status = BODIES[name]
    body = make_body()
    baseline = monolith.reset_memory_peak()
    answer = monolith.post(body, content_type, "?on_invalid=skip" if status == 202 else "")
    peak = monolith.memory("VmHWM") - baseline

    record_property("peak_mebibytes", peak // MEBIBYTE)
    assert answer.status_code == status, answer.text[:300]
    assert peak <= 3 * len(body) + 64 * MEBIBYTE, f"{peak // MEBIBYTE} MiB"


def test_a_gzip_bomb_is_413_and_takes_no_more_memory_than_the_limit(monolith: Monolith) -> None:
    bomb = gzip.compress(b"[" + b" " * (4 * LIMIT_BYTES))
    baseline = monolith.reset_memory_peak()
    answer = monolith.post(bomb, **{"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert monolith.memory("VmHWM") - baseline <= 3 * LIMIT_BYTES + 64 * MEBIBYTE
