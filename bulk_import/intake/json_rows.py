"""From the bytes of a request to rows, strictly: what is not exactly JSON in UTF-8 is refused.

`split_array` cuts the array into raw rows; `read_row` judges one of them. A number stays as it was sent,
because the payload keeps the row's own bytes. Limits are settings, see `conf`.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import jiter
import msgspec
from django.utils.translation import gettext as _

from bulk_import.conf import Conf, conf
from bulk_import.exceptions import BadImport, BodyTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BLANKS = re.compile(rb"[ \t\n\r]*")
FIRST_NAME = re.compile(rb'\{[ \t\n\r]*"[^"\\]{0,255}"')

WINDOW_BYTES = 256 * 1024
"""How much of an array is cut at once where its rows are alike; what it takes in memory is several times that."""
WINDOW_TRIES = 3

COMMON_DIGITS = 9
COMMON = 10**COMMON_DIGITS

RAW_ROWS = msgspec.json.Decoder(list[msgspec.Raw])

# Finds where a row ends. It takes a little more than JSON (NaN, lone surrogates); `read_row` does not.
# Numbers stay text: Python refuses to build an integer of more than 4,300 digits.
ROW_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)

MALFORMED_ROW, ROW_TOO_LARGE = "malformed_row", "row_too_large"
UNREADABLE = frozenset({MALFORMED_ROW, ROW_TOO_LARGE})
"""Codes of a RowError that says: this is no JSON, or was not looked at, so it cannot be kept."""


class RowError(Exception):
    """One row cannot be read; the others can."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def split_array(body: bytes) -> Iterator[bytes]:
    """Cut a JSON array into its elements' own bytes, one after the other.

    Raises BadImport where the document breaks, and BodyTooLarge for too large an element.
    That an element itself is well-formed is left to `read_row`.
    """
    if body.startswith(BYTE_ORDER_MARKS) or b"\0" in body[:2]:
        raise BadImport(_("The body is in UTF-16 or starts with a byte order mark. Send plain UTF-8."))
    position = _skip_blanks(body, 0)
    if position == len(body):
        raise BadImport(_("The body is empty. Send a JSON array of rows."), code="empty_body")
    if body[position : position + 1] != b"[":
        message = _("The body is not an array. Send a JSON array of rows, also for a single one.")
        raise BadImport(message, code="not_an_array")
    position = _skip_blanks(body, position + 1)
    if body[position : position + 1] == b"]":
        _check_end(body, position + 1)
        raise BadImport(_("The array is empty. Send at least one row."), code="no_rows")
    limits = conf()
    first_name = FIRST_NAME.match(body, position)
    index = 0
    slow_until = position if first_name else len(body)
    while True:
        if first_name and position >= slow_until:
            rows, end = _cut_window(body, position, first_name[0], limits)
            if rows:
                yield from rows
                index, position = index + len(rows), end
                continue
            slow_until = position + WINDOW_BYTES
        end = _row_end(body, position, index, limits)
        yield body[position:end]
        index += 1
        position = _skip_blanks(body, end)
        match body[position : position + 1]:
            case b",":
                position = _skip_blanks(body, position + 1)
            case b"]":
                _check_end(body, position + 1)
                return
            case _:
                _refuse_malformed(body, position, "expected a comma or the end of the array", index - 1)


def read_row(raw: bytes, limits: Conf) -> tuple[Any, bytes]:
    """The value of one row, as DRF's own JSON parser would read it, and its line of the payload. Raises RowError."""
    if len(raw) > limits.max_row_bytes:
        message = _("The row has %(size)d bytes; %(limit)d are allowed.")
        raise RowError(ROW_TOO_LARGE, message % {"size": len(raw), "limit": limits.max_row_bytes})
    try:
        line = compact(raw)
        row = _read_plain(line, limits)
        if row is not None:
            return row, line
    except (ValueError, RecursionError):
        pass  # the other parser says what it is
    try:
        row = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise RowError(MALFORMED_ROW, str(error)) from error
    _check_value(row, limits, depth=2)  # the array around the rows is the first level
    return row, compact(raw)


def compact(raw: bytes) -> bytes:
    """The same JSON on one line without blanks; numbers and strings keep their bytes."""
    return msgspec.json.format(raw, indent=-1)


def _read_plain(line: bytes, limits: Conf) -> dict[str, Any] | None:
    """A row of but texts, literals and numbers of common size, where there is nothing to refuse; None for any other.

    msgspec is as strict as jiter and takes a third of the time, but does not tell that a name is there twice. Of a
    compact object, each name ends in a quote and a colon; within a text, these would have a backslash before them.
    """
    row = msgspec.json.decode(line)
    if type(row) is not dict:
        return None
    for value in row.values():
        kind = type(value)
        if kind is str or value is None or kind is bool:
            continue
        if (kind is int or kind is float) and -COMMON < value < COMMON and limits.max_integer_digits >= COMMON_DIGITS:
            continue
        return None
    return None if b"\\u0000" in line or line.count(b'":') != len(row) else row


