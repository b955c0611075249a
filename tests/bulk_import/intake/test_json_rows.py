"""JSON bytes become rows. Everything that is not exactly JSON in UTF-8 is refused with a reason and without a crash."""

from __future__ import annotations

import json
import math
import re
import tracemalloc
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake import flat_rows, json_rows
from bulk_import.intake.flat_rows import to_payload_line
from bulk_import.intake.json_rows import RowError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from bulk_import.intake.raw_rows import RawRow

DEEP = 100_000

# Each document with a part of its message: where it is malformed, or what is wrong with it.
MALFORMED = {
    # the array
    "array_empty": (b"[]", "at least one row"),
    "array_empty_with_blanks": (b" [ \n ] ", "at least one row"),
    "array_1_true_without_comma": (b"[1 true]", "index 0 is not valid JSON at line 1, column 4"),
    "array_colon_instead_of_comma": (b'["": 1]', "index 0 is not valid JSON at line 1, column 4"),
    "array_comma_after_close": (b'[""],', "line 1, column 5: there is more"),
    "array_comma_and_number": (b"[,1]", "index 0 is not valid JSON at line 1, column 2"),
    "array_double_comma": (b"[1,,2]", "index 1 is not valid JSON at line 1, column 4"),
    "array_double_extra_comma": (b'["x",,]', "index 1 is not valid JSON at line 1, column 6"),
    "array_extra_close": (b'["x"]]', "line 1, column 6: there is more"),
    "array_extra_comma": (b'["",]', "index 1 is not valid JSON at line 1, column 5"),
    "array_incomplete": (b'["x"', "index 0 is not valid JSON at line 1, column 5"),
    "array_incomplete_invalid_value": (b"[x", "index 0 is not valid JSON at line 1, column 2"),
    "array_inner_array_no_comma": (b"[3[4]]", "index 0 is not valid JSON at line 1, column 3"),
    "array_items_separated_by_semicolon": (b"[1;2]", "index 0 is not valid JSON at line 1, column 3"),
    "array_just_comma": (b"[,]", "index 0 is not valid JSON at line 1, column 2"),
    "array_just_minus": (b"[-]", "index 0 is not valid JSON at line 1, column 2"),
    "array_missing_value": (b'[   , ""]', "index 0 is not valid JSON at line 1, column 5"),
    "array_newlines_unclosed": (b'["a",\n4\n,1,', "index 3 is not valid JSON at line 3, column 4"),
    "array_number_and_several_commas": (b"[1,,]", "index 1 is not valid JSON at line 1, column 4"),
    "array_spaces_vertical_tab_formfeed": (b'["\x0ba"\\f]', "index 0 is not valid JSON at line 1, column 3"),
    "array_star_inside": (b"[*]", "index 0 is not valid JSON at line 1, column 2"),
    "array_unclosed": (b'[""', "index 0 is not valid JSON at line 1, column 4"),
    "array_unclosed_trailing_comma": (b"[1,", "index 1 is not valid JSON at line 1, column 4"),
    "array_unclosed_with_object_inside": (b"[{}", "index 0 is not valid JSON at line 1, column 4"),
    "array_just_opened": (b"[", "index 0 is not valid JSON at line 1, column 2"),
    "array_closed_by_brace": (b"[1}", "index 0 is not valid JSON at line 1, column 3"),
    # numbers
    "number_++": (b"[++1234]", "index 0 is not valid JSON at line 1, column 2"),
    "number_+1": (b"[+1]", "index 0 is not valid JSON at line 1, column 2"),
    "number_+Inf": (b"[+Inf]", "index 0 is not valid JSON at line 1, column 2"),
    "number_-01": (b"[-01]", "index 0 is not valid JSON at line 1, column 4"),
    "number_-1.0.": (b"[-1.0.]", "index 0 is not valid JSON at line 1, column 6"),
    "number_-2.": (b"[-2.]", "index 0 is not valid JSON at line 1, column 4"),
    "number_-NaN": (b"[-NaN]", "index 0 is not valid JSON at line 1, column 2"),
    "number_.-1": (b"[.-1]", "index 0 is not valid JSON at line 1, column 2"),
    "number_.2e-3": (b"[.2e-3]", "index 0 is not valid JSON at line 1, column 2"),
    "number_0.1.2": (b"[0.1.2]", "index 0 is not valid JSON at line 1, column 5"),
    "number_0.3e+": (b"[0.3e+]", "index 0 is not valid JSON at line 1, column 5"),
    "number_0.e1": (b"[0.e1]", "index 0 is not valid JSON at line 1, column 3"),
    "number_0e": (b"[0e]", "index 0 is not valid JSON at line 1, column 3"),
    "number_012": (b"[7, 012]", "index 1 is not valid JSON at line 1, column 6"),
    "number_1_000": (b"[1 000.0]", "index 0 is not valid JSON at line 1, column 4"),
    "number_1_000_with_underscore": (b"[1_000]", "index 0 is not valid JSON at line 1, column 3"),
    "number_1eE2": (b"[1eE2]", "index 0 is not valid JSON at line 1, column 3"),
    "number_expression": (b"[1+2]", "index 0 is not valid JSON at line 1, column 3"),
    "number_hex": (b"[0x42]", "index 0 is not valid JSON at line 1, column 3"),
    "number_fullwidth_digit": ("[\uff11]".encode(), "index 0 is not valid JSON at line 1, column 2"),
    "number_arabic_digit": ("[1\u0661]".encode(), "index 0 is not valid JSON at line 1, column 3"),
    "number_Inf": (b"[Inf]", "index 0 is not valid JSON at line 1, column 2"),
    "number_NaN": (b"[NaN]", "line 1, column 1"),
    "number_infinity": (b"[Infinity]", "line 1, column 1"),
    "number_minus_infinity": (b"[-Infinity]", "line 1, column 2"),
    "number_NaN_in_object": (b'[{"price": NaN}]', "line 1, column 11"),
    "number_1e400": (b"[1e400]", "too large"),
    "number_minus_1e400": (b'[{"price": [-1e400]}]', "too large"),
    "number_huge_exponent": (b"[1e99999999999999999999]", "too large"),
    "integer_31_digits": (b"[%s]" % (b"9" * 31), "more than 30 digits"),
    "integer_minus_31_digits": (b"[-1%s]" % (b"0" * 30), "more than 30 digits"),
    "integer_4300_digits": (b"[%s]" % (b"9" * 4300), "more than 30 digits"),
    "integer_4301_digits": (b"[%s]" % (b"9" * 4301), "a number is too large at line 1, column"),
    "integer_60000_digits": (b'[{"stock": %s}]' % (b"9" * 60_000), "a number is too large at line 1, column"),
    # objects
    "object_bad_value": (b'[["x", truth]]', "index 0 is not valid JSON at line 1, column 8"),
    "object_bracket_key": (b'[{[: "x"}]', "index 0 is not valid JSON at line 1, column 3"),
    "object_comma_instead_of_colon": (b'[{"x", null}]', "index 0 is not valid JSON at line 1, column 6"),
    "object_double_colon": (b'[{"x"::"b"}]', "index 0 is not valid JSON at line 1, column 7"),
    "object_emoji_key": ("[{\U0001f1e8\U0001f1ed}]".encode(), "index 0 is not valid JSON at line 1, column 3"),
    "object_key_without_value": (b'[{"a":}]', "index 0 is not valid JSON at line 1, column 7"),
    "object_missing_colon": (b'[{"a" "b"}]', "index 0 is not valid JSON at line 1, column 7"),
    "object_missing_key": (b'[{:"b"}]', "index 0 is not valid JSON at line 1, column 3"),
    "object_non_string_key": (b"[{1:1}]", "index 0 is not valid JSON at line 1, column 3"),
    "object_single_quote": (b"[{'a':0}]", "index 0 is not valid JSON at line 1, column 3"),
    "object_trailing_comma": (b'[{"id":0,}]', "index 0 is not valid JSON at line 1, column"),
    "object_several_trailing_commas": (b'[{"id":0,,,}]', "index 0 is not valid JSON at line 1, column 10"),
    "object_trailing_comment": (b'[{"a":"b"}/**/]', "index 0 is not valid JSON at line 1, column 11"),
    "object_unquoted_key": (b'[{a: "b"}]', "index 0 is not valid JSON at line 1, column 3"),
    "object_unterminated_value": (b'[{"a":"a', "index 0 is not valid JSON at line 1, column 7"),
    "object_just_comma": (b"[{,}]", "index 0 is not valid JSON at line 1, column 3"),
    "object_closed_by_bracket": (b'[{"a":1]]', "index 0 is not valid JSON at line 1, column 8"),
    "object_duplicate_key": (b'[{"a":1,"a":2}]', "the field name “a” occurs twice"),
    "object_duplicate_key_escaped": (b'[{"a":1,"\\u0061":2}]', "the field name “a” occurs twice"),
    "object_duplicate_key_nested": (b'[{"x":[{"a":1,"a":1}]}]', "the field name “a” occurs twice"),
    "object_duplicate_empty_key": (b'[{"":1,"":2}]', "the field name “” occurs twice"),
    # strings
    "string_1_surrogate_then_escape_u": (b'["\\uD800\\u"]', "index 0 is not valid JSON at line 1, column"),
    "string_1_surrogate_then_escape_u1x": (b'["\\uD800\\u1x"]', "index 0 is not valid JSON at line 1, column"),
    "string_accentuated_char_no_quotes": (b"[\xc3\xa9]", "index 0 is not valid JSON at line 1, column 2"),
    "string_backslash_00": (b'["\\\x00"]', "index 0 is not valid JSON at line 1, column"),
    "string_escape_x": (b'["\\x00"]', "index 0 is not valid JSON at line 1, column"),
    "string_escaped_emoji": ('["\\\U0001f300"]'.encode(), "index 0 is not valid JSON at line 1, column"),
    "string_incomplete_escape": (b'["\\"]', "index 0 is not valid JSON at line 1, column 2"),
    "string_incomplete_escaped_character": (b'["\\u00A"]', "index 0 is not valid JSON at line 1, column"),
    "string_invalid_unicode_escape": (b'["\\uqqqq"]', "index 0 is not valid JSON at line 1, column"),
    "string_no_quotes": (b"[abc]", "index 0 is not valid JSON at line 1, column 2"),
    "string_single_quote": (b"['single']", "index 0 is not valid JSON at line 1, column 2"),
    "string_unescaped_control": (b'["a\x1fa"]', "index 0 is not valid JSON at line 1, column 4"),
    "string_unescaped_newline": (b'[1, ["new\nline"]]', "index 1 is not valid JSON at line 1, column 10"),
    "string_unescaped_tab": (b'["\t"]', "index 0 is not valid JSON at line 1, column 3"),
    "string_unescaped_nul": (b'["\x00"]', "index 0 is not valid JSON at line 1, column 3"),
    "string_escaped_nul": (b'["\\u0000"]', "NUL"),
    "string_escaped_nul_in_key": (b'[{"a\\u0000":1}]', "NUL"),
    "string_escaped_nul_deep_inside": (b'[{"a":[{"b":"x\\u0000y"}]}]', "NUL"),
    "string_lone_high_surrogate": (b'["\\ud800"]', "line 1, column"),
    "string_lone_low_surrogate": (b'["\\udc00"]', "line 1, column"),
    "string_swapped_surrogates": (b'["\\udd1e\\ud834"]', "line 1, column"),
    "string_lone_surrogate_in_key": (b'[{"\\ud800":1}]', "line 1, column"),
    "string_raw_surrogate": (b'["\xed\xa0\x80"]', "a character is not valid UTF-8"),
    "string_invalid_utf8": (b'["\xff"]', "a character is not valid UTF-8"),
    "string_invalid_utf8_in_key": (b'[{"\xff":1}]', "a character is not valid UTF-8"),
    "string_latin_1": (b'["caf\xe9"]', "a character is not valid UTF-8"),
    "string_overlong_utf8": (b'["\xc0\xaf"]', "a character is not valid UTF-8"),
    "string_truncated_utf8": (b'["\xe0\xff"]', "a character is not valid UTF-8"),
    "string_beyond_unicode": (b'["\xf4\xbf\xbf\xbf"]', "a character is not valid UTF-8"),
    # the structure of the document
    "structure_bom": (b"\xef\xbb\xbf[1]", "byte order mark"),
    "structure_only_bom": (b"\xef\xbb\xbf", "byte order mark"),
    "structure_utf16_le": ("[1]".encode("utf-16-le"), "UTF-16"),
    "structure_utf16_be": ("[1]".encode("utf-16-be"), "UTF-16"),
    "structure_utf16_bom": ("[1]".encode("utf-16"), "UTF-16"),
    "structure_utf32": ("[1]".encode("utf-32-be"), "UTF-16"),
    "structure_nul_byte_outside_string": (b"[1,\x00]", "index 1 is not valid JSON at line 1, column 4"),
    "structure_invalid_utf8_outside_string": (b"[\xff]", "index 0 is not valid JSON at line 1, column 2"),
    "structure_nbsp": (b"[\xc2\xa01]", "index 0 is not valid JSON at line 1, column 2"),
    "structure_form_feed": (b"[1,\x0c2]", "index 1 is not valid JSON at line 1, column 4"),
    "structure_vertical_tab_first": (b"\x0b[1]", "does not contain a JSON array"),
    "structure_word_joiner": ("[\u20601]".encode(), "index 0 is not valid JSON at line 1, column 2"),
    "structure_angle_bracket": (b"<.>", "does not contain a JSON array"),
    "structure_form_data": (b"sku=A-1&name=Tent", "does not contain a JSON array"),
    "structure_object": (b'{"sku": "A-1"}', "does not contain a JSON array"),
    "structure_empty_object": (b"{}", "does not contain a JSON array"),
    "structure_string": (b'"A-1"', "does not contain a JSON array"),
    "structure_number": (b"12", "does not contain a JSON array"),
    "structure_null": (b"null", "does not contain a JSON array"),
    "structure_NaN": (b"NaN", "does not contain a JSON array"),
    "structure_close_unopened": (b"1]", "does not contain a JSON array"),
    "structure_json_lines": (b'{"sku": "A-1"}\n{"sku": "A-2"}\n', "does not contain a JSON array"),
    "structure_two_arrays": (b"[1][2]", "line 1, column 4: there is more"),
    "structure_array_with_extra_close": (b"[1]]", "line 1, column 4: there is more"),
    "structure_trailing_hash": (b'[{"a":"b"}]#{}', "line 1, column 12: there is more"),
    "structure_trailing_nul": (b"[1]\n\x00", "line 2, column 1: there is more"),
    "structure_empty_array_and_more": (b"[]x", "line 1, column 3: there is more"),
    "structure_capitalized_True": (b"[True]", "index 0 is not valid JSON at line 1, column 2"),
    "structure_incomplete_false": (b"[fals]", "index 0 is not valid JSON at line 1, column 2"),
    "structure_incomplete_null": (b"[nul", "index 0 is not valid JSON at line 1, column 2"),
    "structure_unclosed_object": (b'[{"a":1', "index 0 is not valid JSON at line 1, column 8"),
    "structure_unclosed_after_two_rows": (b"[1,\r\n2", "index 1 is not valid JSON at line 2, column 2"),
    "structure_open_brackets": (b"[" * DEEP, "index 0 is nested deeper"),
    "structure_deep_array": (b"[" * DEEP + b"]" * DEEP, "index 0 is nested deeper"),
    "structure_open_objects": (b'{"a":' * DEEP, "does not contain a JSON array"),
    "structure_open_objects_in_array": (b"[1," + b'{"a":' * DEEP, "index 1 is nested deeper"),
    "structure_deep_object": (b"[" + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"]", "index 0 is nested deeper"),
    "structure_alternating_deep": (b'[{"":' * DEEP, "index 0 is nested deeper"),
    "structure_250_levels": (b"[" * 250 + b"]" * 250, "it is nested too deeply"),
    "structure_33_levels": (b"[" * 33 + b"]" * 33, "nested deeper than 32 levels"),
    "structure_33_levels_of_objects": (b"[" + b'{"a":' * 32 + b"1" + b"}" * 32 + b"]", "nested deeper than 32 levels"),
}

