"""The response to a create call whose row was not created: whose fault it is, and the errors with their codes."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from rest_framework.exceptions import APIException, ErrorDetail

from bulk_import.errors import flatten_errors
from bulk_import.target_views import ViewFormat

if TYPE_CHECKING:
    from collections.abc import Container

    from django.http import HttpRequest


def is_denied_for_this_row(response: Any) -> bool:
    """Return whether a 403 is about this row only.

    If the view's own permissions would still let the submitter create another row, the 403 is about this row, and the
    row is rejected. Otherwise the submitter has lost the permission, and the worker pauses the job.
    """
    view = (getattr(response, "renderer_context", None) or {}).get("view")
    if response.status_code != HTTPStatus.FORBIDDEN or view is None:
        return False
    try:
        view.check_permissions(view.request)
    except (APIException, PermissionDenied, Http404):  # DRF handles all three in the same way
        return False
    return True


def with_error_codes(response: Any, detail: Any, success_statuses: Container[int]) -> Any:
    """Return the response with its errors as `{"errors": [{"field", "code", "message"}]}`.

    DRF renders the errors without their codes. `detail` is that of the exception that the view raised; None if it
    raised none. Then the response's `data` may still have the codes.
    """
    data = getattr(response, "data", None) if detail is None else detail
    if response.status_code < HTTPStatus.BAD_REQUEST:
        # For example a 200. The row was rolled back, so do not send its data as if it existed.
        message = f"The endpoint returned {response.status_code}, which is not one of its target's success_statuses."
        if response.status_code in success_statuses:
            message = f"The endpoint returned {response.status_code}, but rolled back its transaction."
            response.status_code = HTTPStatus.INTERNAL_SERVER_ERROR
        data = [ErrorDetail(message, code="not_created")]
        if response.streaming:
            response.close()
            response = HttpResponse(status=response.status_code)
    if not isinstance(data, dict | list):
        return response
    if isinstance(data, dict) and data.keys() == {"detail"}:
        data = [data["detail"]]
    errors = list(flatten_errors(data))
    if view := (getattr(response, "renderer_context", None) or {}).get("view"):
        errors = ViewFormat(view).name_fields(errors)
    response.content = json.dumps({"errors": errors})
    response["Content-Type"] = "application/json"
    return response


def forget_session(request: HttpRequest) -> None:
    """Replace the request's session by an empty one, which SessionMiddleware does not save.

    The worker keeps no cookies, so nobody could use a session that the view began. And if the row was rolled back, so
    was the session: SessionMiddleware would fail to save it, and answer 400 instead of the view.
    """
    if hasattr(request, "session"):
        request.session = type(request.session)()
