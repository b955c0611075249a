"""What the view answered to the call of a row: whether the row counts, and if not, whose fault it is and the errors."""

from __future__ import annotations

import json
import logging
import sysconfig
import traceback
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpResponse
from rest_framework.exceptions import APIException, ErrorDetail

from bulk_import.errors import flatten_errors
from bulk_import.models import observe_atomic_request
from bulk_import.target_views import ViewFormat, collect_errors, error_detail

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase


logger = logging.getLogger(__name__)

LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")), str(Path(__file__).parent))
"""Folders of code that the site has not written: Python, the installed packages and this app."""


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """The response of a view, and the exceptions that the view turned into it."""

    response: Any
    errors: list[Exception]
    was_rolled_back: bool = False  # the transaction of the request, if the site uses ATOMIC_REQUESTS

    def is_success(self, statuses: Container[int]) -> bool:
        """Return whether the view answered one of these statuses, and did not answer an error with it."""
        # A project's EXCEPTION_HANDLER may answer an error with a success status; then `errors` has the error.
        return self.response.status_code in statuses and not self.errors

    def is_done(self, statuses: Container[int], using: str) -> bool:
        """Return whether the row counts: a success, and the view has not rolled back its own work.

        Call it in the transaction in which the view ran.
        """
        return self.is_success(statuses) and not (transaction.get_rollback(using=using) or self.was_rolled_back)


def call_view(request: HttpRequest, using: str, get_response: Callable[[HttpRequest], HttpResponseBase]) -> ViewAnswer:
    """Call the view for a row, in a transaction of the database `using`. Import and probe call it in the same way."""
    errors = collect_errors(request)
    with observe_atomic_request(request, using) as was_rolled_back:
        response = get_response(request)
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR and errors and error_detail(errors[-1]) is None:
        # Django logs the traceback, but with DEBUG = False only for sites whose LOGGING asks for it.
        logger.error("The view raised %s", exception_place(errors[-1]))  # not its text, which may contain the row
    return ViewAnswer(response, errors, was_rolled_back())


def exception_place(exception: Exception) -> str:
    """Return the type of the exception, and where it was raised: the last line that is in no library."""
    frames = traceback.extract_tb(exception.__traceback__)
    of_the_site = [frame for frame in frames if not frame.filename.startswith(LIBRARIES)]
    place = f" in {of_the_site[-1].filename}, line {of_the_site[-1].lineno}" if of_the_site else ""
    return f"{type(exception).__name__}{place}"


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
