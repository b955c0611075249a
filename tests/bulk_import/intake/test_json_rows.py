"""From bytes to rows: what is not exactly JSON in UTF-8 is refused with a reason, and never with a crash."""

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

from bulk_import.conf import Conf, conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake import json_rows
from bulk_import.intake.json_rows import RowError, compact, read_row, split_array

if TYPE_CHECKING:
    from pytest_django import Settings

DEEP = 100_000

# The document, and what the message must say: where it breaks, or what is wrong with it.
MALFORMED = {
    # the array
    "nothing": (b"", "empty"),
    "only a space": (b" ", "empty"),
    "only blanks": (b" \t\r\n", "empty"),
    "array_empty": (b"[]", "at least one row"),
    "array_empty_with_blanks": (b" [ \n ] ", "at least one row"),
    "array_1_true_without_comma": (b"[1 true]", "index 0 is not valid JSON, line 1, column 4"),
    "array_colon_instead_of_comma": (b'["": 1]', "index 0 is not valid JSON, line 1, column 4"),
    "array_comma_after_close": (b'[""],', "line 1, column 5: there is more"),
    "array_comma_and_number": (b"[,1]", "index 0 is not valid JSON, line 1, column 2"),
    "array_double_comma": (b"[1,,2]", "index 1 is not valid JSON, line 1, column 4"),
    "array_double_extra_comma": (b'["x",,]', "index 1 is not valid JSON, line 1, column 6"),
    "array_extra_close": (b'["x"]]', "line 1, column 6: there is more"),
    "array_extra_comma": (b'["",]', "index 1 is not valid JSON, line 1, column 5"),
    "array_incomplete": (b'["x"', "index 0 is not valid JSON, line 1, column 5"),
    "array_incomplete_invalid_value": (b"[x", "index 0 is not valid JSON, line 1, column 2"),
    "array_inner_array_no_comma": (b"[3[4]]", "index 0 is not valid JSON, line 1, column 3"),
    "array_items_separated_by_semicolon": (b"[1;2]", "index 0 is not valid JSON, line 1, column 3"),
    "array_just_comma": (b"[,]", "index 0 is not valid JSON, line 1, column 2"),
    "array_just_minus": (b"[-]", "index 0 is not valid JSON, line 1, column 2"),
    "array_missing_value": (b'[   , ""]', "index 0 is not valid JSON, line 1, column 5"),
    "array_newlines_unclosed": (b'["a",\n4\n,1,', "index 3 is not valid JSON, line 3, column 4"),
    "array_number_and_several_commas": (b"[1,,]", "index 1 is not valid JSON, line 1, column 4"),
    "array_spaces_vertical_tab_formfeed": (b'["\x0ba"\\f]', "index 0 is not valid JSON, line 1, column 3"),
    "array_star_inside": (b"[*]", "index 0 is not valid JSON, line 1, column 2"),
    "array_unclosed": (b'[""', "index 0 is not valid JSON, line 1, column 4"),
    "array_unclosed_trailing_comma": (b"[1,", "index 1 is not valid JSON, line 1, column 4"),
    "array_unclosed_with_object_inside": (b"[{}", "index 0 is not valid JSON, line 1, column 4"),
    "array_just_opened": (b"[", "index 0 is not valid JSON, line 1, column 2"),
    "array_closed_by_brace": (b"[1}", "index 0 is not valid JSON, line 1, column 3"),
    # numbers
    "number_++": (b"[++1234]", "index 0 is not valid JSON, line 1, column 2"),
    "number_+1": (b"[+1]", "index 0 is not valid JSON, line 1, column 2"),
    "number_+Inf": (b"[+Inf]", "index 0 is not valid JSON, line 1, column 2"),
    "number_-01": (b"[-01]", "index 0 is not valid JSON, line 1, column 4"),
    "number_-1.0.": (b"[-1.0.]", "index 0 is not valid JSON, line 1, column 6"),
    "number_-2.": (b"[-2.]", "index 0 is not valid JSON, line 1, column 4"),
    "number_-NaN": (b"[-NaN]", "index 0 is not valid JSON, line 1, column 2"),
    "number_.-1": (b"[.-1]", "index 0 is not valid JSON, line 1, column 2"),
    "number_.2e-3": (b"[.2e-3]", "index 0 is not valid JSON, line 1, column 2"),
    "number_0.1.2": (b"[0.1.2]", "index 0 is not valid JSON, line 1, column 5"),
    "number_0.3e+": (b"[0.3e+]", "index 0 is not valid JSON, line 1, column 5"),
    "number_0.e1": (b"[0.e1]", "index 0 is not valid JSON, line 1, column 3"),
    "number_0e": (b"[0e]", "index 0 is not valid JSON, line 1, column 3"),
    "number_012": (b"[7, 012]", "index 1 is not valid JSON, line 1, column 6"),
    "number_1_000": (b"[1 000.0]", "index 0 is not valid JSON, line 1, column 4"),
    "number_1_000_with_underscore": (b"[1_000]", "index 0 is not valid JSON, line 1, column 3"),
    "number_1eE2": (b"[1eE2]", "index 0 is not valid JSON, line 1, column 3"),
    "number_expression": (b"[1+2]", "index 0 is not valid JSON, line 1, column 3"),
    "number_hex": (b"[0x42]", "index 0 is not valid JSON, line 1, column 3"),
    "number_fullwidth_digit": ("[\uff11]".encode(), "index 0 is not valid JSON, line 1, column 2"),
    "number_arabic_digit": ("[1\u0661]".encode(), "index 0 is not valid JSON, line 1, column 3"),
    "number_Inf": (b"[Inf]", "index 0 is not valid JSON, line 1, column 2"),
    "number_NaN": (b"[NaN]", "line 1 column 1"),
    "number_infinity": (b"[Infinity]", "line 1 column 1"),
    "number_minus_infinity": (b"[-Infinity]", "line 1 column 2"),
    "number_NaN_in_object": (b'[{"price": NaN}]', "line 1 column 11"),
    "number_1e400": (b"[1e400]", "too large"),
    "number_minus_1e400": (b'[{"price": [-1e400]}]', "too large"),
    "number_huge_exponent": (b"[1e99999999999999999999]", "too large"),
    "integer_31_digits": (b"[%s]" % (b"9" * 31), "more than 30 digits"),
    "integer_minus_31_digits": (b"[-1%s]" % (b"0" * 30), "more than 30 digits"),
    "integer_4300_digits": (b"[%s]" % (b"9" * 4300), "more than 30 digits"),
    "integer_4301_digits": (b"[%s]" % (b"9" * 4301), "number out of range at line 1 column"),
    "integer_60000_digits": (b'[{"stock": %s}]' % (b"9" * 60_000), "number out of range at line 1 column"),
    # objects
    "object_bad_value": (b'[["x", truth]]', "index 0 is not valid JSON, line 1, column 8"),
    "object_bracket_key": (b'[{[: "x"}]', "index 0 is not valid JSON, line 1, column 3"),
    "object_comma_instead_of_colon": (b'[{"x", null}]', "index 0 is not valid JSON, line 1, column 6"),
    "object_double_colon": (b'[{"x"::"b"}]', "index 0 is not valid JSON, line 1, column 7"),
    "object_emoji_key": ("[{\U0001f1e8\U0001f1ed}]".encode(), "index 0 is not valid JSON, line 1, column 3"),
    "object_key_without_value": (b'[{"a":}]', "index 0 is not valid JSON, line 1, column 7"),
    "object_missing_colon": (b'[{"a" "b"}]', "index 0 is not valid JSON, line 1, column 7"),
    "object_missing_key": (b'[{:"b"}]', "index 0 is not valid JSON, line 1, column 3"),
    "object_non_string_key": (b"[{1:1}]", "index 0 is not valid JSON, line 1, column 3"),
    "object_single_quote": (b"[{'a':0}]", "index 0 is not valid JSON, line 1, column 3"),
    "object_trailing_comma": (b'[{"id":0,}]', "index 0 is not valid JSON, line 1, column"),
    "object_several_trailing_commas": (b'[{"id":0,,,}]', "index 0 is not valid JSON, line 1, column 10"),
    "object_trailing_comment": (b'[{"a":"b"}/**/]', "index 0 is not valid JSON, line 1, column 11"),
    "object_unquoted_key": (b'[{a: "b"}]', "index 0 is not valid JSON, line 1, column 3"),
    "object_unterminated_value": (b'[{"a":"a', "index 0 is not valid JSON, line 1, column 7"),
    "object_just_comma": (b"[{,}]", "index 0 is not valid JSON, line 1, column 3"),
    "object_closed_by_bracket": (b'[{"a":1]]', "index 0 is not valid JSON, line 1, column 8"),
    "object_duplicate_key": (b'[{"a":1,"a":2}]', 'duplicate key "a"'),
    "object_duplicate_key_escaped": (b'[{"a":1,"\\u0061":2}]', 'duplicate key "a"'),
    "object_duplicate_key_nested": (b'[{"x":[{"a":1,"a":1}]}]', 'duplicate key "a"'),
    "object_duplicate_empty_key": (b'[{"":1,"":2}]', 'duplicate key ""'),
    # strings
    "string_1_surrogate_then_escape_u": (b'["\\uD800\\u"]', "index 0 is not valid JSON, line 1, column"),
    "string_1_surrogate_then_escape_u1x": (b'["\\uD800\\u1x"]', "index 0 is not valid JSON, line 1, column"),
    "string_accentuated_char_no_quotes": (b"[\xc3\xa9]", "index 0 is not valid JSON, line 1, column 2"),
    "string_backslash_00": (b'["\\\x00"]', "index 0 is not valid JSON, line 1, column"),
    "string_escape_x": (b'["\\x00"]', "index 0 is not valid JSON, line 1, column"),
    "string_escaped_emoji": ('["\\\U0001f300"]'.encode(), "index 0 is not valid JSON, line 1, column"),
    "string_incomplete_escape": (b'["\\"]', "index 0 is not valid JSON, line 1, column 2"),
    "string_incomplete_escaped_character": (b'["\\u00A"]', "index 0 is not valid JSON, line 1, column"),
    "string_invalid_unicode_escape": (b'["\\uqqqq"]', "index 0 is not valid JSON, line 1, column"),
    "string_no_quotes": (b"[abc]", "index 0 is not valid JSON, line 1, column 2"),
    "string_single_quote": (b"['single']", "index 0 is not valid JSON, line 1, column 2"),
    "string_unescaped_control": (b'["a\x1fa"]', "index 0 is not valid JSON, line 1, column 4"),
    "string_unescaped_newline": (b'[1, ["new\nline"]]', "index 1 is not valid JSON, line 1, column 10"),
    "string_unescaped_tab": (b'["\t"]', "index 0 is not valid JSON, line 1, column 3"),
    "string_unescaped_nul": (b'["\x00"]', "index 0 is not valid JSON, line 1, column 3"),
    "string_escaped_nul": (b'["\\u0000"]', "NUL"),
    "string_escaped_nul_in_key": (b'[{"a\\u0000":1}]', "NUL"),
    "string_escaped_nul_deep_inside": (b'[{"a":[{"b":"x\\u0000y"}]}]', "NUL"),
    "string_lone_high_surrogate": (b'["\\ud800"]', "line 1 column"),
    "string_lone_low_surrogate": (b'["\\udc00"]', "line 1 column"),
    "string_swapped_surrogates": (b'["\\udd1e\\ud834"]', "line 1 column"),
    "string_lone_surrogate_in_key": (b'[{"\\ud800":1}]', "line 1 column"),
    "string_raw_surrogate": (b'["\xed\xa0\x80"]', "invalid unicode"),
    "string_invalid_utf8": (b'["\xff"]', "invalid unicode"),
    "string_invalid_utf8_in_key": (b'[{"\xff":1}]', "invalid unicode"),
    "string_latin_1": (b'["caf\xe9"]', "invalid unicode"),
    "string_overlong_utf8": (b'["\xc0\xaf"]', "invalid unicode"),
    "string_truncated_utf8": (b'["\xe0\xff"]', "invalid unicode"),
    "string_beyond_unicode": (b'["\xf4\xbf\xbf\xbf"]', "invalid unicode"),
    # the structure of the document
    "structure_bom": (b"\xef\xbb\xbf[1]", "byte order mark"),
    "structure_only_bom": (b"\xef\xbb\xbf", "byte order mark"),
    "structure_utf16_le": ("[1]".encode("utf-16-le"), "UTF-16"),
    "structure_utf16_be": ("[1]".encode("utf-16-be"), "UTF-16"),
    "structure_utf16_bom": ("[1]".encode("utf-16"), "UTF-16"),
    "structure_utf32": ("[1]".encode("utf-32-be"), "UTF-16"),
    "structure_nul_byte_outside_string": (b"[1,\x00]", "index 1 is not valid JSON, line 1, column 4"),
    "structure_invalid_utf8_outside_string": (b"[\xff]", "index 0 is not valid JSON, line 1, column 2"),
    "structure_nbsp": (b"[\xc2\xa01]", "index 0 is not valid JSON, line 1, column 2"),
    "structure_form_feed": (b"[1,\x0c2]", "index 1 is not valid JSON, line 1, column 4"),
    "structure_vertical_tab_first": (b"\x0b[1]", "not an array"),
    "structure_word_joiner": ("[\u20601]".encode(), "index 0 is not valid JSON, line 1, column 2"),
    "structure_angle_bracket": (b"<.>", "not an array"),
    "structure_form_data": (b"sku=A-1&name=Tent", "not an array"),
    "structure_object": (b'{"sku": "A-1"}', "not an array"),
    "structure_empty_object": (b"{}", "not an array"),
    "structure_string": (b'"A-1"', "not an array"),
    "structure_number": (b"12", "not an array"),
    "structure_null": (b"null", "not an array"),
    "structure_NaN": (b"NaN", "not an array"),
    "structure_close_unopened": (b"1]", "not an array"),
    "structure_json_lines": (b'{"sku": "A-1"}\n{"sku": "A-2"}\n', "not an array"),
    "structure_two_arrays": (b"[1][2]", "line 1, column 4: there is more"),
    "structure_array_with_extra_close": (b"[1]]", "line 1, column 4: there is more"),
    "structure_trailing_hash": (b'[{"a":"b"}]#{}', "line 1, column 12: there is more"),
    "structure_trailing_nul": (b"[1]\n\x00", "line 2, column 1: there is more"),
    "structure_empty_array_and_more": (b"[]x", "line 1, column 3: there is more"),
    "structure_capitalized_True": (b"[True]", "index 0 is not valid JSON, line 1, column 2"),
    "structure_incomplete_false": (b"[fals]", "index 0 is not valid JSON, line 1, column 2"),
    "structure_incomplete_null": (b"[nul", "index 0 is not valid JSON, line 1, column 2"),
    "structure_unclosed_object": (b'[{"a":1', "index 0 is not valid JSON, line 1, column 8"),
    "structure_unclosed_after_two_rows": (b"[1,\r\n2", "index 1 is not valid JSON, line 2, column 2"),
    "structure_open_brackets": (b"[" * DEEP, "index 0 is nested deeper"),
    "structure_deep_array": (b"[" * DEEP + b"]" * DEEP, "index 0 is nested deeper"),
    "structure_open_objects": (b'{"a":' * DEEP, "not an array"),
    "structure_open_objects_in_array": (b"[1," + b'{"a":' * DEEP, "index 1 is nested deeper"),
    "structure_deep_object": (b"[" + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"]", "index 0 is nested deeper"),
    "structure_alternating_deep": (b'[{"":' * DEEP, "index 0 is nested deeper"),
    "structure_250_levels": (b"[" * 250 + b"]" * 250, "recursion limit exceeded"),
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

# As bytes seldom look like JSON by chance, most of these are made of its pieces.
PIECES = st.lists(
    st.sampled_from([*b'[]{},:"\\ \n0127.eE+-', *b"utnN\x00\xff\xc3\xa9"]).map(lambda byte: bytes([byte]))
    | st.sampled_from([b'{"a":', b"true", b"null", b"NaN", b"\\ud800", b"\\u0000", b"1e400", b'"a"', b"9" * 31]),
    max_size=30,
).map(b"".join)


def parse_row(raw: bytes, limits: Conf) -> Any:
    value, line = read_row(raw, limits)
    assert line == compact(raw)
    return value


def read(body: bytes) -> list[Any]:
    """All of an import's json_rows."""
    return [parse_row(row, conf()) for row in split_array(body)]


def limit(settings: Settings, **limits: int) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **{name.upper(): value for name, value in limits.items()}}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_document_is_refused_with_a_message_that_says_where_or_what(name: str) -> None:
    body, expected = MALFORMED[name]

    with pytest.raises((BadImport, RowError)) as refusal:
        read(body)

    assert expected in str(refusal.value)