WELL_FORMED = {
    "array_blanks": b" \t\r\n[ \n1 \t,\r\n2 ]\r\n",
    "array_nested": b"[[], [[]], [[], []]]",
    "array_heterogeneous": b'[null, 1, "1", {}]',
    "array_several_null": b"[1,null,null,null,2]",
    "literals": b"[true, false, null]",
    "number_0": b"[0, -0, 0.0, -0.0, 0e1, 0e+1, 0E-1]",
    "number_exponents": b"[1E22, 1E-2, 1e+2, 123e45, 123.456e78, 1E5]",
    "number_close_to_zero": b"[-0.0000000000000000000000000000000000000000001]",
    "number_underflow": b"[1e-400]",
    "number_decimals": b"[12.50, 0.1, 0.30000000000000004, 249.90]",
    "number_30_digits": b"[999999999999999999999999999999, -999999999999999999999999999999]",
    "number_20_digits": b"[12345678901234567890, -12345678901234567890]",
    "object_empty": b'[{}, {"": 0}]',
    "object_escaped_nul_look_alike": b'[{"foo\\\\u0000bar": 42}]',
    "object_long_strings": b'[{"x":[{"id": "%s"}]}]' % (b"x" * 1000),
    "object_with_newlines": b'[{\n"a": "b"\n}]',
    "string_escapes": b'["\\"\\\\\\/\\b\\f\\n\\r\\t"]',
    "string_surrogate_pair": b'["\\ud834\\udd1e", "\\ud83d\\ude39\\ud83d\\udc8d"]',
    "string_utf8": '["é €  \U0001d11e \uffff"]'.encode(),
    "string_escaped_noncharacter": b'["\\uDBFF\\uDFFF", "\\uFFFE"]',
    "string_delete": b'["\x7f"]',
    "string_brackets_and_commas": b'["],[", "}{", ","]',
    "string_line_separators": '["\u2028\u2029"]'.encode(),
    "structure_32_levels": b"[" * 32 + b"]" * 32,
}  # fmt: skip

