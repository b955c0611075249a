"""Reads the body of a request: rows in one of the `formats`, or a form with exactly one file and perhaps corrections.

A body that is not a form may be compressed with `Content-Encoding: gzip` and may use chunked transfer encoding. The
body is read piece by piece, so that reading stops as soon as it exceeds MAX_BODY_BYTES.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser, MultiPartParser

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.changed_rows import (
    MAX_CHANGES_BYTES,
    ChangedRows,
    ChangedTable,
    Changes,
    read_changes,
)
from bulk_import.intake.file_name import clean_file_name, file_name_of
from bulk_import.intake.formats import MEDIA_TYPES, SPLITTERS, SUFFIXES, TABLE, empty_file, format_of
from bulk_import.intake.raw_rows import MEBIBYTE
from bulk_import.intake.spreadsheets.file_kinds import is_workbook, name_other_kind
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.spreadsheets.table import Table
from bulk_import.intake.spreadsheets.target_fields import target_fields
from bulk_import.models import PARTIAL_MODES, JobMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.core.files.uploadedfile import UploadedFile
    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.raw_rows import RawRow

PIECE_BYTES = 256 * 1024
"""Bytes that are read at a time if the body is compressed, or if the request does not say how many it has."""

FORM_OVERHEAD_BYTES = 64 * 1024
"""Bytes that a form may have in addition to its file: boundaries, headers and other fields."""

CORRECTIONS = "corrections"
"""Name of the part of a form with corrections of the file's rows."""

GZIP = 16 + zlib.MAX_WBITS
"""Tells zlib to expect the gzip format."""


@dataclass(frozen=True)
class Upload:
    """The body of a request in one of the `formats`."""

    format: str
    body: bytes
    options: ReadingOptions
    described: str  # the media type, the host and the query
    file_name: str = ""  # "" if the client sent none
    corrections: bytes = b""  # those that were sent with the file; read in `rows`, because they take much memory

    @cached_property
    def sha256(self) -> bytes:
        """The hash of the content and the parameters, by which a repeated request is recognized."""
        digest = hashlib.sha256(f"{self.described}\n".encode())
        digest.update(self.body)
        return hashlib.sha256(digest.digest() + self.corrections).digest()

    @property
    def unknown(self) -> str:
        """What happens to columns and fields that do not exist: "ignore" or "reject"."""
        return self.options.unknown

    def rows(self, target: Target, request: Request, mode: str = JobMode.CREATE) -> Iterable[RawRow]:
        """Return the rows, which can be iterated only once. A Table also says how the file was read.

        Raises BadImport if it is not clear how to read the file, or if the corrections are malformed. Iterating over
        malformed rows raises it too.
        """
        if self.format != TABLE and not self.corrections:
            return SPLITTERS[self.format](self.body)
        changes = read_changes(self.corrections) if self.corrections else {}
        fields = target_fields(target, request, is_update=mode in PARTIAL_MODES)
        if self.format != TABLE:
            return ChangedRows(SPLITTERS[self.format](self.body), Changes(changes, fields, {}))
        table = Table(self.body, fields, self.options)
        conventions = {"locale": self.options.locale, "decimal": self.options.decimal}
        return ChangedTable(table, Changes(changes, fields, conventions)) if changes else table


class UnreadBody(BaseParser):
    """Leaves the body to `read_upload`.

    Without this parser, DRF would read and parse the whole body as soon as the session's CSRF check looks for a form.
    """

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:  # noqa: ARG002 - DRF's signature
        return {}


class FileForm(MultiPartParser):
    """Parses a form. Raises BadImport if the form is malformed, no matter which code reads the form first.

    Raises BodyTooLarge if its fields exceed Django's DATA_UPLOAD_MAX_MEMORY_SIZE, which does not count files.
    """

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RequestDataTooBig as error:
            message = _("The fields of this form are too large. Send the corrections as a file of the form.")
            raise BodyTooLarge(message) from error
        except (ParseError, SuspiciousOperation) as error:
            raise BadImport(_("This form is not valid multipart/form-data. Send it again.")) from error


def read_upload(request: Request, options: ReadingOptions) -> Upload:
    """Read the body of a request.

    Raises BodyTooLarge, BadImport for a body that is empty, incomplete or no table, and UnsupportedMediaType.
    """
    media_type, query = media_type_of(request), host_and_query(request)
    if media_type != "multipart/form-data":
        body = read_body(request, conf().max_body_bytes)
        upload = as_upload(_format(media_type, body), query, body, options)
        return replace(upload, file_name=file_name_of(request.headers.get("Content-Disposition", "")))
    corrections = _read_corrections(request)
    media_type, body, name = _read_file(request)
    upload = as_upload(_format(media_type, body), query, body, options)
    return replace(upload, file_name=name, corrections=corrections)


def host_and_query(request: Request) -> str:
    """Return what an Idempotency-Key covers besides the body. The host counts, because it may choose the tenant."""
    return f"{request.get_host()}?{request.META.get('QUERY_STRING', '')}"


def as_upload(media_type: str, query: str, body: bytes, options: ReadingOptions | None = None) -> Upload:
    """Return a body as an upload. `media_type` is a format; the hash covers it, the query and the body.

    Raises BadImport if the body is empty, or if it is no table.
    """
    if not body or body.isspace():
        raise empty_file(media_type)
    return Upload(format_of(body, media_type), body, options or ReadingOptions(), f"{media_type}?{query}")


def check_content_length(request: Request) -> None:
    """Raise BodyTooLarge if the Content-Length is too large. Call this before anything reads the body."""
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced > conf().max_body_bytes + FORM_OVERHEAD_BYTES + MAX_CHANGES_BYTES:
        raise file_too_large()