@pytest.mark.parametrize("name", WELL_FORMED)
def test_a_well_formed_document_is_read_as_json_reads_it(name: str) -> None:
    assert read(WELL_FORMED[name]) == json.loads(WELL_FORMED[name])


@pytest.mark.parametrize(
    "body", [b"[1, NaN]", b"[1, -Infinity]", b'[1, "\\ud800"]', b'[1, {"a":1,"a":2}]', b'[1, "\xff"]']
)
def test_what_is_wrong_within_a_row_is_an_error_of_that_row_alone(body: bytes) -> None:
    """So that the answer lists it by its index, beside those of other rows."""
    first, second = split_array(body)

    assert parse_row(first, conf()) == 1
    with pytest.raises(RowError):
        parse_row(second, conf())


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
def test_a_row_error_has_a_code_of_its_kind(raw: bytes, code: str) -> None:
    with pytest.raises(RowError) as refusal:
        parse_row(raw, conf())

    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b"{}", "not_an_array"),
        (b"7", "not_an_array"),
        (b"[]", "no_rows"),
        (b"[1,]", "malformed_body"),
        (b"[" * DEEP, "nested_too_deep"),
    ],
)
def test_each_kind_of_malformed_body_has_its_own_code_and_sentence(body: bytes, code: str) -> None:
    with pytest.raises(BadImport) as refusal:
        list(split_array(body))

    assert (refusal.value.code, refusal.value.status) == (code, 400)
    assert refusal.value.message.endswith(".")


