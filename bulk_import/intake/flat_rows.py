"""Parses many JSON rows without nested values at once, and makes payload lines of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

FAST_NUMBER_LIMIT = 10**9
"""Numbers below this size need no further checks. It is far below MAX_INTEGER_DIGITS and below 64 bits."""

SMALL = msgspec.Meta(gt=-FAST_NUMBER_LIMIT, lt=FAST_NUMBER_LIMIT)
FlatRow = dict[str, str | Annotated[int, SMALL] | Annotated[float, SMALL] | bool | None]
"""The type of a row without nested values and without large numbers."""

FLAT_ROW_DECODER = msgspec.json.Decoder(list[FlatRow])
"""Decodes an array of rows. It stops at the first value that needs a closer look."""


def to_payload_line(raw: bytes) -> bytes:
    """Return a row of valid JSON on one line. Only a row that has several lines changes: it loses its blanks."""
    return _without_blanks(raw) if b"\n" in raw or b"\r" in raw else raw


def _without_blanks(raw: bytes) -> bytes:
    """Return the same JSON without blanks between its parts. Numbers and texts keep their bytes."""
    return msgspec.json.format(raw, indent=-1)


def parse_flat_rows(raws: Sequence[bytes], max_row_bytes: int) -> tuple[list[dict[str, Any]], list[bytes]] | None:
    """Fast path for rows without nested values: return the values of several rows, and their payload lines.

    Returns None if one of the rows is too large or malformed, or has anything that may be refused. Then call
    `parse_row` for each of them.
    """
    if max(map(len, raws)) > max_row_bytes:
        return None
    lines = list(raws)
    try:
        if b"\n" in (text := b"".join(lines)) or b"\r" in text:
            lines = list(map(to_payload_line, raws))
        rows = _parse_lines(b"[%b]" % b",\n".join(lines))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return None if rows is None or len(rows) != len(lines) else (rows, lines)


def split_flat_rows(window: bytes, max_row_bytes: int) -> tuple[list[dict[str, Any]], list[bytes]] | None:
    """Fast path for a part of an array, from the beginning of a row to the end of one: split and parse it at once.

    Returns the same as `parse_flat_rows`, and None in the same cases. Then the part has to be split in another way. The
    part may not be JSON, and nothing is known of the places where its rows begin.

    Wherever a row seems to follow another one, a line break is added. If this place was inside a text, the result is
    not JSON any more.
    """
    array = b"[%b]" % window.replace(b"}, {", b"},\n{").replace(b"},{", b"},\n{")
    try:
        rows = _parse_lines(array)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if rows is None:
        return None
    lines = array[1:-1].split(b",\n")
    return None if max(map(len, lines)) > max_row_bytes else (rows, lines)


def _parse_lines(array: bytes) -> list[dict[str, Any]] | None:
    """Parse an array of rows without nested values, in which each row has a line of its own.

    Returns None if a row has another place, or has anything that may be refused. Raises DecodeError, ValueError and
    RecursionError if the array is malformed.

    A text contains no line break, and a row no other object. So a line break between `},` and `{` is always between two
    rows. If there are no other line breaks, each line is one row.

    msgspec is as strict as jiter and takes a third of the time, but it does not report duplicate names. So the names
    are counted: each is followed by a colon. If a name occurs twice, there are more colons than values. If a text
    contains a colon, there are too many as well. Then the blanks are removed and only the colons after a quotation mark
    are counted, which takes longer. If a text contains these two characters, each row is parsed alone.
    """
    line_breaks = array.count(b"\n")
    if line_breaks != array.count(b"},\n{") or b"\r" in array:
        return None
    if b"\\" in array and b"\\u0000" in array:  # the search for one byte takes hardly any time
        return None
    rows: list[dict[str, Any]] = FLAT_ROW_DECODER.decode(array)
    if len(rows) != line_breaks + 1:
        return None
    values = sum(map(len, rows))
    has_each_name_once = array.count(b":") == values or _without_blanks(array).count(b'":') == values
    return rows if has_each_name_once else None
