"""Turns the bytes of a JSON array into rows. Accepts only strict JSON in UTF-8.

`split_array` splits the array into raw rows, and `parse_row` parses one of them. The payload stores the bytes of a
row as the client sent them, so a number keeps all its digits. Only a row that has several lines loses its blanks.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NoReturn

import jiter
import msgspec
from django.utils.translation import gettext as _

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.flat_rows import parse_flat_rows, split_flat_rows, split_raw_rows, to_payload_line
from bulk_import.intake.parser_reasons import plain_reason
from bulk_import.intake.raw_rows import RawRow

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 32
"""Maximum number of levels of nested arrays and objects. The array around the rows is the first level."""

MAX_INTEGER_DIGITS = 30
"""Maximum number of digits of an integer.

No integer field of Django stores as many (a BigIntegerField stores 19), and Python still computes fast with them.
"""

WINDOW_BYTES = 256 * 1024
"""Bytes of an array that `_split_window` splits at once. If its rows have few bytes, they take 20 MB of memory."""

WINDOW_ATTEMPTS = 3
"""How many places where a row may begin are tried as the end of a window, before its rows are split one by one."""

BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLANK_BYTES = b" \t\n\r"
BLANKS = re.compile(rb"[ \t\n\r]*")
CLOSING_BRACKET = ord("]")
ROW_START = re.compile(rb'\{[ \t\n\r]*"[^"\\]{0,255}"')
"""The opening brace and the first field name of a row that is an object."""

ROW_END_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
"""Finds where a row ends. It accepts slightly more than JSON (NaN, lone surrogates), which `parse_row` refuses.

Numbers stay text, because Python refuses to build an integer of more than 4,300 digits.
"""

MALFORMED_ROW, ROW_TOO_LARGE = "malformed_row", "row_too_large"
UNREADABLE_ROW_CODES = frozenset({MALFORMED_ROW, ROW_TOO_LARGE})
"""Codes of a RowError whose row is not JSON or was not parsed. Such a row cannot be stored, so it cannot be skipped."""


class RowError(Exception):
    """One row cannot be read. The other rows are not affected."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def split_array(body: bytes) -> Iterator[RawRow]:
    """Split a JSON array into its elements, in order.

    Raises BadImport if the array is malformed, and BodyTooLarge for an element that is too large. An element itself may
    still be malformed, unless it has `fields`; `parse_row` finds that out.
    """
    position = _find_first_row(body)
    max_row_bytes = conf().max_row_bytes
    row_start = ROW_START.match(body, position)
    index = 0
    # Rows are split one by one up to this position; after it, another window is tried.
    one_by_one_until = position if row_start else len(body)
    while True:
        if row_start and position >= one_by_one_until:
            rows, end = _split_window(body, position, row_start[0], max_row_bytes)
            if not rows:
                one_by_one_until = position + WINDOW_BYTES
                continue
            yield from rows
            index, position = index + len(rows), end
            if body[position] != CLOSING_BRACKET:
                continue
        else:
            end = _find_row_end(body, position, index, max_row_bytes)
            yield RawRow(body[position:end])
            index += 1
            position = _skip_blanks(body, end)
        match body[position : position + 1]:
            case b",":
                position = _skip_blanks(body, position + 1)
            case b"]":
                _check_end(body, position + 1)
                return
            case _:
                _refuse_malformed(body, position, _("a comma or the end of the array is missing"), index - 1)


def parse_row(raw: bytes, max_row_bytes: int) -> tuple[Any, bytes, int]:
    """Return the value of one row, as DRF's own JSON parser would read it, its payload line, and its number of values.

    The number of values counts fields and elements at any depth.

    Raises RowError.
    """
    if len(raw) > max_row_bytes:
        message = _("This row has %(size)d bytes. The limit for one row is %(limit)d bytes.")
        raise RowError(ROW_TOO_LARGE, message % {"size": len(raw), "limit": max_row_bytes})
    if flat := parse_flat_rows([raw], max_row_bytes):
        (row,), (line,) = flat
        return row, line, len(row)
    try:
        row = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        message = _("This row is not valid JSON: %(reason)s of the row. Correct it and send the file again.")
        raise RowError(MALFORMED_ROW, message % {"reason": plain_reason(str(error))}) from error
    values = _check_value(row, depth=2)
    return row, to_payload_line(raw), values


def _check_value(value: Any, depth: int) -> int:
    """Return the number of values in this one. Raises RowError for a value that JSON allows and a database does not."""
    if isinstance(value, str) and "\0" in value:
        raise RowError("nul_character", _("A text contains a NUL character. Remove it."))
    if isinstance(value, int) and abs(value) >= 10**MAX_INTEGER_DIGITS:
        message = _("A whole number has more than %(digits)d digits.")
        raise RowError("integer_too_long", message % {"digits": MAX_INTEGER_DIGITS})
    if isinstance(value, float) and math.isinf(value):
        raise RowError("number_too_large", _("A number is too large."))
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            message = _("This row is nested deeper than %(depth)d levels.")
            raise RowError("nested_too_deep", message % {"depth": MAX_DEPTH})
        parts = chain(value, value.values()) if isinstance(value, dict) else value
        return len(value) + sum(_check_value(part, depth + 1) for part in parts)
    return 0