NUMBERS = ["12.50", "0.1", "1E5", "1e+05", "-0", "-0.00", "0.30000000000000004", "12345678901234567890", "1e-400"]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=1 - 10**30, max_value=10**30 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text('abé\n"\\', max_size=3), parts, max_size=4),
    max_leaves=12,
)  # fmt: skip

# Random bytes rarely look like JSON, so most of these documents are made of its pieces.
PIECES = st.lists(
    st.sampled_from([*b'[]{},:"\\ \n0127.eE+-', *b"utnN\x00\xff\xc3\xa9"]).map(lambda byte: bytes([byte]))
    | st.sampled_from([b'{"a":', b"true", b"null", b"NaN", b"\\ud800", b"\\u0000", b"1e400", b'"a"', b"9" * 31]),
    max_size=30,
).map(b"".join)


def parse(raw: bytes) -> Any:
    value, line, _values = json_rows.parse_row(raw, conf().max_row_bytes)
    assert line == to_payload_line(raw)
    return value


def split_array(body: bytes) -> Iterator[bytes]:
    """Split a document into rows. Those that are parsed already are as `parse_row` would parse them."""
    for row in json_rows.split_array(body):
        assert row.fields is None or repr(row.fields) == repr(parse(row.json))
        yield row.json


def read(body: bytes) -> list[Any]:
    """Return all rows of a document."""
    return [parse(row) for row in split_array(body)]