@pytest.mark.parametrize("number", NUMBERS)
def test_compact_keeps_a_number_byte_for_byte(number: str) -> None:
    raw = f'{{ "n" : [ {number} , {number} ] }}'.encode()

    assert compact(raw) == f'{{"n":[{number},{number}]}}'.encode()


def test_compact_keeps_strings_byte_for_byte_and_drops_line_breaks_between_them() -> None:
    assert compact('{\r\n\t"a\\u00e9é " :\n"\\n \\/"}'.encode()) == '{"a\\u00e9é ":"\\n \\/"}'.encode()


@given(rows=st.lists(VALUES, min_size=1, max_size=6), ensure_ascii=st.booleans(), indent=st.none() | st.integers(0, 2))
@example(rows=[1e22, 5e-324, 0.1, -0.0], ensure_ascii=True, indent=None)
def test_whatever_json_writes_is_read_the_same(rows: list[Any], ensure_ascii: bool, indent: int | None) -> None:
    body = json.dumps(rows, ensure_ascii=ensure_ascii, indent=indent).encode()

    raw_rows = list(split_array(body))

    assert [json.loads(raw) for raw in raw_rows] == rows
    assert [parse_row(raw, conf()) for raw in raw_rows] == rows
    assert [json.loads(compact(raw)) for raw in raw_rows] == rows
    assert not any(b"\n" in compact(raw) for raw in raw_rows)


