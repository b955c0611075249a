"""Bodies that are small, at least with gzip, and would be a lot of work. The tests use them too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
MEBIBYTE = 1024 * 1024
ROWS = 100_000
WIDE_ROWS = 1_000


@dataclass(frozen=True)
class HostileBody:
    """A body, which is made when it is needed, and the codes of the errors with which it may be refused."""

    media_type: str
    make: Callable[[], bytes]
    codes: tuple[str, ...]


def array(row: bytes, count: int = ROWS) -> bytes:
    return b"[" + b",".join([row] * count) + b"]"


def eight_errors() -> bytes:
    texts = dict.fromkeys(("price", "currency", "stock", "weight_kg", "is_active"), "x")
    return array(json.dumps({**texts, "sku": None, "name": None, "category": None}).encode())


def wide_table() -> bytes:
    return b",".join(b"%x" % n for n in range(12_000)) + b"\n" + (b",".join([b"1"] * 12_000) + b"\n") * 2_500


def sparse_table() -> bytes:
    return b",".join(b"%x" % n for n in range(12_000)) + b"\n" + (b"1" + b"," * 11_999 + b"\n") * 5_000


def nested(opening: bytes, closing: bytes, levels: int) -> bytes:
    return b'{"stock":' + opening * levels + closing * levels + b"}"


LINES, VALUES, ERRORS = ("too_many_lines",), ("too_many_values",), ("too_many_errors",)
INVALID = ("invalid_rows", *ERRORS)

HOSTILE_BODIES = {
    "blank lines, CSV": HostileBody(CSV, lambda: b"sku,name\n" + b"\n" * (63 * MEBIBYTE), LINES),
    "blank lines before the header": HostileBody(CSV, lambda: b"\n" * (63 * MEBIBYTE) + b"sku\nA\n", LINES),
    "line breaks in cells": HostileBody(
        CSV, lambda: b"sku\n" + (b'"' + b"\n" * 60_000 + b'"\n') * WIDE_ROWS, (*LINES, *ERRORS)
    ),
    "records of commas": HostileBody(CSV, lambda: b"sku,name\n" + b",\n" * (31 * MEBIBYTE), VALUES),
    "records of blanks": HostileBody(CSV, lambda: b"sku,name\n" + b" \n" * (31 * MEBIBYTE), (*LINES, *ERRORS)),
    "not UTF-8 after blank lines": HostileBody(
        CSV, lambda: b"sku\n" + b"\n" * (63 * MEBIBYTE) + b"\xff", (*LINES, "unknown_encoding")
    ),
    "wide header": HostileBody(
        CSV, lambda: ",".join(map(chr, range(0x4E00, 0x4E00 + 16_000))).encode() + b"\n1\n", INVALID
    ),
    "wide table": HostileBody(CSV, wide_table, VALUES),
    "wide table of empty cells": HostileBody(CSV, sparse_table, VALUES),
    "apostrophes": HostileBody(CSV, lambda: b"sku,name\n" + (b"'" * 60_000 + b",x\n") * WIDE_ROWS, VALUES),
    "escaped separators": HostileBody(
        CSV, lambda: b"sku,name\n" + (b'"' + b"'," * 30_000 + b'",x\n') * WIDE_ROWS, VALUES
    ),
    "blank lines, JSON Lines": HostileBody(NDJSON, lambda: b"{}\n" + b"\n" * (63 * MEBIBYTE), LINES),
    "malformed lines": HostileBody(NDJSON, lambda: (b"{" * 600 + b"\n") * ROWS, ERRORS),
    "deep lines": HostileBody(NDJSON, lambda: (nested(b"[", b"]", 1_000) + b"\n") * 30_000, ERRORS),
    "empty objects": HostileBody(JSON, lambda: array(b"{}"), ERRORS),
    "blanks between rows": HostileBody(JSON, lambda: array(b" " * 600 + b"{}"), ERRORS),
    "numbers as rows": HostileBody(JSON, lambda: array(b"1"), ERRORS),
    "eight errors per row": HostileBody(JSON, eight_errors, ERRORS),
    "the same SKU": HostileBody(JSON, lambda: array(b'{"sku":"A","name":"A","price":1,"category":1}'), ERRORS),
    "digits": HostileBody(JSON, lambda: array(b'{"stock":1' + b"0" * 64_000 + b"}", WIDE_ROWS), INVALID),
    "digits of a fraction": HostileBody(
        JSON, lambda: array(b'{"price":1.' + b"0" * 64_000 + b"1}", WIDE_ROWS), INVALID
    ),
    "lists of zeros": HostileBody(
        JSON, lambda: array(b'{"stock":[' + b",".join([b"0"] * 32_000) + b"]}", WIDE_ROWS), VALUES
    ),
    "lists of lists": HostileBody(
        JSON, lambda: array(b'{"stock":[' + b",".join([b"[]"] * 20_000) + b"]}", WIDE_ROWS), VALUES
    ),
    "wide objects": HostileBody(
        JSON, lambda: array(b"{" + b",".join(b'"%x":1' % n for n in range(7_000)) + b"}", WIDE_ROWS), VALUES
    ),
    "the same key": HostileBody(JSON, lambda: array(b"{" + b",".join([b'"a":1'] * 10_000) + b"}", WIDE_ROWS), VALUES),
    "28 levels": HostileBody(JSON, lambda: array(nested(b"[", b"]", 28)), ERRORS),
    "1,000 levels": HostileBody(JSON, lambda: array(nested(b"[", b"]", 1_000), 30_000), ("nested_too_deep", *ERRORS)),
    "rows that look alike": HostileBody(JSON, lambda: array(b'{"a":"{\\"a\\"","x":[{"a":1}]}'), ERRORS),
    "blanks in a text": HostileBody(JSON, lambda: array(b'{"sku":"' + b" " * 65_000 + b'"}', WIDE_ROWS), INVALID),
}
