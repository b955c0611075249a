"""Rows that are validated together give the same results as rows that are validated one by one."""

from __future__ import annotations

import json
from typing import Any

import jiter
import pytest
from rest_framework import serializers

from bulk_import.exceptions import BadImport
from bulk_import.intake import row_batch
from bulk_import.intake.compiled_serializer import FieldCheck
from bulk_import.intake.json_rows import split_array
from bulk_import.intake.payload import Payload
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.validation import validate_rows
from tests.bulk_import.conftest import product
from tests.bulk_import.intake.test_validation import PRODUCTS, request


def raw(number: int, **changed: Any) -> bytes:
    return json.dumps({**product(f"T-{number}"), **changed}).encode()


def validated(rows: list[bytes], **options: Any) -> Any:
    """Return the result, the payload and what it knows of each line, or the error."""
    with Payload() as payload:
        uploaded = [RawRow(row, line) for line, row in enumerate(rows, 1)]
        try:
            result = validate_rows(PRODUCTS, uploaded, request(), payload, **options)
        except BadImport as error:
            return type(error), error.code, error.extra
        if result.is_malformed:
            return result, None  # there is no job, so the payload is not used
        known = list(payload.line_bytes), payload.row_hashes, list(payload.row_lines)
        return result, payload.open().read(), *known


ODD_ROWS: list[bytes] = [
    raw(1),  # the same SKU as an earlier row
    raw(9)[:-1] + b',"sku":"T-10"}',
    raw(9)[:-1],
    raw(9) + raw(10),
    raw(9) + b"," + raw(10),
    raw(9, price="-1.00"),
    raw(9, price=" 1.00"),
    raw(9, name='Tent: a ":b"'),
    raw(9, name="Tent\0"),
    raw(9, name="\ud800"),
    raw(9, name=" "),
    raw(9, sku=""),
    raw(9, barcode=""),
    raw(9, barcode="123"),
    raw(9, extra=1),
    raw(9, extra=[1]),
    raw(9, extra=10**40),
    raw(9, extra=10**20),
    raw(9)[:-1] + b',"extra":1e999}',
    raw(9)[:-1] + b',"extra":NaN}',
    raw(9, extra="x" * 100_000),
    raw(9, stock=True),
    raw(9, stock="007"),
    raw(9).replace(b"T-9", b"\xff"),
    b"[]",
    b"null",
]


@pytest.mark.parametrize("odd", ODD_ROWS, ids=lambda row: repr(row[-60:]))
@pytest.mark.parametrize("unknown", ["ignore", "reject"])
def test_an_unusual_row_gives_the_same_result_in_a_batch_as_alone(
    odd: bytes, unknown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_batch, "BATCH_ROWS", 3)
    rows = [raw(1), raw(2), raw(3), raw(4), odd, raw(5), raw(6), raw(2), raw(7, extra=2), raw(8, other=None)]

    together = validated(rows, skip_invalid=True, unknown=unknown)
    monkeypatch.setattr(row_batch, "BATCH_ROWS", 1)

    assert together == validated(rows, skip_invalid=True, unknown=unknown)