@given(body=st.binary(max_size=60) | PIECES | PIECES.map(lambda rows: b"[" + rows + b"]"))
@hypothesis_settings(max_examples=1000)
def test_any_bytes_are_rows_or_are_refused_and_never_crash(body: bytes) -> None:
    try:
        raw_rows = list(split_array(body))
    except BadImport:
        return
    for raw in raw_rows:
        try:
            value = parse_row(raw, conf())
        except RowError:
            continue
        assert json.loads(compact(raw)) == value == json.loads(raw)


@given(rows=st.lists(VALUES, min_size=1, max_size=3), cut=st.integers(min_value=0, max_value=10_000))
def test_a_truncated_document_is_malformed_at_its_end(rows: list[Any], cut: int) -> None:
    body = json.dumps(rows).encode()

    with pytest.raises(BadImport):
        list(split_array(body[: cut % len(body)]))


def test_a_row_may_have_exactly_as_many_bytes_as_the_limit(settings: Settings) -> None:
    limit(settings, max_row_bytes=10)

    assert list(split_array(b'[1, "12345678"]')) == [b"1", b'"12345678"']
    with pytest.raises(BodyTooLarge, match="index 1 has more than the 10 bytes") as refusal:
        list(split_array(b'[1, "123456789"]'))
    assert (refusal.value.status, refusal.value.code) == (413, "row_too_large")


