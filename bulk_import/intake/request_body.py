"""The body of a request, read within its limits: in one of the `formats`, or as the one file of a form.

`Content-Encoding: gzip` may wrap a body that is no form; a body may be chunked unless it is a form.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser, MultiPartParser

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, BodyTooLarge
from bulk_import.intake.formats import FORMATS, MEBIBYTE, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rest_framework.request import Request

    from bulk_import.intake.formats import RawRow

PIECE_BYTES = 256 * 1024
FORM_OVERHEAD_BYTES = 64 * 1024  # what a form may add to its file
GZIP = 16 + zlib.MAX_WBITS


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
    """Reads a form; where it is malformed, whoever asks for it first gets BadImport."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except (ParseError, SuspiciousOperation) as error:
            raise BadImport(_("The form cannot be read.")) from error


def read_upload(request: Request) -> Upload:
    """The rows of a request; where they are malformed, reading them raises BadImport.

    Raises BodyTooLarge, BadImport for an empty body, and UnsupportedMediaType.
    """
    media_type = _media_type(request.content_type)
    if media_type == "multipart/form-data":
        media_type, body = _read_file(request)
    else:
        _check_format(media_type)
        body = _read_body(request)
    return as_upload(media_type, request.META.get("QUERY_STRING", ""), body)


def as_upload(media_type: str, query: str, body: bytes) -> Upload:
    """The rows of a body in one of the `formats`; the hash stands for all three arguments. Raises BadImport."""
    if not body or body.isspace():
        raise BadImport(_("The body is empty. Send a JSON array of rows."), code="empty_body")
    digest = hashlib.sha256(f"{media_type}?{query}\n".encode())
    digest.update(body)
    return Upload(FORMATS[media_type](body), digest.digest())


def check_content_length(request: Request) -> None:
    """Raises BodyTooLarge when the body is announced as too large, before any of it is read."""
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced > conf().max_body_bytes + FORM_OVERHEAD_BYTES:
        raise too_large()


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _check_format(media_type: str) -> None:
    if media_type not in FORMATS:
        raise UnsupportedMediaType(media_type)


def too_large() -> BodyTooLarge:
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
            raise too_large()
    if received < int(request.META.get("CONTENT_LENGTH") or 0):  # half a CSV would pass for a whole one
        raise BadImport(_("The body breaks off."))
    if inflater and not inflater.eof:
        raise BadImport(_("The gzip data breaks off."))
    return bytes(body)


def _read_piece(stream: Any) -> bytes:
    try:
        piece: bytes = stream.read(PIECE_BYTES)
    except Exception as error:  # a server has errors of its own for a connection that breaks
        raise BadImport(_("The body breaks off.")) from error
    return piece


def _inflate(inflater: Any, piece: bytes, most: int) -> bytes:
    try:
        inflated: bytes = inflater.decompress(piece, most)
    except zlib.error as error:
        raise BadImport(_("The body is not valid gzip data.")) from error
    if inflater.unused_data:
        raise BadImport(_("There is more after the end of the gzip data."))
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
    """Media type and content of the one file of a form. Raises BadImport, BodyTooLarge."""
    if not request.META.get("CONTENT_LENGTH"):
        raise BadImport(_("Send a form with its Content-Length."), code="length_required", status=411)
    files = [file for name in request.FILES for file in request.FILES.getlist(name)]
    if len(files) != 1:
        message = _("Send exactly one file in the form; this one has %(files)d.")
        raise BadImport(message % {"files": len(files)}, code="not_one_file")
    file = files[0]
    if (file.size or 0) > conf().max_body_bytes:
        raise too_large()
    media_type = SUFFIXES.get(PurePath(file.name or "").suffix.lower()) or _media_type(file.content_type)
    _check_format(media_type)
    return media_type, file.read()