def _find_first_row(body: bytes) -> int:
    """Return the position of the first row of an array. Raises BadImport if there is no array or no row."""
    if body.startswith(BYTE_ORDER_MARKS) or b"\0" in body[:2]:
        message = _("This file is in UTF-16 or starts with a byte order mark. Save it as UTF-8 without one.")
        raise BadImport(message)
    position = _skip_blanks(body, 0)
    if body[position : position + 1] != b"[":
        message = _("This file does not contain a JSON array. Send an array of rows, even for a single row.")
        raise BadImport(message, code="not_an_array")
    position = _skip_blanks(body, position + 1)
    if body[position : position + 1] == b"]":
        _check_end(body, position + 1)
        raise BadImport(_("The array is empty. Send at least one row."), code="no_rows")
    return position


def _split_window(body: bytes, start: int, row_start: bytes, max_row_bytes: int) -> tuple[list[RawRow], int]:
    """Split many rows at once, starting at `start`. Return them and the position of the next row or of the array's end.

    Returns no rows if this part of the array cannot be split safely. Then the rows have to be split one by one.

    A window must end exactly where a row begins, or at the end of the array. To find such a place without parsing, we
    search backwards for the start of the first row, for example `{"sku"`. The same bytes may also occur inside a row,
    so we then parse everything before them as an array. If that succeeds, everything before them is complete rows, so
    a new row begins there.
    """
    for end in _window_ends(body, start, row_start):
        window = body[start:end].rstrip(BLANK_BYTES)
        if body[end] != CLOSING_BRACKET:
            if not window.endswith(b","):
                continue
            window = window[:-1]
        if flat := split_flat_rows(window, max_row_bytes):
            fields, lines = flat
            return list(map(RawRow, lines, repeat(None), repeat(False), repeat(()), fields)), end
        try:
            raws = split_raw_rows(window)
        except (msgspec.DecodeError, RecursionError):
            continue
        return ([], start) if max(map(len, raws), default=0) > max_row_bytes else (list(map(RawRow, raws)), end)
    return [], start


def _window_ends(body: bytes, start: int, row_start: bytes) -> Iterator[int]:
    """Yield positions where a window may end: that of the last byte, if it is near, and those where rows may begin."""
    end = start + WINDOW_BYTES
    if end >= len(body):
        yield start + len(body[start:].rstrip(BLANK_BYTES)) - 1
    for _attempt in range(WINDOW_ATTEMPTS):
        end = body.rfind(row_start, start + 1, end)
        if end == -1:
            return
        yield end


def _skip_blanks(body: bytes, position: int) -> int:
    blanks = BLANKS.match(body, position)
    return blanks.end() if blanks else position


def _find_row_end(body: bytes, start: int, index: int, max_row_bytes: int) -> int:
    """Return where the row that starts here ends. Raises BadImport or BodyTooLarge, with the index of the row."""
    # Only as many bytes as a row may have are decoded, so a huge row costs no more than the largest allowed one.
    # Latin-1 turns each byte into one character, so positions in the text are positions in the bytes.
    piece = body[start : start + max_row_bytes + 1].decode("latin-1")
    too_large = len(piece) > max_row_bytes
    try:
        _row, size = ROW_END_DECODER.raw_decode(piece)
        too_large = size > max_row_bytes
    except (json.JSONDecodeError, RecursionError) as error:
        fault = _fault(piece)
        # Since Python 3.14, a RecursionError comes only where the stack ends, if at all. The limit of jiter is fixed.
        if isinstance(error, RecursionError) or fault.startswith("recursion limit"):
            message = _("The row at index %(index)d is nested deeper than %(depth)d levels.")
            raise BadImport(message % {"index": index, "depth": MAX_DEPTH}, code="nested_too_deep") from error
        if not (too_large and fault.startswith("EOF")):  # the only fault of a row that was cut off is its end
            _refuse_malformed(body, start + error.pos, plain_reason(error.msg), index)
    if too_large:
        message = _("The row at index %(index)d has more than %(limit)d bytes, which is the limit for one row.")
        raise BodyTooLarge(message % {"index": index, "limit": max_row_bytes}, code=ROW_TOO_LARGE)
    return start + size


def _fault(piece: str) -> str:
    """Return what jiter reports for a row that may be cut off; if that is its only fault, this begins with "EOF"."""
    try:
        jiter.from_json(f"[{piece}".encode())
    except ValueError as error:
        return str(error)
    return ""


def _check_end(body: bytes, position: int) -> None:
    """Raise BadImport if the array is followed by anything but blanks."""
    position = _skip_blanks(body, position)
    if position < len(body):
        _refuse_malformed(body, position, _("there is more after the end of the array"))


def _refuse_malformed(body: bytes, position: int, reason: str, index: int | None = None) -> NoReturn:
    """Raise BadImport with the line and the column, and with the index of the row if the position is in a row."""
    line_start = body.rfind(b"\n", 0, position) + 1
    where = {"reason": reason, "line": body.count(b"\n", 0, position) + 1, "column": position - line_start + 1}
    if index is None:
        message = _(
            "This file is not valid JSON at line %(line)d, column %(column)d: %(reason)s. "
            "Correct it and send the file again."
        )
    else:
        message = _(
            "The row at index %(index)d is not valid JSON at line %(line)d, column %(column)d: %(reason)s. "
            "Correct it and send the file again."
        )
    raise BadImport(message % {"index": index, **where})