@given(row=VALUES, ensure_ascii=st.booleans(), cut=st.integers(min_value=1, max_value=10_000))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_row_that_is_too_large_is_never_called_malformed(
    settings: Settings, row: Any, ensure_ascii: bool, cut: int
) -> None:
    """Wherever the limit cuts it."""
    raw = json.dumps([row], ensure_ascii=ensure_ascii).encode()
    limit(settings, max_row_bytes=1 + cut % (len(raw) - 1))

    with pytest.raises(BodyTooLarge):
        list(split_array(b"[" + raw + b"]"))


@pytest.mark.parametrize(
    ("row", "column"),
    [(b'{"a":1 "b": 2}', 12), (b"[1 2, 3, 4, 5]", 8), (b'{"a": x, "b": "ccc"}', 11), (b'{"a":1,,"b": "ccc"}', 12)],
)
def test_a_malformed_row_in_a_large_body_is_not_called_too_large(settings: Settings, row: bytes, column: int) -> None:
    limit(settings, max_row_bytes=11)

    with pytest.raises(BadImport, match=f"index 1 is not valid JSON, line 1, column {column}:"):
        list(split_array(b"[1, %s, 3]" % row))


def test_the_other_limits_are_settings_too() -> None:
    limits = Conf(max_depth=3, max_integer_digits=2)

    assert parse_row(b"[[99, -99]]", limits) == [[99, -99]]
    with pytest.raises(RowError, match="deeper than 3 levels"):
        parse_row(b"[[[]]]", limits)
    with pytest.raises(RowError, match="more than 2 digits"):
        parse_row(b"100", limits)


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