def file_too_large(limit: int | None = None) -> BodyTooLarge:
    """Return the error for an upload that exceeds this number of bytes; by default, MAX_BODY_BYTES."""
    message = _("This file is too large. The limit is %(limit)s MB. Split it into several files.")
    return BodyTooLarge(message % {"limit": (limit or conf().max_body_bytes) // MEBIBYTE})


def media_type_of(part: Request | UploadedFile[Any]) -> str:
    """Return the media type of a request, or of a file in a form, without its parameters."""
    return (part.content_type or "").partition(";")[0].strip().lower()


def _format(media_type: str, body: bytes) -> str:
    """Return the format of a body. Raises UnsupportedMediaType if neither its type nor its content is known."""
    if media_type in MEDIA_TYPES:
        return MEDIA_TYPES[media_type]
    if is_workbook(body) or name_other_kind(body):
        return TABLE
    if media_type:
        message = _("Files of type “%(type)s” are not supported. Send a spreadsheet, CSV, JSON or JSON Lines.")
        message %= {"type": media_type}
    else:
        message = _("The file has no Content-Type. Send a spreadsheet, CSV, JSON or JSON Lines, with its Content-Type.")
    raise UnsupportedMediaType(media_type, message)


def read_body(request: Request, limit: int) -> bytes:
    """Return the body, decompressed if necessary.

    Both the body as sent and the decompressed body may have at most `limit` bytes, and no more than that is ever in
    memory. Raises BodyTooLarge, BadImport and UnsupportedMediaType.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip"}:
        message = _("The content encoding “%(coding)s” is not supported. Send the file with gzip or uncompressed.")
        raise UnsupportedMediaType(coding, message % {"coding": coding})
    stream = _stream(request)
    pieces: list[bytes] = []  # a bytearray that grows would leave holes in the memory of the process
    size = received = 0
    decompressor = zlib.decompressobj(GZIP) if coding == "gzip" else None
    announced = max(0, int(request.META.get("CONTENT_LENGTH") or 0))  # `read` has no limit if the size is negative
    # To read and join many pieces takes time. A compressed body is not kept, so only one piece of it is in memory.
    piece_bytes = PIECE_BYTES if decompressor else min(announced, limit + 1) or PIECE_BYTES
    while piece := _read_piece(stream, piece_bytes):
        received += len(piece)
        pieces.append(piece if decompressor is None else _decompress(decompressor, piece, limit + 1 - size))
        size += len(pieces[-1])
        if max(received, size) > limit:
            raise file_too_large(limit)
    # When a connection breaks, some servers just end the stream. The first half of a CSV is a valid CSV, so only the
    # Content-Length shows that the rest is missing.
    if received < announced:
        raise _incomplete()
    if decompressor and not decompressor.eof:
        raise BadImport(_("The gzip data is incomplete. Compress the file and send it again."))
    return b"".join(pieces)


def _read_piece(stream: Any, piece_bytes: int) -> bytes:
    try:
        piece: bytes = stream.read(piece_bytes)
    except Exception as error:  # each server raises its own exception when a connection breaks
        raise _incomplete() from error
    return piece


def _incomplete() -> BadImport:
    return BadImport(_("The upload is incomplete. Send the file again."))


def _decompress(decompressor: Any, piece: bytes, max_bytes: int) -> bytes:
    try:
        decompressed: bytes = decompressor.decompress(piece, max_bytes)
    except zlib.error as error:
        raise BadImport(_("The upload is not valid gzip data. Compress the file and send it again.")) from error
    if decompressor.unused_data:
        message = _("There is more data after the end of the gzip data. Compress the whole file at once.")
        raise BadImport(message)
    return decompressed


def _stream(request: Request) -> Any:
    """Return the stream to read the body from.

    A body in chunked transfer encoding has no Content-Length, and Django treats such a body as empty. So it is read
    from the WSGI server's own stream, if the server says that the stream ends where the body ends.
    """
    django_request = request._request  # noqa: SLF001 - DRF's own name for Django's request
    if isinstance(django_request, WSGIRequest):
        environ = django_request.environ
        if environ.get("wsgi.input_terminated") and not environ.get("CONTENT_LENGTH"):
            return environ["wsgi.input"]
    return django_request


def _read_corrections(request: Request) -> bytes:
    """Return the corrections in a form, which are a file or a field; b"" if there are none. Raises BodyTooLarge."""
    sent = request.FILES.get(CORRECTIONS) or request.POST.get(CORRECTIONS, "")
    content = sent.encode() if isinstance(sent, str) else sent.read(MAX_CHANGES_BYTES + 1)
    if len(content) > MAX_CHANGES_BYTES:
        raise file_too_large(MAX_CHANGES_BYTES)
    return content


def _read_file(request: Request) -> tuple[str, bytes, str]:
    """Return the media type, the content and the name of the only file of a form.

    Raises BadImport and BodyTooLarge.
    """
    if not request.META.get("CONTENT_LENGTH"):
        message = _("A form needs a Content-Length. Send one, or send the file itself as the body of the request.")
        raise BadImport(message, code="length_required", status=411)
    files = [file for name in request.FILES if name != CORRECTIONS for file in request.FILES.getlist(name)]
    if len(files) != 1:
        message = _("Send exactly one file in the form. This form has %(files)d.")
        raise BadImport(message % {"files": len(files)}, code="not_one_file")
    file = files[0]
    if (file.size or 0) > conf().max_body_bytes:
        raise file_too_large()
    # Browsers often send a useless type for a CSV, so the suffix of the file's name is more reliable.
    media_type = SUFFIXES.get(PurePath(file.name or "").suffix.lower()) or media_type_of(file)
    return media_type, file.read(), clean_file_name(file.name or "")