def limit(settings: Settings, **limits: int) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **{name.upper(): value for name, value in limits.items()}}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_document_is_refused_with_a_message_that_says_where_or_what(name: str) -> None:
    body, expected = MALFORMED[name]

    with pytest.raises((BadImport, RowError)) as refusal:
        read(body)

    assert expected in str(refusal.value)


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_well_formed_document_is_parsed_like_json(name: str) -> None:
    assert read(WELL_FORMED[name]) == json.loads(WELL_FORMED[name])


@pytest.mark.parametrize(
    "body", [b"[1, NaN]", b"[1, -Infinity]", b'[1, "\\ud800"]', b'[1, {"a":1,"a":2}]', b'[1, "\xff"]']
)
def test_a_problem_inside_a_row_is_an_error_of_that_row_only(body: bytes) -> None:
    """The response can then list it with its index, next to the errors of other rows."""
    first, second = split_array(body)

    assert parse(first) == 1
    with pytest.raises(RowError):
        parse(second)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"NaN", "malformed_row"),
        (b'"%s"' % (b"x" * 65_536), "row_too_large"),
        (b'{"a":1,"a":2}', "malformed_row"),
        (b"1e400", "number_too_large"),
        (b"9" * 31, "integer_too_long"),
        (b'"\\u0000"', "nul_character"),
        (b"[" * 32 + b"]" * 32, "nested_too_deep"),
    ],
)
def test_each_kind_of_row_error_has_its_own_code(raw: bytes, code: str) -> None:
    with pytest.raises(RowError) as refusal:
        parse(raw)

    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", "not_an_array"),
        (b"7", "not_an_array"),
        (b"[]", "no_rows"),
        (b"[1,]", "malformed_body"),
        (b"[" * DEEP, "nested_too_deep"),
    ],
)
def test_each_kind_of_malformed_document_has_its_own_code_and_message(body: bytes, code: str) -> None:
    with pytest.raises(BadImport) as refusal:
        list(split_array(body))

    assert (refusal.value.code, refusal.value.status) == (code, 400)
    assert refusal.value.message.endswith(".")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_payload_line_keeps_a_number_byte_for_byte(number: str) -> None:
    raw = f'{{ "n" : [ {number} , {number} ] }}'.encode()

    assert to_payload_line(raw) == raw
    assert to_payload_line(raw.replace(b" ", b"\n")) == f'{{"n":[{number},{number}]}}'.encode()