def test_what_underflows_is_zero_and_not_an_error() -> None:
    value = parse_row(b"1e-400", conf())

    assert math.isclose(value, 0.0)


# --- many rows at once

ALIKE = st.lists(
    st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES, "in": st.fixed_dictionaries({"a": VALUES})}) | VALUES,
    min_size=1,
    max_size=12,
)
BROKEN_BY = st.sampled_from(
    [b"", b"\x01", b"\xff", b"\\ud800", b"NaN", b"1e400", b",", b"]", b"}", b'"', b'{"a"', b"\\", b" \n"]
)


def split(body: bytes, window_bytes: int) -> tuple[list[bytes], Any]:
    """The rows of a body, and what it is refused for; without windows if they have no bytes."""
    rows: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "WINDOW_BYTES", window_bytes)
        if not window_bytes:
            patch.setattr(json_rows, "FIRST_NAME", re.compile(b"(?!)"))
        try:
            for row in split_array(body):
                rows.append(row)  # noqa: PERF402 - what came before the refusal counts
        except BadImport as refusal:
            return rows, (refusal.code, refusal.message)
    return rows, None


@given(rows=ALIKE, indent=st.none() | st.integers(0, 1), window=st.integers(1, 200), place=st.integers(0), by=BROKEN_BY)
@hypothesis_settings(max_examples=1000)
def test_rows_that_are_cut_many_at_once_are_those_that_are_cut_one_by_one(
    rows: list[Any], indent: int | None, window: int, place: int, by: bytes
) -> None:
    """Also of a broken body: it gives the same rows before the same refusal."""
    whole = json.dumps(rows, ensure_ascii=False, indent=indent).encode()
    place %= len(whole)
    for body in (whole, whole[:place] + by + whole[place:], whole[:place] + by + whole[place + len(by) :]):
        assert split(body, window) == split(body, 0)


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_that_are_alike_are_cut_many_at_once(indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"sku": f"A-{number}", "parts": [{"sku": "{", "of": number}]} for number in range(10_000)]
    cut_alone: list[int] = []
    row_end = json_rows._row_end

    def record(body: bytes, start: int, index: int, limits: Conf) -> int:
        cut_alone.append(index)
        return row_end(body, start, index, limits)

    monkeypatch.setattr(json_rows, "_row_end", record)

    assert [json.loads(row) for row in split_array(json.dumps(rows, indent=indent).encode())] == rows
    assert cut_alone == [9_999]  # nothing says where the last one ends