@pytest.mark.parametrize(
    "pieces",
    [
        [raw(9)[:-2] + b"}", b'{"}', raw(10) + b"," + raw(11)],
        [raw(9)[:-1], b'"extra":1}', raw(10) + b"," + raw(11)],
        [raw(9)[:-1] + b"\r", b'"extra":1}', raw(10) + b"," + raw(11)],
    ],
)
def test_pieces_that_would_be_rows_together_are_not(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lines, of which the first two would be one row, and the last one is two rows."""
    together = validated(pieces, skip_invalid=True)
    monkeypatch.setattr(row_batch, "BATCH_ROWS", 1)

    assert together == validated(pieces, skip_invalid=True)
    assert together[0].invalid_rows == len(pieces)


def test_rows_that_are_certainly_valid_are_not_validated_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_batch, "parse_row", None)
    monkeypatch.setattr(serializers.Serializer, "run_validation", None)
    rows = [raw(number, name="Tent: 2 kg", weight_kg=None, stock=3, extra=1) for number in range(250)]

    result, payload, *_known = validated(rows)

    assert (result.rows, result.invalid_rows, result.reading["ignored"]) == (250, 0, ["extra"])
    assert [json.loads(line) for line in payload.splitlines()] == [json.loads(row) for row in rows]


def test_an_unusual_row_is_the_only_one_of_its_batch_that_is_examined_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows with an unusual value would otherwise make all rows around them slow."""
    passes, run_validation = FieldCheck.passes, serializers.Serializer.run_validation
    alone: list[str] = []  # the field whose check looked at a row alone
    by_drf: list[str] = []

    def note_check(check: FieldCheck, rows: Any) -> bool:
        alone.extend([check.name] if len(rows) == 1 else [])
        return passes(check, rows)

    def note_drf(serializer: Any, row: Any) -> Any:
        by_drf.append(row["sku"])
        return run_validation(serializer, row)

    monkeypatch.setattr(FieldCheck, "passes", note_check)
    monkeypatch.setattr(serializers.Serializer, "run_validation", note_drf)
    monkeypatch.setattr(row_batch, "parse_row", None)
    rows = [raw(number) for number in range(100)]
    rows[20], rows[50], rows[70] = raw(20, price="-1.00"), raw(50, stock=3.0), raw(19)

    result, payload, *_known = validated(rows, skip_invalid=True)

    assert [error["index"] for error in result.errors] == [20, 70]
    assert by_drf == ["T-20", "T-50"]
    assert alone == ["price"] * 100 + ["stock"] * 99
    assert len(payload.splitlines()) == 100


def test_an_unusual_row_is_the_only_one_of_its_batch_that_the_slow_parser_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[bytes] = []
    slow = jiter.from_json

    def note(row: bytes, **options: Any) -> Any:
        parsed.append(row)
        return slow(row, **options)

    monkeypatch.setattr(jiter, "from_json", note)
    rows = [raw(1), raw(2, name="{size}"), raw(3, extra=[1]), raw(4)]

    assert validated(rows)[0].invalid_rows == 0
    assert parsed == [rows[2]]


def test_a_row_is_not_kept_in_its_parsed_form() -> None:
    """It would take many times as much memory while the row waits for the rows that are looked up with it."""
    (uploaded,) = split_array(b"[%b]" % raw(1))
    batch = row_batch.Batch([uploaded], 0)

    assert uploaded.fields
    assert batch.checked_row(0).raw == RawRow(raw(1))


def test_a_refused_field_is_an_error_of_each_row_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_batch, "BATCH_ROWS", 2)
    rows = [raw(1, extra=1), raw(2), raw(3), raw(4, extra=1)]

    result = validated(rows, skip_invalid=True, unknown="reject")[0]

    assert [(error["index"], error["code"]) for error in result.errors] == [(0, "unknown_field"), (3, "unknown_field")]


@pytest.mark.parametrize("batch_rows", [1, 2, 5])
def test_a_duplicate_of_a_row_that_is_refused_for_another_reason_does_not_count(
    batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_batch, "BATCH_ROWS", batch_rows)
    unclear = [{"field": "stock", "code": "ambiguous_number", "message": "Is this 1 or 1,000?"}]
    rows = [RawRow(raw(1), 2, errors=unclear), RawRow(raw(2, extra=1)), *[RawRow(raw(number)) for number in (1, 2, 1)]]

    result = validate_rows(PRODUCTS, rows, request(), skip_invalid=True, unknown="reject")

    assert [(error["index"], error["code"], error.get("first_index")) for error in result.errors] == [
        (0, "ambiguous_number", None),
        (1, "unknown_field", None),
        (4, "duplicate", 2),
    ]


def test_large_rows_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed rows take many times as much memory as their bytes."""
    monkeypatch.setattr(row_batch, "MAX_BATCH_BYTES", 1000)
    small, large = RawRow(raw(1)), RawRow(raw(2, name="x" * 1000))

    assert [len(batch) for batch in row_batch.split_into_batches([small, small])] == [2]
    assert [len(batch) for batch in row_batch.split_into_batches([small, large, small])] == [1, 1, 1]


def test_the_limit_for_rows_also_applies_to_rows_that_are_validated_together(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(row_batch, "BATCH_ROWS", 2)
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS": 3}

    assert validated([raw(number) for number in range(3)])[0].rows == 3
    assert validated([raw(number) for number in range(4)])[1] == "too_many_rows"