def test_a_payload_line_keeps_texts_byte_for_byte_and_has_no_line_breaks() -> None:
    assert to_payload_line('{\r\n\t"a\\u00e9é " :\n"\\n \\/"}'.encode()) == '{"a\\u00e9é ":"\\n \\/"}'.encode()


@given(rows=st.lists(VALUES, min_size=1, max_size=6), ensure_ascii=st.booleans(), indent=st.none() | st.integers(0, 2))
@example(rows=[1e22, 5e-324, 0.1, -0.0], ensure_ascii=True, indent=None)
def test_everything_that_json_writes_is_read_back_unchanged(
    rows: list[Any], ensure_ascii: bool, indent: int | None
) -> None:
    body = json.dumps(rows, ensure_ascii=ensure_ascii, indent=indent).encode()

    raw_rows = list(split_array(body))

    assert [json.loads(raw) for raw in raw_rows] == rows
    assert [parse(raw) for raw in raw_rows] == rows
    assert [json.loads(to_payload_line(raw)) for raw in raw_rows] == rows
    assert not any(b"\n" in to_payload_line(raw) for raw in raw_rows)


@given(body=st.binary(max_size=60) | PIECES | PIECES.map(lambda rows: b"[" + rows + b"]"))
@hypothesis_settings(max_examples=1000)
def test_arbitrary_bytes_are_accepted_or_refused_but_never_crash(body: bytes) -> None:
    try:
        raw_rows = list(split_array(body))
    except BadImport:
        return
    for raw in raw_rows:
        try:
            value = parse(raw)
        except RowError:
            continue
        assert json.loads(to_payload_line(raw)) == value == json.loads(raw)


