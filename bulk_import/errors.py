"""Every error of the API in one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from bulk_import.exceptions import BadImport, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


def error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error of this API has one shape: `{"code", "message"}`, and `errors` where rows are to blame."""
    if isinstance(error, BadImport):
        response = Response({"code": error.code, "message": error.message, **error.extra}, status=error.status)
        if error.retry_after_seconds:
            response["Retry-After"] = str(error.retry_after_seconds)
        return response
    if isinstance(error, Unavailable):
        body = {"code": "unavailable", "message": str(error)}
        response = Response(body, status=status.HTTP_503_SERVICE_UNAVAILABLE)
        response["Retry-After"] = str(error.retry_after_seconds)
        return response
    answer = exception_handler(error, context)
    if answer is None:
        return None
    if isinstance(error, ValidationError):
        message = _("A parameter of the request is not valid.")
        answer.data = {"code": "invalid_parameter", "message": message, "errors": list(flatten_errors(error.detail))}
    else:
        detail = error.detail if isinstance(error, APIException) else answer.data["detail"]
        answer.data = {"code": getattr(detail, "code", "error"), "message": str(detail)}
    return answer


def flatten_errors(detail: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """The leaves of a DRF error detail; the field of a nested one is a dotted path."""
    if isinstance(detail, dict):
        for key, part in detail.items():
            own = "" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key)
            yield from flatten_errors(part, ".".join(filter(None, (path, own))))
    elif isinstance(detail, list):
        for place, part in enumerate(detail):
            nested = isinstance(part, dict | list)
            yield from flatten_errors(part, ".".join(filter(None, (path, str(place)))) if nested else path)
    else:
        code = getattr(detail, "code", "invalid")
        yield {"field": path or None, "code": code, "message": str(detail) or _("Invalid value.")}
