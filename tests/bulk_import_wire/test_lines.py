"""Payload lines and failure lines: each is one line, and reading it returns what was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.lines import failure_line, read_failure_line, read_refused_line, refused_line
from tests.bulk_import_wire.test_contract import any_json

an_error = st.fixed_dictionaries({"field": st.none() | st.text(), "code": st.text(), "message": st.text()})


@given(st.binary().filter(lambda row: b"\n" not in row), st.lists(an_error))
def test_a_refused_line_is_one_line_and_contains_the_row_and_the_errors(
    row: bytes, errors: list[dict[str, Any]]
) -> None:
    line = refused_line(row, errors)

    assert b"\n" not in line
    assert read_refused_line(line) == (row, errors)


@given(st.dictionaries(st.text(), any_json))
def test_the_line_of_another_row_is_not_a_refused_line(row: dict[str, Any]) -> None:
    assert read_refused_line(json.dumps(row).encode()) is None


@pytest.mark.parametrize("row", [b"{}", b'{"price":12.50}', b'{"a":", \\"row\\": "}', b'{"row":{"row":1}}'])
@pytest.mark.parametrize("newline", [True, False], ids=["with a newline", "without a newline"])
def test_a_failure_line_contains_the_row_byte_for_byte(row: bytes, newline: bool) -> None:
    description = {"index": 3, "errors": [{"field": None, "code": "invalid", "message": '", "row": {'}]}

    line = failure_line(description, row)

    assert line.endswith(b', "row": ' + row + b"}\n")
    assert json.loads(line) == {**description, "row": json.loads(row)}
    assert read_failure_line(line if newline else line[:-1]) == (description, row)


@pytest.mark.parametrize("line", [b"", b"<html>", b"\xff"])
def test_a_malformed_failure_line_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_failure_line(line)