@given(rows=st.lists(VALUES, min_size=1, max_size=3), cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_document_is_malformed_at_its_end(rows: list[Any], cut: int) -> None:
    body = json.dumps(rows).encode()

    with pytest.raises(BadImport):
        list(split_array(body[: cut % len(body)]))


def test_a_row_may_have_exactly_as_many_bytes_as_the_limit(settings: Settings) -> None:
    limit(settings, max_row_bytes=10)

    assert list(split_array(b'[1, "12345678"]')) == [b"1", b'"12345678"']
    with pytest.raises(BodyTooLarge, match="index 1 has more than 10 bytes") as refusal:
        list(split_array(b'[1, "123456789"]'))
    assert (refusal.value.status, refusal.value.code) == (413, "row_too_large")


@given(row=VALUES, ensure_ascii=st.booleans(), cut=st.integers(min_value=1, max_value=10_000))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_that_is_too_large_is_never_reported_as_malformed(
    settings: Settings, row: Any, ensure_ascii: bool, cut: int
) -> None:
    """The limit may cut the row anywhere."""
    raw = json.dumps([row], ensure_ascii=ensure_ascii).encode()
    limit(settings, max_row_bytes=1 + cut % (len(raw) - 1))

    with pytest.raises(BodyTooLarge):
        list(split_array(b"[" + raw + b"]"))


@pytest.mark.parametrize(
    ("row", "column"),
    [(b'{"a":1 "b": 2}', 12), (b"[1 2, 3, 4, 5]", 8), (b'{"a": x, "b": "ccc"}', 11), (b'{"a":1,,"b": "ccc"}', 12)],
)
def test_a_malformed_row_in_a_large_body_is_not_reported_as_too_large(
    settings: Settings, row: bytes, column: int
) -> None:
    limit(settings, max_row_bytes=11)

    with pytest.raises(BadImport, match=f"index 1 is not valid JSON at line 1, column {column}:"):
        list(split_array(b"[1, %s, 3]" % row))


def test_a_row_may_have_exactly_as_many_levels_and_digits_as_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_DEPTH", 3)
    monkeypatch.setattr(json_rows, "MAX_INTEGER_DIGITS", 2)

    assert parse(b"[[99, -99]]") == [[99, -99]]
    with pytest.raises(RowError, match="deeper than 3 levels"):
        parse(b"[[[]]]")
    with pytest.raises(RowError, match="more than 2 digits"):
        parse(b"100")


@pytest.mark.parametrize(
    "body",
    [b"[" * 8_000_000, b'[{"a":' * 1_300_000, b"[" + b"1," * 200_000, b"[[" + b"[]," * 2_600_000],
    ids=["arrays", "objects", "rows", "one row"],
)
def test_a_hostile_body_takes_little_more_memory_than_its_bytes(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BadImport):
            deque(split_array(body), maxlen=0)
        _now, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < len(body) + 8 * 1024 * 1024


def test_a_number_that_underflows_becomes_zero() -> None:
    value = parse(b"1e-400")

    assert math.isclose(value, 0.0)


# --- windows: splitting many rows at once

ALIKE = st.lists(
    st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES, "in": st.fixed_dictionaries({"a": VALUES})}) | VALUES,
    min_size=1,
    max_size=12,
)
BROKEN_BY = st.sampled_from(
    [b"", b"\x01", b"\xff", b"\\ud800", b"NaN", b"1e400", b",", b"]", b"}", b'"', b'{"a"', b"\\", b" \n"]
)