def _check_value(value: Any, limits: Conf, depth: int) -> None:
    """Refuse what JSON allows and a database does not. Raises RowError."""
    if isinstance(value, str) and "\0" in value:
        raise RowError("nul_character", _("A string holds a NUL character."))
    if isinstance(value, int) and abs(value) >= 10**limits.max_integer_digits:
        message = _("An integer has more than %(digits)d digits.")
        raise RowError("integer_too_long", message % {"digits": limits.max_integer_digits})
    if isinstance(value, float) and math.isinf(value):
        raise RowError("number_too_large", _("A number is too large."))
    if isinstance(value, dict | list):
        if depth > limits.max_depth:
            message = _("The document is nested deeper than %(depth)d levels.")
            raise RowError("nested_too_deep", message % {"depth": limits.max_depth})
        for part in chain(value, value.values()) if isinstance(value, dict) else value:
            _check_value(part, limits, depth + 1)


def _cut_window(body: bytes, start: int, first_name: bytes, limits: Conf) -> tuple[list[bytes], int]:
    """Many rows at once, from the row that starts here, and where the next row starts; no rows if they are not alike.

    The window ends where a row seems to begin as the first one does. If what is before that is an array's inside, the
    row does begin there, whatever the bytes mean: a parser that reads from the left cannot have come to another end.
    """
    end = start + WINDOW_BYTES
    for _try in range(WINDOW_TRIES):
        end = body.rfind(first_name, start + 1, end)
        if end == -1:
            break
        piece = body[start:end].rstrip(b" \t\n\r")
        if not piece.endswith(b","):
            continue
        try:
            rows = [bytes(row) for row in RAW_ROWS.decode(b"[%b]" % piece[:-1])]
        except (msgspec.DecodeError, RecursionError):
            continue
        return ([], start) if max(map(len, rows)) > limits.max_row_bytes else (rows, end)
    return [], start


def _skip_blanks(body: bytes, position: int) -> int:
    blanks = BLANKS.match(body, position)
    return blanks.end() if blanks else position


def _row_end(body: bytes, start: int, index: int, limits: Conf) -> int:
    """Where the row that starts here ends. Raises BadImport or BodyTooLarge, naming the row."""
    # Never more than a row may have is read, so that a huge one costs no more than a large one.
    # Latin-1 makes a character of each byte, so that positions are the same in both.
    piece = body[start : start + limits.max_row_bytes + 1].decode("latin-1")
    too_large = len(piece) > limits.max_row_bytes
    try:
        _row, size = ROW_DECODER.raw_decode(piece)
        too_large = size > limits.max_row_bytes
    except RecursionError as error:
        message = _("The row at index %(index)d is nested deeper than %(depth)d levels.")
        message %= {"index": index, "depth": limits.max_depth}
        raise BadImport(message, code="nested_too_deep") from error
    except json.JSONDecodeError as error:
        if not (too_large and _is_well_formed_so_far(piece)):
            _refuse_malformed(body, start + error.pos, error.msg, index)
    if too_large:
        message = _("The row at index %(index)d has more than the %(limit)d bytes allowed.")
        raise BodyTooLarge(message % {"index": index, "limit": limits.max_row_bytes}, code=ROW_TOO_LARGE)
    return start + size


def _is_well_formed_so_far(piece: str) -> bool:
    try:
        jiter.from_json(f"[{piece}".encode())
    except ValueError as error:
        return str(error).startswith("EOF")  # all that it misses is the rest
    return True


def _check_end(body: bytes, position: int) -> None:
    position = _skip_blanks(body, position)
    if position < len(body):
        _refuse_malformed(body, position, "there is more after the end of the array")


def _refuse_malformed(body: bytes, position: int, reason: str, index: int | None = None) -> NoReturn:
    """Raise BadImport with the row if it is in one, the line and the column."""
    line_start = body.rfind(b"\n", 0, position) + 1
    where = {"reason": reason, "line": body.count(b"\n", 0, position) + 1, "column": position - line_start + 1}
    if index is None:
        message = _("The body is not valid JSON, line %(line)d, column %(column)d: %(reason)s.")
    else:
        message = _("The row at index %(index)d is not valid JSON, line %(line)d, column %(column)d: %(reason)s.")
    raise BadImport(message % {"index": index, **where})
