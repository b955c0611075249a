"""Supports create endpoints whose views replace DRF's parser, renderer or EXCEPTION_HANDLER.

For example, a parser may read `unitPrice` as `unit_price`. Validation then checks the row that the view's parser
returns, with `unit_price`. In errors, the field has the name that the user sent, `unitPrice`.
"""

from __future__ import annotations

import io
import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.utils.mediatypes import media_type_matches
from rest_framework.views import APIView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest

JSON = "application/json"
CAUGHT_ERRORS = "bulk_import_caught_errors"
"""Attribute of a request that collects the exceptions that views turn into responses; see `collect_errors`."""


def act_as(request: HttpRequest, user: Any) -> None:
    """Authenticate the request as this user, whatever authentication the view uses."""
    request.user = user
    # DRF's own hook for a request that is already authenticated. Its test client uses it for `force_authenticate`.
    request._force_auth_user = user  # type: ignore[attr-defined]  # noqa: SLF001 - see above


class ViewFormat:
    """The JSON of a view: how it reads a row, and how it names a field."""

    def __init__(self, view: APIView) -> None:
        self._view = view

    @cached_property
    def _parser(self) -> Any:
        """The view's parser for JSON; None if it is DRF's own, or if there is none."""
        parsers = self._view.get_parsers()
        parser = next((parser for parser in parsers if media_type_matches(str(parser.media_type), JSON)), None)
        return None if parser is None or type(parser).parse is JSONParser.parse else parser

    @cached_property
    def _renderer(self) -> Any:
        """The view's renderer for JSON; None if it is DRF's own, or if there is none."""
        renderer = next((renderer for renderer in self._view.get_renderers() if renderer.media_type == JSON), None)
        return None if renderer is None or type(renderer).render is JSONRenderer.render else renderer

    @property
    def has_own_parser(self) -> bool:
        """Whether `read` may change a row."""
        return self._parser is not None

    def read(self, row: Any) -> Any:
        """Return the row as the view's parser reads it. Raises whatever that parser raises."""
        if self._parser is None:
            return row
        context: dict[str, Any] = {
            "view": self._view,
            "request": getattr(self._view, "request", None),
            "args": (),
            "kwargs": {},
        }
        return self._parser.parse(io.BytesIO(json.dumps(row).encode()), JSON, {"encoding": "utf-8", **context})

    def field_name(self, path: str) -> str:
        """Return the name of a field, which may be a dotted path, as the view's renderer writes it."""
        if self._renderer is None:
            return path
        return ".".join(map(self._written, path.split(".")))

    def _written(self, name: str) -> str:
        try:
            written = json.loads(self._renderer.render({name: None}, JSON, {"view": self._view}))
        except Exception:  # noqa: BLE001 - the project's renderer may raise anything, as the context has no response
            return name
        # A renderer that adds an envelope, such as {"data": …}, does not tell how it names a field.
        is_object = isinstance(written, dict) and list(written.values()) == [None]
        return next(iter(written)) if is_object else name

    def name_fields(self, errors: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the errors with each `field` as the view's renderer writes it."""
        return [{**error, "field": error["field"] and self.field_name(error["field"])} for error in errors]


def collect_errors(request: HttpRequest) -> list[Exception]:
    """Return a list that receives each exception that a DRF view turns into its response to this request."""
    caught: list[Exception] = []
    setattr(request, CAUGHT_ERRORS, caught)
    return caught


def error_detail(error: Exception) -> Any:
    """Return the detail of an exception with its codes, as in DRF's ValidationError; None if it has none."""
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    detail = getattr(error, "detail", None)
    return [detail] if isinstance(detail, str) else detail


# The fields and the codes can be read from the exception only, because the project's EXCEPTION_HANDLER may return a
# response of any format. DRF does not keep the exception and has no hook for it, so we wrap `APIView.handle_exception`.
# The wrapper returns the same response. It records the exception only if `collect_errors` was called for the request.
_handle_exception = APIView.handle_exception


def _collect_and_handle(view: APIView, error: Exception) -> Any:
    caught = getattr(view.request, CAUGHT_ERRORS, None)
    if caught is not None:
        caught.append(error)
    return _handle_exception(view, error)


APIView.handle_exception = _collect_and_handle  # type: ignore[method-assign, assignment]
