"""A cell is not a formula under any separator, and an upload reads it as it was sent."""

from __future__ import annotations

import csv
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulk_import.reports.cells import escape_cell, unescape_cell
from bulk_import.reports.failures import as_table
from bulk_import_wire.lines import failure_line

INVISIBLE = "\ufeff\u200b\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
WIDE_SIGNS = "\uff1d\uff0b\uff0d\uff20"
FORMULA = re.compile(rf"[\s{INVISIBLE}]*[=+@{WIDE_SIGNS}-]")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")

characters = st.sampled_from(f"=+-@{WIDE_SIGNS}{INVISIBLE}'\t\r\n ,;\"\v\x85\u2028\0a1")
texts = st.text(characters | st.characters(codec="utf-8"))
values = st.recursive(
    texts | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
rows = values | st.dictionaries(st.sampled_from(["price", "name"]) | texts, values)


def cells_of(table: str, delimiter: str) -> list[str]:
    """Return the cells that a program reads that expects this separator, also if it splits the file into lines first.

    Programs differ in what they take for the end of a line. `splitlines` takes everything.
    """
    whole = csv.reader(table.splitlines(keepends=True), delimiter=delimiter)
    by_line = (record for line in table.splitlines() for record in csv.reader([line], delimiter=delimiter))
    return [cell for records in (whole, by_line) for record in records for cell in record]


@pytest.mark.parametrize("rows_only", [False, True])
@given(row=rows, message=texts)
@example(row={"name": "x;=1+1"}, message="x\t@SUM(A1)")
@example(row={"name": "x\n=cmd|' /C calc'!A0"}, message="x,+1")
@example(row={"name": 'x;"=1+1"', "price": 'x\r"-1'}, message="x; \u202e=1")
@example(row={"name": ["x;=1+1"], "other;=1": 1}, message="")
@example(row="x;=1+1", message="")
@example(row={"price": -5, "name": "3+cmd|' /C calc'!A0"}, message="")
def test_no_cell_is_a_formula_under_another_separator(row: object, message: str, *, rows_only: bool) -> None:
    failure = {"index": 0, "line": None, "outcome": "rejected", "status": 400, "attempts": 1, "at": "2026-01-01"}
    errors = [{"field": None, "code": "odd", "message": message}]
    line = failure_line({**failure, "errors": errors}, json.dumps(row).encode())
    table = b"".join(as_table([line], ["price", "name"], rows_only=rows_only)).decode()

    for delimiter in ",;\t":
        assert not [
            cell for cell in cells_of(table, delimiter) if FORMULA.match(cell) and not NUMBER.fullmatch(cell)
        ], delimiter


@given(texts)
@example("';=1")
@example("'\t'\t=1")
@example("x\r\n\r\n''-1")
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    assert unescape_cell(escape_cell(text)) == text.replace("\0", "\ufffd")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("x\n=cmd|' /C calc'!A0", "x\n'=cmd|' /C calc'!A0"),
        ("x,+1\t-2\r@3", "x,'+1\t'-2\r'@3"),
        ('x;"=1"', 'x;\'"=1"'),
        ("x;'=1", "x;''=1"),
    ],
)
def test_a_sign_after_a_separator_gets_an_apostrophe(text: str, cell: str) -> None:
    assert escape_cell(text) == cell
    assert unescape_cell(cell) == text


@pytest.mark.parametrize("text", ["Tent, red; 2-person", "1-2, 3=3", "first line\r\n\r\nsecond line", "a;'b"])
def test_ordinary_separators_are_left_alone(text: str) -> None:
    assert escape_cell(text) == unescape_cell(text) == text
