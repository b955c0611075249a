"""The request ID and trace of a request, for log lines and for the messages of a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bulk_import_wire.logs import log_context
from bulk_import_wire.tracing import REQUEST_ID, TRACEPARENT, trace_id

try:
    from opentelemetry.propagate import inject
except ImportError:  # OpenTelemetry is optional: without it, only the request's header is used

    def inject(carrier: dict[str, str]) -> None:  # type: ignore[misc] # only the parameter that is used here
        pass


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from django.http import HttpRequest
    from rest_framework.request import Request

_REQUEST_ID = re.compile(r"[\w.:=/+-]{1,128}", re.ASCII)
"""Pattern of the request IDs that are logged. Other values could contain line breaks, which would forge log lines."""


def traceparent_of(request: HttpRequest | Request) -> str:
    """Return the W3C trace context of a request, or "" if it has none.

    OpenTelemetry's current trace context comes first, because the `traceparent` header is only its parent.
    """
    carrier: dict[str, str] = {}
    inject(carrier)
    for traceparent in (carrier.get(TRACEPARENT, ""), request.headers.get(TRACEPARENT, "")):
        if trace_id(traceparent):
            return traceparent
    return ""


def request_id_of(request: HttpRequest | Request) -> str:
    """Return the request's ID, which a worker or a proxy sets, or "" if it has none that can be logged."""
    request_id = request.headers.get(REQUEST_ID, "")
    return request_id if _REQUEST_ID.fullmatch(request_id) else ""


def request_log_context(request: HttpRequest | Request, **others: str | int) -> AbstractContextManager[None]:
    """Return a context in which log lines have the request's ID, its trace ID and the other fields."""
    return log_context(
        request_id=request_id_of(request),
        trace_id=trace_id(traceparent_of(request)),
        **others,
    )
