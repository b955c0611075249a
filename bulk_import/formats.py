"""The formats that an import may come in. Each gives raw JSON rows; limits and errors are the same for all.

    application/json        an array of rows
    application/x-ndjson    a row a line
    text/csv                a header row, then a row a line; an empty cell is an absent field
    multipart/form-data     a form with one file in any of these

`Content-Encoding: gzip` may wrap each of the first three.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser, MultiPartParser

from bulk_import.conf import conf
from bulk_import.exceptions import BodyTooLarge, MalformedBody
from bulk_import.parsing import ROW_TOO_LARGE, split_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rest_framework.request import Request

MEBIBYTE = 1024 * 1024
PIECE_BYTES = 256 * 1024
FORM_OVERHEAD_BYTES = 64 * 1024  # what a form may add to its file
GZIP = 16 + zlib.MAX_WBITS
DELIMITERS = b",;\t"
TABLE_GROWTH = 2
"""As JSON, each row of a CSV repeats the names of the columns: so many times the limit of a body, and no more."""
FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*([^\r\n]{0,65535})")
SUFFIXES = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".csv": "text/csv",
}


class RawRow(NamedTuple):
    """One row as JSON, and the line of the document that it begins at where lines mean something."""

    json: bytes
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Upload:
    """A request's rows, to be read once, and a hash of its content and parameters."""

    rows: Iterator[RawRow]
    sha256: bytes


class UnreadBody(BaseParser):
    """Leaves the body to `read_upload`. DRF would parse it whole when a session's CSRF check looks for a form."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:  # noqa: ARG002 - DRF's signature
        return {}


class FileForm(MultiPartParser):
    """Reads a form; where it is malformed, whoever asks for it first gets MalformedBody."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except (ParseError, SuspiciousOperation) as error:
            raise MalformedBody(_("The form cannot be read.")) from error


def read_upload(request: Request) -> Upload:
    """The rows of a request; where they are malformed, reading them raises BadImport.

    Raises BodyTooLarge, MalformedBody for an empty body, and UnsupportedMediaType.
    """
    media_type = _media_type(request.content_type)
    if media_type == "multipart/form-data":
        media_type, body = _read_file(request)
    else:
        _expect_format(media_type)
        body = _read_body(request)
    if not body or body.isspace():
        raise MalformedBody(_("The body is empty. Send a JSON array of rows."), code="empty_body")
    digest = hashlib.sha256(f"{media_type}?{request.META.get('QUERY_STRING', '')}\n".encode())
    digest.update(body)
    return Upload(FORMATS[media_type](body), digest.digest())


def expect_content_length(request: Request) -> None:
    """Raises BodyTooLarge when the body is announced as too large, before any of it is read."""
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced > conf().max_body_bytes + FORM_OVERHEAD_BYTES:
        raise _too_large()


def split_json(body: bytes) -> Iterator[RawRow]:
    """The elements of a JSON array."""
    return map(RawRow, split_array(body))


def split_lines(body: bytes) -> Iterator[RawRow]:
    """The lines of JSON Lines; blank ones do not count."""
    for number, line in enumerate(io.BytesIO(body), 1):
        if row := line.strip(b" \t\r\n"):
            yield RawRow(row, number)


def split_table(body: bytes) -> Iterator[RawRow]:
    """The records of a CSV, each an object of strings under the names of the header row.

    As spreadsheets write them: with or without a byte order mark, and with comma, semicolon or tab between cells.
    Raises MalformedBody, naming the line, and BodyTooLarge when the objects together are.
    """
    first_line = FIRST_LINE.match(body)
    delimiter = max(DELIMITERS, key=first_line[1].count) if first_line else DELIMITERS[0]
    lines = RecordLines(body, conf().max_row_bytes)
    records = csv.reader(lines, delimiter=chr(delimiter), strict=True)
    header: list[str] | None = None
    line = 1
    space = TABLE_GROWTH * conf().max_body_bytes
    try:
        for record in records:
            lines.start_record()
            if header is None:
                header = _header(record, line) if any(record) else None
            elif any(record):
                row = _table_row(header, record, line)
                space -= len(row.json)
                if space < 0:
                    message = _("With the names of the columns, the rows are larger than %(limit)s MiB. Send fewer.")
                    limit = TABLE_GROWTH * conf().max_body_bytes // MEBIBYTE
                    raise BodyTooLarge(message % {"limit": limit})
                yield row
            line = records.line_num + 1
    except UnicodeDecodeError as error:
        message = _("The CSV is not in UTF-8 (line %(line)d). Save it as “CSV UTF-8”.")
        raise MalformedBody(message % {"line": _undecodable_line(body)}) from error
    except csv.Error as error:
        message = _("The CSV cannot be read, line %(line)d: %(reason)s.")
        raise MalformedBody(message % {"line": line, "reason": error}) from error


