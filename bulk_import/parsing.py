"""From the bytes of a request to rows, strictly: what is not exactly JSON in UTF-8 is refused.

`split_array` cuts the array into raw rows without building them; `parse_row` reads one of them. A number
stays as it was sent, because the payload keeps the row's own bytes. Limits are settings, see `conf`.
"""

from __future__ import annotations

import codecs
import math
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

import jiter
import msgspec
from django.utils.translation import gettext as _
from rest_framework.parsers import BaseParser

from bulk_import.conf import Conf, conf
from bulk_import.exceptions import BodyTooLarge, MalformedBody

if TYPE_CHECKING:
    from collections.abc import Mapping

MEBIBYTE = 1024 * 1024
BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class RowError(Exception):
    """One row cannot be read; the others can."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class JSONRowsParser(BaseParser):
    """`application/json`: the body must be an array; gives its raw rows."""

    media_type = "application/json"

    def parse(  # type: ignore[override] # the stubs expect a form; request.data is whatever a parser gives
        self,
        stream: Any,
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002 - DRF's signature
    ) -> list[bytes]:
        return split_array(read_body(stream))


def read_body(stream: Any) -> bytes:
    """Read a request's body. Raises BodyTooLarge, before reading where Content-Length tells."""
    limit = conf().max_body_bytes
    announced = int(stream.META.get("CONTENT_LENGTH") or 0)
    body: bytes = b"" if announced > limit else stream.read(limit + 1)
    if max(announced, len(body)) > limit:
        message = _("The body is larger than %(limit)s MiB. Send the rows in several imports.")
        raise BodyTooLarge(message % {"limit": limit // MEBIBYTE})
    return body


def split_array(body: bytes) -> list[bytes]:
    """Cut a JSON array into its elements' own bytes.

    Raises MalformedBody where the document breaks, and BodyTooLarge for too many elements. That an element
    itself is well-formed is left to `parse_row`.
    """
    if body.startswith(BYTE_ORDER_MARKS):
        raise MalformedBody(_("The body starts with a byte order mark. Send plain UTF-8 without one."))
    if not body.strip():
        raise MalformedBody(_("The body is empty. Send a JSON array of rows."), code="empty_body")
    try:
        rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.ValidationError as error:
        message = _("The body is not an array. Send a JSON array of rows, also for a single one.")
        raise MalformedBody(message, code="not_an_array") from error
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse_malformed(body, error)
    if not rows:
        raise MalformedBody(_("The array is empty. Send at least one row."), code="no_rows")
    limit = conf().max_rows
    if len(rows) > limit:
        message = _("%(rows)d rows are more than the %(limit)d allowed. Send them in several imports.")
        raise BodyTooLarge(message % {"rows": len(rows), "limit": limit}, code="too_many_rows")
    return [bytes(row) for row in rows]


def parse_row(raw: bytes, limits: Conf) -> Any:
    """The value of one row, as DRF's own JSON parser would read it. Raises RowError."""
    if len(raw) > limits.max_row_bytes:
        message = _("The row has %(size)d bytes; %(limit)d are allowed.")
        raise RowError("row_too_large", message % {"size": len(raw), "limit": limits.max_row_bytes})
    try:
        row = jiter.from_json(raw, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        raise RowError("malformed_row", str(error)) from error
    _check_value(row, limits, depth=2)  # the array around the rows is the first level
    return row


def compact(raw: bytes) -> bytes:
    """The same JSON on one line without blanks; numbers and strings keep their bytes."""
    return msgspec.json.format(raw, indent=-1)


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


def _refuse_malformed(body: bytes, error: Exception) -> NoReturn:
    """Raise MalformedBody with a line and column if a second parser finds them, else with the byte."""
    where = str(error)
    try:
        jiter.from_json(body, allow_inf_nan=False, cache_mode="none")
    except ValueError as found:
        where = str(found)
    raise MalformedBody(_("The body is not valid JSON: %(where)s") % {"where": where}) from error
