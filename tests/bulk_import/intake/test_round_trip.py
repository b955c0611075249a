"""Every upload is stored unchanged, or refused with an error in the standard format."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.bulk_import.conftest import Aws, post_bytes, product
from tests.examples import examples

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

PATH = "/products/bulk"
CONTENT_TYPES = [
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "application/xml",
    "",
]

# All examples share one client, bucket and queue. What one example leaves there does not affect the next one.
several = hypothesis_settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])

# PostgreSQL refuses NUL characters, and lone surrogates cannot be encoded as UTF-8.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
words = text.filter(str.strip)  # a name must not be blank


@pytest.fixture(autouse=True)
def _no_quotas(settings: Settings) -> None:
    """One user sends many requests, and a 429 would hide their real responses."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "SUBMISSION_RATE": "1000000/min", "MAX_OPEN_JOBS": 1_000_000}


class Literal(str):
    """A number that must be written exactly with these digits."""

    __slots__ = ()


def as_number_or_string(numbers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return numbers.flatmap(lambda digits: st.sampled_from([digits, Literal(digits)]))


def decimals(whole_digits: int, places: int) -> st.SearchStrategy[str]:
    """Generate positive numbers such as 12.50, 0.1 and 7."""
    fractions = st.text("0123456789", min_size=1, max_size=places).map(lambda digits: f".{digits}")
    wholes = st.integers(1, 10**whole_digits - 1).map(str)
    return st.builds(str.__add__, wholes, st.just("") | fractions) | st.sampled_from(["0.1", "12.50", "1e1", "0.10"])


extras = st.recursive(
    st.none()
    | st.booleans()
    | text
    | decimals(15, 9).map(Literal)
    | st.integers(-(10**20), 10**20).map(str).map(Literal),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
rows = st.fixed_dictionaries(
    {
        "name": words,
        "price": as_number_or_string(decimals(6, 2)),
        "currency": st.sampled_from(["EUR", "BRL", "USD"]),
        "category": st.just("tents") | text,
    },
    optional={
        "description": text,
        "stock": as_number_or_string(st.integers(0, 2**31 - 1).map(str)),
        "weight_kg": st.none() | as_number_or_string(decimals(5, 3)),
        "is_active": st.booleans() | st.sampled_from(["true", "0"]),
        "color": st.just("") | st.text("abcé✓", min_size=1),
        "id": st.integers(-(10**20), 10**20),
        "x-note": extras,
        "é\n\u2028": extras,
    },
)


def write(value: Any, escape: bool) -> str:
    """Return the value as JSON, with each Literal as a number."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        return "{" + " , ".join(f"{write(k, escape)} : {write(v, escape)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\t".join(write(part, escape) for part in value) + " ]"
    return json.dumps(value, ensure_ascii=escape)


def exactly(document: bytes | str) -> Any:
    """Parse a document so that 12.50 and 12.5 are different."""
    return json.loads(document, parse_float=lambda digits: Decimal(digits).as_tuple(), parse_int=str)


def as_array(lines: list[str]) -> bytes:
    return f" [{' ,'.join(lines)}]\n".encode()


def as_json_lines(lines: list[str]) -> bytes:
    # JSON Lines allows no newlines between the tokens. Those inside texts are escaped.
    return "\n".join(line.replace("\n", " ") for line in lines).encode()


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
@several
@given(sent=st.lists(rows, min_size=1, max_size=5), escape=st.booleans())
@example(sent=[{**product(""), "price": Literal("12.50"), "x": ["12345678901234567890", Literal("0.1")]}], escape=False)
def test_every_accepted_row_is_stored_with_the_same_values(
    client_of_merchandiser: APIClient,
    aws: Aws,
    content_type: str,
    sent: list[dict[str, Any]],
    escape: bool,
) -> None:
    lines = [write({**row, "sku": f"SKU-{index}"}, escape) for index, row in enumerate(sent)]
    body = as_array(lines) if content_type == "application/json" else as_json_lines(lines)
    answer = post_bytes(client_of_merchandiser, PATH, body, content_type)

    assert answer.status_code == 202, answer.json()
    payload = aws.payload(f"products/{answer.json()['id']}.jsonl")
    assert [exactly(line) for line in payload.splitlines()] == [exactly(line) for line in lines]


@several
@given(body=st.binary(max_size=300), content_type=st.sampled_from(CONTENT_TYPES), is_zipped=st.booleans())
@example(body=b'[{"a":' * 5000, content_type="application/json", is_zipped=False)
@example(body=b'{"a":' * 5000, content_type="application/x-ndjson", is_zipped=True)
@example(
    body=b"--x\r\nContent-Disposition: form-data; name=f; filename=f.csv\r\n\r\n\0\r\n--x--",
    content_type=CONTENT_TYPES[3],
    is_zipped=False,
)
@example(body=b"\xff\xfe[\0]\0", content_type="text/csv", is_zipped=False)
def test_arbitrary_bytes_get_an_error_in_the_standard_format(
    client_of_merchandiser: APIClient, aws: Aws, body: bytes, content_type: str, is_zipped: bool
) -> None:
    for sent, headers in (
        (gzip.compress(body) if is_zipped else body, {"Content-Encoding": "gzip"} if is_zipped else {}),
        (body, {"Content-Encoding": "gzip"}),
    ):
        answer = post_bytes(client_of_merchandiser, PATH, sent, content_type, headers)

        assert 400 <= answer.status_code < 500
        assert answer["Content-Type"] == "application/json"
        assert {"code", "message"} <= answer.json().keys()
        assert answer.json()["message"]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(sorted(product(""))), inner, max_size=4)
    ),
    max_leaves=10,
)


@several
@given(
    value=st.lists(json_like, max_size=4) | json_like,
    cut=st.integers(0, 3),
    content_type=st.sampled_from(CONTENT_TYPES[:3]),
)
def test_arbitrary_documents_get_a_response_in_the_standard_format(
    client_of_merchandiser: APIClient, aws: Aws, value: Any, cut: int, content_type: str
) -> None:
    """The documents are almost imports: complete or cut off, with NaN, lone surrogates and any nesting."""
    text_ = json.dumps(value)
    body = text_[: len(text_) - cut].encode()
    for path in (PATH, f"{PATH}?on_invalid=skip", f"{PATH}?dry_run=true"):
        answer = post_bytes(client_of_merchandiser, path, body, content_type)

        assert answer.status_code in {200, 202} or 400 <= answer.status_code < 500
        assert answer["Content-Type"] == "application/json"
        assert answer.json()["message"]