class RecordLines:
    """The lines of a CSV, one at a time. Raises BodyTooLarge when those of one record exceed the limit of a row.

    Neither the text as a whole nor a record without end is ever in memory.
    """

    def __init__(self, body: bytes, limit: int) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8-sig", newline="")
        self._limit = limit
        self._line = 0
        self.start_record()

    def start_record(self) -> None:
        self._left = self._limit

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._line += 1
        self._left -= len(line)
        if self._left < 0:
            message = _("The row that ends in line %(line)d or later has more than the %(limit)d bytes allowed.")
            raise BodyTooLarge(message % {"line": self._line, "limit": self._limit}, code=ROW_TOO_LARGE)
        return line


FORMATS: dict[str, Callable[[bytes], Iterator[RawRow]]] = {
    "application/json": split_json,
    "application/x-ndjson": split_lines,
    "text/csv": split_table,
}


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _expect_format(media_type: str) -> None:
    if media_type not in FORMATS:
        raise UnsupportedMediaType(media_type)


def _too_large() -> BodyTooLarge:
    message = _("The body is larger than %(limit)s MiB. Send the rows in several imports.")
    return BodyTooLarge(message % {"limit": conf().max_body_bytes // MEBIBYTE})


def _read_body(request: Request) -> bytes:
    """The body, inflated if it is compressed, never more than the limit of either. Raises BodyTooLarge."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip"}:
        message = _("The content coding “%(coding)s” is not supported; gzip is.")
        raise UnsupportedMediaType(coding, message % {"coding": coding})
    limit = conf().max_body_bytes
    stream = _stream(request)
    body = bytearray()
    received = 0
    inflater = zlib.decompressobj(GZIP) if coding == "gzip" else None
    while piece := _read_piece(stream):
        received += len(piece)
        body += piece if inflater is None else _inflate(inflater, piece, limit + 1 - len(body))
        if max(received, len(body)) > limit:
            raise _too_large()
    if received < int(request.META.get("CONTENT_LENGTH") or 0):  # half a CSV would pass for a whole one
        raise MalformedBody(_("The body breaks off."))
    if inflater and not inflater.eof:
        raise MalformedBody(_("The gzip data breaks off."))
    return bytes(body)


def _read_piece(stream: Any) -> bytes:
    try:
        piece: bytes = stream.read(PIECE_BYTES)
    except Exception as error:  # a server has errors of its own for a connection that breaks
        raise MalformedBody(_("The body breaks off.")) from error
    return piece


def _inflate(inflater: Any, piece: bytes, most: int) -> bytes:
    try:
        inflated: bytes = inflater.decompress(piece, most)
    except zlib.error as error:
        raise MalformedBody(_("The body is not valid gzip data.")) from error
    if inflater.unused_data:
        raise MalformedBody(_("There is more after the end of the gzip data."))
    return inflated


def _stream(request: Request) -> Any:
    """What to read the body from; also a chunked one, whose length nobody announced."""
    django_request = request._request  # noqa: SLF001 - DRF's own name for Django's request
    if isinstance(django_request, WSGIRequest):
        environ = django_request.environ
        if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            return environ["wsgi.input"]  # Django would take the body for empty
    return django_request


def _read_file(request: Request) -> tuple[str, bytes]:
    """Media type and content of the one file of a form. Raises MalformedBody, BodyTooLarge."""
    if not request.META.get("CONTENT_LENGTH"):
        raise MalformedBody(_("Send a form with its Content-Length."), code="length_required", status=411)
    files = [file for name in request.FILES for file in request.FILES.getlist(name)]
    if len(files) != 1:
        message = _("Send exactly one file in the form; this one has %(files)d.")
        raise MalformedBody(message % {"files": len(files)}, code="not_one_file")
    file = files[0]
    if (file.size or 0) > conf().max_body_bytes:
        raise _too_large()
    media_type = SUFFIXES.get(PurePath(file.name or "").suffix.lower()) or _media_type(file.content_type)
    _expect_format(media_type)
    return media_type, file.read()


def _header(record: list[str], line: int) -> list[str]:
    """The names of the columns. Raises MalformedBody when one is missing or there twice."""
    names = [name.strip() for name in record]
    for name in names:
        if not name or names.count(name) > 1:
            message = _("The header row (line %(line)d) has a column without a name, or a name twice: “%(name)s”.")
            raise MalformedBody(message % {"line": line, "name": name}, code="malformed_header")
    return names


def _table_row(header: list[str], record: list[str], line: int) -> RawRow:
    if len(record) > len(header):
        message = _("Line %(line)d has %(cells)d cells, the header row has %(columns)d.")
        message %= {"line": line, "cells": len(record), "columns": len(header)}
        raise MalformedBody(message, code="too_many_cells")
    row = {name: cell for name, cell in zip(header, record, strict=False) if cell}
    return RawRow(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"), line)


def _undecodable_line(body: bytes) -> int:
    """The number of the first line that is not UTF-8."""
    for number, line in enumerate(io.BytesIO(body), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 1