def test_a_row_that_is_too_large_among_rows_that_are_alike_is_refused_as_alone() -> None:
    rows = [{"sku": number, "name": "x" * (70_000 if number == 50 else 10)} for number in range(100)]

    with pytest.raises(BodyTooLarge, match="index 50 has more than the 65536 bytes"):
        deque(split_array(json.dumps(rows).encode()), maxlen=0)


def test_where_rows_are_not_alike_no_row_is_looked_at_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"a": 1}, *[{"b": {"a": number}} for number in range(20_000)]]
    body = json.dumps(rows).encode()
    tried: list[int] = []
    cut_window = json_rows._cut_window

    def record(body: bytes, start: int, first_name: bytes, limits: Conf) -> tuple[list[bytes], int]:
        tried.append(start)
        return cut_window(body, start, first_name, limits)

    monkeypatch.setattr(json_rows, "_cut_window", record)

    assert len(list(split_array(body))) == len(rows)
    assert len(tried) <= 1 + len(body) // json_rows.WINDOW_BYTES


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (b'"\\u0000"', {}),
        (b"1e400", {}),
        (b"-1e400", {}),
        (b"9" * 31, {}),
        (b"100", {"max_integer_digits": 2}),
        (b"[[]]", {"max_depth": 3}),
        (b'{"b":{}}', {"max_depth": 3}),
    ],
)
def test_a_plain_row_with_one_value_beyond_a_limit_is_refused(value: bytes, limits: dict[str, Any]) -> None:
    assert parse_row(b'{"a":"x","b":1.5,"c":null,"d":true}', Conf(**limits))
    with pytest.raises(RowError):
        parse_row(b'{"a":"x","b":%b}' % value, Conf(**limits))


# What may be odd about an object and its names, between plain ones.
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
def test_an_object_of_plain_values_is_read_as_any_other(members: list[bytes], separator: bytes) -> None:
    """By the other parser, that is, which tells what is wrong."""
    raw = b"{%b}" % separator.join(members)

    assert outcome(raw, is_plain=True) == outcome(raw, is_plain=False)


def outcome(raw: bytes, *, is_plain: bool) -> str | tuple[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        if not is_plain:
            patch.setattr(json_rows, "_read_plain", lambda _line, _limits: None)
        try:
            return repr(parse_row(raw, conf()))
        except RowError as error:
            return error.code, error.message


def test_a_plain_row_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "jiter", None)

    assert parse_row(b'{"a": "x", "b": 1.5, "c": null, "d": true, "e": -7}', conf())["e"] == -7


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(RowError, match="NUL"):
        parse_row(b'{"a\\u0000":"x"}', conf())
