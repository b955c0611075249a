"""Parses many JSON rows without nested values at once, and makes payload lines of rows."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FAST_NUMBER_LIMIT = 10**9
"""Numbers below this size need no further checks. It is far below MAX_INTEGER_DIGITS and below 64 bits."""

SMALL = msgspec.Meta(gt=-FAST_NUMBER_LIMIT, lt=FAST_NUMBER_LIMIT)
FlatRow = dict[str, str | Annotated[int, SMALL] | Annotated[float, SMALL] | bool | None]
"""The type of a row without nested values and without large numbers."""

FIRST_AND_LAST, OBJECT_BRACES = itemgetter(0, -1), tuple(b"{}")
"""The first and the last byte of a row, and those of an object."""

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

    msgspec is as strict as jiter and takes a third of the time, but it does not report duplicate names. So the names
    are counted: each is followed by a colon. If a name occurs twice, there are more colons than values. If a text
    contains a colon, there are too many as well. Then the blanks are removed and only the colons after a quotation mark
    are counted, which takes longer. If a text contains these two characters, each row is parsed alone.
    """
    if max(map(len, raws)) > max_row_bytes:
        return None
    try:
        lines = list(raws)
        array = _join(lines)
        if not _are_separate(lines, array):
            array = _join(map(_without_blanks, raws))  # raises DecodeError for a row that is not JSON on its own
            lines = list(map(to_payload_line, raws))
        rows: list[dict[str, Any]] = FLAT_ROW_DECODER.decode(array)
        values = sum(map(len, rows))
        if array.count(b":") != values and b"".join(map(_without_blanks, raws)).count(b'":') != values:
            return None
    except (msgspec.DecodeError, ValueError, RecursionError, IndexError):  # IndexError: a row without any bytes
        return None
    has_nul = b"\\" in array and b"\\u0000" in array  # the search for one byte takes hardly any time
    return (rows, lines) if len(rows) == len(lines) and not has_nul else None


def _join(lines: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",\n".join(lines)


def _are_separate(lines: list[bytes], array: bytes) -> bool:
    """Return whether each of these rows is on one line, and begins and ends with a brace.

    If msgspec then reads as many rows in the array as there are lines, each line is a row on its own. No text contains
    a line break, and no row a nested object. So the first brace of a line begins a row, and its last one ends a row.
    """
    has_one_line_each = array.count(b"\n") == len(lines) - 1 and b"\r" not in array
    return has_one_line_each and set(map(FIRST_AND_LAST, lines)) == {OBJECT_BRACES}
