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

RAW_ROWS_DECODER = msgspec.json.Decoder(list[msgspec.Raw])

BETWEEN_ROWS = b", \t\r\n"
"""The bytes that may be between two rows of an array."""


def to_payload_line(raw: bytes) -> bytes:
    """Return a row of valid JSON on one line. Only a row that has several lines changes: it loses its blanks."""
    return _without_blanks(raw) if b"\n" in raw or b"\r" in raw else raw


def to_payload_lines(raws: Sequence[bytes]) -> list[bytes]:
    """Return the `to_payload_line` of each row."""
    together = b"".join(raws)  # one search takes less time than many
    return list(map(to_payload_line, raws) if b"\n" in together or b"\r" in together else raws)


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
    array = b"[%b]" % b",".join(raws)
    rows = _parse_array(array)
    if rows is None or len(rows) != len(raws):
        return None
    # If each of several begins with one of the braces, there is no other brace in it, and it is one row.
    are_separate = len(raws) == 1 or (array.count(b"{") == len(raws) and all(raw.startswith(b"{") for raw in raws))
    return (rows, to_payload_lines(raws)) if are_separate else None


def split_flat_rows(window: bytes, max_row_bytes: int) -> tuple[list[dict[str, Any]], list[bytes]] | None:
    """Fast path for a part of an array, from the beginning of a row to the end of one: split and parse it at once.

    Returns the values and the bytes of its rows, or None in the same cases as `parse_flat_rows`. Then the part has to
    be split in another way. It may be malformed.
    """
    rows = _parse_array(b"[%b]" % window)
    if rows is None:
        return None
    raws = _split_at_braces(window) if window.count(b"{") == len(rows) else split_raw_rows(window)
    return None if max(map(len, raws), default=0) > max_row_bytes else (rows, raws)


def _split_at_braces(window: bytes) -> list[bytes]:
    """Split rows without nested values and without an opening brace in a text, so that a row begins at each of them."""
    _nothing, *rests = window.split(b"{")
    return [b"{" + rest.rstrip(BETWEEN_ROWS) for rest in rests]


def split_raw_rows(window: bytes) -> list[bytes]:
    """Split the part of an array. Raises DecodeError or RecursionError if it is malformed outside of texts."""
    return [bytes(row) for row in RAW_ROWS_DECODER.decode(b"[%b]" % window)]


def _parse_array(array: bytes) -> list[dict[str, Any]] | None:
    """Return the values of an array of rows; None if it is malformed, or has anything that may be refused.

    msgspec is as strict as jiter and takes a third of the time, but it does not report duplicate names. So the names
    are counted: each is followed by a colon. If a name occurs twice, there are more colons than values. If a text
    contains a colon, there are too many as well. Then the blanks are removed and only the colons after a quotation mark
    are counted, which takes longer. If a text contains these two characters, each row is parsed alone.
    """
    if b"\\" in array and b"\\u0000" in array:  # the search for one byte takes hardly any time
        return None
    try:
        rows: list[dict[str, Any]] = FLAT_ROW_DECODER.decode(array)
        values = sum(map(len, rows))
        if array.count(b":") != values and _without_blanks(array).count(b'":') != values:
            return None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return rows
