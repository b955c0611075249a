"""Finds the cells of an .xls file that contain an error. calamine reads them as if they were empty.

An .xls file is a compound file: a kind of file system, whose sectors are linked by a table. Its stream "Workbook" is a
sequence of records, each with a type and a length. `workbook_process` uses this module, so it imports nothing else.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 512
ENTRY_BYTES = 128
LAST_SECTOR = 0xFFFFFFFA
"""Larger numbers of sectors have a meaning of their own, such as the end of a chain."""

STREAMS = {name.encode("utf-16-le") for name in ("Workbook\0", "Book\0")}
SHEET, FORMULA, BOOLEAN_OR_ERROR = 0x0085, 0x0006, 0x0205


def error_cells(body: bytes, sheet_number: int) -> Iterator[tuple[int, int]]:
    """Yield the row and the column, both from 0, of each error in a sheet. The number of the sheet is from 0, too."""
    stream = workbook_stream(body)
    starts = [struct.unpack_from("<I", data)[0] for kind, data in records(stream, 0) if kind == SHEET]
    if sheet_number >= len(starts):
        return
    for kind, data in records(stream, starts[sheet_number]):
        is_error = kind == BOOLEAN_OR_ERROR and data[7:8] == b"\1"
        if is_error or (kind == FORMULA and data[6:7] == b"\2" and data[12:14] == b"\xff\xff"):
            yield struct.unpack_from("<HH", data)


def records(stream: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the data of the records from a position to the end of the sheet."""
    while position + 4 <= len(stream):
        kind, length = struct.unpack_from("<HH", stream, position)
        if kind == 0x000A:  # noqa: PLR2004 - the end of the sheet
            return
        yield kind, stream[position + 4 : position + 4 + length]
        position += 4 + length


def workbook_stream(body: bytes) -> bytes:
    """Return the stream with the records; b"" if there is none."""
    size = 1 << struct.unpack_from("<H", body, 30)[0]
    table = allocation_table(body, size)
    directory = chain(body, struct.unpack_from("<I", body, 48)[0], table, size)
    for start in range(0, len(directory), ENTRY_BYTES):
        name_bytes = struct.unpack_from("<H", directory, start + 64)[0]
        if directory[start : start + name_bytes] in STREAMS:
            return chain(body, struct.unpack_from("<I", directory, start + 116)[0], table, size)
    return b""


def allocation_table(body: bytes, size: int) -> list[int]:
    """Return the number of the sector that follows each sector."""
    sectors = list(struct.unpack_from("<109I", body, 76))
    more = struct.unpack_from("<I", body, 68)[0]
    numbers = size // 4
    for _sector in range(len(body) // size):  # each sector is read once at most
        if more > LAST_SECTOR:
            break
        *further, more = struct.unpack_from(f"<{numbers}I", sector(body, more, size))
        sectors += further
    return [
        following
        for number in sectors
        if number <= LAST_SECTOR
        for following in struct.unpack_from(f"<{numbers}I", sector(body, number, size))
    ]


def chain(body: bytes, first: int, table: list[int], size: int) -> bytes:
    """Return the content of the linked sectors that begin with this one."""
    parts: list[bytes] = []
    while first < len(table) and len(parts) <= len(table):
        parts.append(sector(body, first, size))
        first = table[first]
    return b"".join(parts)


def sector(body: bytes, number: int, size: int) -> bytes:
    start = HEADER_BYTES + number * size
    return body[start : start + size].ljust(size, b"\0")