def split(body: bytes, window_bytes: int) -> tuple[list[bytes], Any]:
    """Return the rows of a body and its error. With `window_bytes=0`, no windows are used."""
    rows: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "WINDOW_BYTES", window_bytes)
        if not window_bytes:
            patch.setattr(json_rows, "ROW_START", re.compile(b"(?!)"))
        try:
            for row in split_array(body):
                rows.append(row)  # noqa: PERF402 - the rows before an error count too
        except BadImport as refusal:
            return rows, (refusal.code, refusal.message)
    return rows, None


@given(rows=ALIKE, indent=st.none() | st.integers(0, 1), window=st.integers(1, 200), place=st.integers(0), by=BROKEN_BY)
@hypothesis_settings(max_examples=500)
def test_windows_give_the_same_rows_as_splitting_one_by_one(
    rows: list[Any], indent: int | None, window: int, place: int, by: bytes
) -> None:
    """A malformed body also gives the same rows before the same error."""
    whole = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
    place %= len(whole)
    for body in (whole, whole[:place] + by + whole[place:], whole[:place] + by + whole[place + len(by) :]):
        assert split(body, window) == split(body, 0)


def test_a_window_may_begin_where_a_row_is_missing() -> None:
    body = b'[{"a":1},,{"a":2}]'

    rows, error = split(body, 5)

    assert (rows, error) == split(body, 0)
    assert (rows, error[0]) == ([b'{"a":1}'], "malformed_body")


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_that_begin_alike_are_split_in_windows(indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"sku": f"A-{number}", "parts": [{"sku": "{", "of": number}]} for number in range(10_000)]
    split_alone: list[int] = []
    find_row_end = json_rows._find_row_end

    def record(body: bytes, start: int, index: int, max_row_bytes: int) -> int:
        split_alone.append(index)
        return find_row_end(body, start, index, max_row_bytes)

    monkeypatch.setattr(json_rows, "_find_row_end", record)

    assert [json.loads(row) for row in split_array(json.dumps(rows, indent=indent).encode())] == rows
    assert not split_alone


def test_a_row_that_is_too_large_inside_a_window_is_refused() -> None:
    rows = [{"sku": number, "name": "x" * (70_000 if number == 50 else 10)} for number in range(100)]

    with pytest.raises(BodyTooLarge, match="index 50 has more than 65536 bytes"):
        deque(split_array(json.dumps(rows).encode()), maxlen=0)


def test_rows_that_do_not_begin_alike_are_not_parsed_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": 1}, *[{"b": {"a": number}} for number in range(20_000)]]
    body = json.dumps(rows).encode()
    attempts: list[int] = []
    split_window = json_rows._split_window

    def record(body: bytes, start: int, row_start: bytes, max_row_bytes: int) -> tuple[list[RawRow], int]:
        attempts.append(start)
        return split_window(body, start, row_start, max_row_bytes)

    monkeypatch.setattr(json_rows, "_split_window", record)

    assert len(list(split_array(body))) == len(rows)
    assert len(attempts) <= 1 + len(body) // json_rows.WINDOW_BYTES


