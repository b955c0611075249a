"""Collects the payload while its rows are validated. A small payload is in memory, a large one in a temporary file.

A payload can be many times as large as the upload. One reason is that an invalid row is stored with its errors. Another
is that each row of a CSV is stored with the names of its columns.
"""

from __future__ import annotations

from array import array
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Self

from django.conf import settings

from bulk_import.models.row import row_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import IO

WRITE_BYTES = 64 * 1024
"""Bytes that are collected before they are written, because one write per row would be slow."""


class Payload:
    """Collects the lines of a payload, one per row, and gives them back as one file.

    Use it as a context manager, which deletes the file at the end. FILE_UPLOAD_MAX_MEMORY_SIZE says how many bytes stay
    in memory, and FILE_UPLOAD_TEMP_DIR where the file is.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(  # noqa: SIM115 - this object is the context manager
            settings.FILE_UPLOAD_MAX_MEMORY_SIZE, dir=settings.FILE_UPLOAD_TEMP_DIR
        )
        self._unwritten = bytearray()
        self._line_bytes = array("L")
        self._row_hashes = bytearray()
        self._row_lines = array("I")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def append(self, line: bytes, line_number: int | None = None) -> None:
        """Add the payload line of a row, and the number of the row's line in the upload, if that has lines."""
        self.extend([line], [line_number])

    def extend(self, lines: Sequence[bytes], line_numbers: Iterable[int | None]) -> None:
        """Add the payload lines of several rows, and their line numbers in the upload."""
        self._unwritten += b"\n".join([*lines, b""])
        if len(self._unwritten) >= WRITE_BYTES:
            self._write()
        self._line_bytes.extend([len(line) + 1 for line in lines])
        self._row_hashes += row_hashes(lines)
        self._row_lines.extend([number or 0 for number in line_numbers])

    @property
    def line_bytes(self) -> Sequence[int]:
        """The size of each line in bytes, including its newline."""
        return self._line_bytes

    @property
    def row_hashes(self) -> bytearray:
        """The `row_hash` of each line, one after the other."""
        return self._row_hashes

    @property
    def row_lines(self) -> Sequence[int]:
        """The line number of each row in the upload; 0 for a row without one."""
        return self._row_lines

    def open(self) -> IO[bytes]:
        """Return the file, positioned at its beginning."""
        self._write()
        self._file.seek(0)
        return self._file

    def content(self) -> bytes | IO[bytes]:
        """Return the payload to store it: its bytes if they are in memory, otherwise the file.

        For a file, boto3 first sends only the headers, and waits until S3 answers that it may continue.
        """
        file = self.open()
        is_in_memory = sum(self._line_bytes) <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        return file.read() if is_in_memory else file

    def _write(self) -> None:
        self._file.write(self._unwritten)
        self._unwritten.clear()
