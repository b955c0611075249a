"""Builds the body of every error response of the API."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError
from django.http import JsonResponse
from django.utils.translation import gettext as _
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from bulk_import.exceptions import BadImport, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

OUT_OF_ORDER = (OperationalError, InterfaceError, OSError)
"""Exceptions that say that the database or the machine cannot work now: a lock, a lost connection, a full disk."""


class BulkImportRowErrorSerializer(serializers.Serializer[dict[str, Any]]):
    """What is wrong with one field of one row, or with one query parameter."""

    index = serializers.IntegerField(min_value=0, required=False, help_text="0-based position of the row.")
    line = serializers.IntegerField(min_value=1, required=False, help_text="Line of the CSV or JSON Lines file.")
    field = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()
    first_index = serializers.IntegerField(
        min_value=0, required=False, help_text="For `duplicate`: the earlier row with the same value."
    )
    first_line = serializers.IntegerField(min_value=1, required=False, help_text="Its line, as `line`.")

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the error unchanged. It already has the API's format, and there can be very many errors."""
        return instance


class BulkImportErrorSerializer(serializers.Serializer[dict[str, Any]]):
    """The body of every error."""

    code = serializers.CharField(help_text="A code for programs.")
    message = serializers.CharField(help_text="A text for people, in the language of the request.")
    errors: Any = BulkImportRowErrorSerializer(
        many=True, required=False, help_text="The first errors."
    )  # DRF moves fields out of the class, so `Serializer.errors` still works
    error_count = serializers.IntegerField(min_value=1, required=False, help_text="The number of all errors.")
    error_count_is_minimum = serializers.BooleanField(
        required=False,
        help_text="For `too_many_errors`: validation stopped, so there may be more errors.",
    )
    invalid_rows = serializers.IntegerField(min_value=1, required=False)
    existing_rows = serializers.IntegerField(
        min_value=1, required=False, help_text="For `rows_exist`: the number of rows whose object exists."
    )
    reading = serializers.JSONField(required=False, help_text="How the file was read, as in the result of a dry run.")
    ambiguous = serializers.JSONField(
        required=False, help_text="For `ambiguous_column`: the `field`, and the `columns` that are read as it."
    )
    sheets = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="For `choose_sheet`: the sheets of the file."
    )
    encodings = serializers.ListField(
        child=serializers.JSONField(),
        required=False,
        help_text="For `unknown_encoding`: possible values of `encoding`, each with a `sample` of the text.",
    )


def error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for an exception that a view raised, or None for an unexpected one.

    This is an exception handler of DRF; `context` is the one that DRF gives it.
    """
    if isinstance(error, BadImport):
        document = {"code": error.code, "message": error.message, **error.extra}
        return _response(document, error.status, error.retry_after_seconds)
    if isinstance(error, Unavailable):
        document = {"code": error.code, "message": str(error)}
        return _response(document, status.HTTP_503_SERVICE_UNAVAILABLE, error.retry_after_seconds)
    if isinstance(error, OUT_OF_ORDER):
        logger.error("A request could not be handled", exc_info=error)
        return _response(out_of_order_document(), status.HTTP_503_SERVICE_UNAVAILABLE, Unavailable.retry_after_seconds)
    response = exception_handler(error, context)  # it also sets WWW-Authenticate and Retry-After
    if response is None:
        return None
    if isinstance(error, ValidationError):
        message = _("A parameter of the request is not valid.")
        document = {"code": "invalid_parameter", "message": message, "errors": list(flatten_errors(error.detail))}
    else:
        detail = error.detail if isinstance(error, APIException) else response.data["detail"]
        if isinstance(detail, dict):  # as Simple JWT's: {"detail": "…", "code": "…", "messages": […]}
            detail = detail.get("detail") or next(flatten_errors(detail), {"message": ""})["message"]
        document = {"code": getattr(detail, "code", "error"), "message": detail}
    response.data = BulkImportErrorSerializer(document).data
    return response


def out_of_order_document() -> dict[str, str]:
    """Return the body of the answer to a request that failed with one of OUT_OF_ORDER."""
    message = _("The server cannot handle this request right now. Please try again later.")
    return {"code": Unavailable.code, "message": message}


def answer_out_of_order(view: Callable[..., Any]) -> Callable[..., Any]:
    """Let a view that is not a DRF view answer 503 in JSON if it raises one of OUT_OF_ORDER."""

    @wraps(view)
    def answered(*args: Any, **kwargs: Any) -> Any:
        try:
            return view(*args, **kwargs)
        except OUT_OF_ORDER:
            logger.exception("A request could not be handled")
            headers = {"Retry-After": str(Unavailable.retry_after_seconds)}
            return JsonResponse(out_of_order_document(), status=status.HTTP_503_SERVICE_UNAVAILABLE, headers=headers)

    return answered


def _response(document: dict[str, Any], status_code: int, retry_after_seconds: int | None) -> Response:
    headers = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds else {}
    return Response(BulkImportErrorSerializer(document).data, status=status_code, headers=headers)


def flatten_errors(detail: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yield `{"field", "code", "message"}` for each error in the detail of a DRF ValidationError.

    The field of a nested error is a dotted path, such as `sizes.0.name`. It is None for an error of the whole row.
    """
    if isinstance(detail, dict):
        for key, part in detail.items():
            name = "" if key == api_settings.NON_FIELD_ERRORS_KEY else str(key)
            yield from flatten_errors(part, ".".join(filter(None, (path, name))))
    elif isinstance(detail, list):
        for position, part in enumerate(detail):
            is_nested = isinstance(part, dict | list)
            yield from flatten_errors(part, ".".join(filter(None, (path, str(position)))) if is_nested else path)
    else:
        code = getattr(detail, "code", "invalid")
        yield {"field": path or None, "code": code, "message": str(detail) or _("Invalid value.")}