@pytest.mark.parametrize(
    "value",
    [b'"\\u0000"', b"1e400", b"-1e400", b"9" * 31, b"-1" + b"0" * 30, b"[[]]", b'{"b":{}}'],
)
def test_a_flat_row_with_one_value_beyond_a_limit_is_refused(value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_DEPTH", 3)

    assert parse(b'{"a":"x","b":1.5,"c":null,"d":true}')
    with pytest.raises(RowError):
        parse(b'{"a":"x","b":%b}' % value)


# Members of an object: plain ones, and ones with an unusual name or value.
MEMBERS = st.lists(
    st.sampled_from(
        [
            *(
                b'"a":1',
                b'"a" :1',
                b'"a" : "x"',
                b'"b":"\\":"',
                b'"c\\\\":2',
                b'"\\u0061":3',
                b'"d\\"":"\\\\"',
                b'":":0',
            ),
            *(b'"e":"\xff"', b'"\xff":1', b'"f":"\xed\xa0\x80"', b'"g":"\\ud800"', b'"h":"\\u0000"', b'"\\u0000":1'),
            *(
                b'"i":1e400',
                b'"j":01',
                b'"k":-0',
                b'"l":-0.0',
                b'"m":NaN',
                b'"n":0.1e-7',
                b'"o":1E5',
                b'"p":9007199254740993.0',
            ),
            *(
                b'"q":%b' % (b"9" * 20),
                b'"r":"\x01"',
                b'"s":"["',
                b'"t":"{"',
                b'"u":[]',
                b'"v":{"a":1}',
                b'"w":null',
                b'"x":true',
            ),
        ]
    ),
    max_size=4,
)


@given(members=MEMBERS, separator=st.sampled_from([b",", b" , ", b",\n"]))
@hypothesis_settings(max_examples=1000)
def test_the_fast_path_for_flat_rows_gives_the_same_result(members: list[bytes], separator: bytes) -> None:
    """It is compared with the other parser, which reports what is wrong."""
    raw = b"{%b}" % separator.join(members)

    assert outcome(raw, is_fast=True) == outcome(raw, is_fast=False)


def outcome(raw: bytes, *, is_fast: bool) -> str | tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        if not is_fast:
            patch.setattr(json_rows, "parse_flat_rows", lambda *_arguments: None)
        try:
            return repr(parse(raw))
        except RowError as error:
            return error.code, error.message


def test_a_flat_row_is_parsed_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "jiter", None)

    assert parse(b'{"a": "x", "b": 1.5, "c": null, "d": true, "e": -7}')["e"] == -7


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(RowError, match="NUL"):
        parse(b'{"a\\u0000":"x"}')


@pytest.mark.parametrize("between", [", ", ",", ",\n", " ,\r\n  "])
@pytest.mark.parametrize("indent", [None, 1])
def test_rows_without_nested_values_are_split_and_parsed_at_once(
    between: str, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_rows, "RAW_ROWS_DECODER", None)
    monkeypatch.setattr(json_rows, "ROW_END_DECODER", None)
    rows = [{"sku": f"A-{number}", "name": 'Tent: ], "2"\n\\', "stock": number} for number in range(10_000)]
    body = f"[{between.join(json.dumps(row, indent=indent) for row in rows)}]\n".encode()

    found = list(json_rows.split_array(body))

    assert [row.fields for row in found] == rows
    assert [row.json for row in found] == [json.dumps(row, indent=indent).encode() for row in rows]


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_with_braces_in_their_texts_are_parsed_only_once(indent: int | None) -> None:
    rows = [{"sku": f"A-{number}", "name": 'Tent {size}: "}, {', "stock": number} for number in range(10_000)]
    body = f"[{', '.join(json.dumps(row, indent=indent) for row in rows)}]".encode()

    found = list(json_rows.split_array(body))

    assert [row.fields for row in found] == rows
    assert [row.json for row in found] == [json.dumps(row, indent=indent).encode() for row in rows]


@pytest.mark.parametrize("text", ["{", "}", "}, {", '"},{"sku":"', "},\n{", ",", "]", "\\"])
def test_a_text_may_look_like_the_border_of_two_rows(text: str) -> None:
    rows = [{"sku": text, "name": text}, {"sku": "A-1", text: 1}, {"sku": text}]

    assert [json.loads(row) for row in split_array(json.dumps(rows).encode())] == rows
