"""The errors of the CSV and JSON parsers reach people as plain, translated reasons."""

from __future__ import annotations

import pytest
from django.utils.translation import override

from bulk_import.exceptions import BadImport
from bulk_import.intake.json_rows import RowError, parse_row, split_array
from bulk_import.intake.parser_reasons import plain_reason
from bulk_import.intake.spreadsheets.table import Table


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"a":', "the JSON ends too early at line 1, column 5"),
        (b'{"a":"x', "a closing quotation mark is missing at line 1, column 7"),
        (b'{"a" 1}', "a colon is missing at line 1, column 6"),
        (b'{"a":1 "b":2}', "a comma or a closing bracket is missing at line 1, column 8"),
        (b'{"a":[1 2]}', "a comma or a closing bracket is missing at line 1, column 9"),
        (b"{a:1}", "a field name in double quotation marks is missing at line 1, column 2"),
        (b'{"a":1,}', "there is a comma after the last value at line 1, column 8"),
        (b'{"a":NaN}', "a value is missing or not valid at line 1, column 6"),
        (b'{"a":tru}', "a value is missing or not valid at line 1, column 9"),
        (b'{"a":"\\q"}', "a backslash is followed by characters that are not valid at line 1, column 8"),
        (b'{"a":"\\ud800"}', "a backslash is followed by characters that are not valid at line 1, column 13"),
        (b'{"a":01}', "a number is not valid at line 1, column 7"),
        (b'{"a":1}}', "there is more after the end of the row at line 1, column 8"),
        (b'{"a":"\xff"}', "a character is not valid UTF-8 at line 1, column 7"),
        (b'{"a":1,"a":2}', "the field name “a” occurs twice at line 1, column 12"),
        (b"[" * 300, "it is nested too deeply at line 1, column 202"),
    ],
)
def test_a_malformed_row_has_a_plain_reason(row: bytes, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_row(row, max_row_bytes=1000)

    assert (
        caught.value.message == f"This row is not valid JSON: {reason} of the row. Correct it and send the file again."
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"a":"x', "a closing quotation mark is missing"),
        (b'{"a" 1}', "a colon is missing"),
        (b'{"a":1 "b":2}', "a comma or a closing bracket is missing"),
        (b"{a:1}", "a field name in double quotation marks is missing"),
        (b'{"a":tru}', "a value is missing or not valid"),
        (b'{"a":"\\q"}', "a backslash is followed by characters that are not valid"),
        (b'{"a":"\\u12"}', "a backslash is followed by characters that are not valid"),
        (b'{"a":"\n"}', "a text contains a line break, a tab or another control character"),
    ],
)
def test_a_malformed_array_has_a_plain_reason(row: bytes, reason: str) -> None:
    with pytest.raises(BadImport, match=f": {reason}. Correct it"):
        list(split_array(b"[" + row + b"]"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'a\n"x', "a closing quotation mark is missing"),
        (b'a,b\n"x"y,z', "there is text after a closing quotation mark"),
    ],
)
def test_a_malformed_csv_has_a_plain_reason(body: bytes, reason: str) -> None:
    with pytest.raises(BadImport, match=f"cannot be read: {reason}. Check"):
        list(Table(body))


def test_the_reason_and_its_position_are_translated() -> None:
    with override("pt-br"), pytest.raises(RowError) as caught:
        parse_row(b'{"a" 1}', max_row_bytes=1000)

    assert caught.value.message == (
        "Esta linha não é JSON válido: faltam dois-pontos na linha 1, coluna 6 do JSON. "
        "Corrija-a e envie o arquivo novamente."
    )


def test_an_unknown_message_is_unchanged() -> None:
    assert plain_reason("something new") == "something new"
