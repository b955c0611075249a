"""What log lines and traces say about a request: which it is, and which trace it is part of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bulk_import_wire.contract import REQUEST_ID, TRACEPARENT, trace_id
from bulk_import_wire.logs import log_context

try:
    from opentelemetry.propagate import inject
except ImportError:  # a monolith without OpenTelemetry: the header is all there is

    def inject(carrier: dict[str, str]) -> None:  # type: ignore[misc] # as much of it as is used here
        pass


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from django.http import HttpRequest
    from rest_framework.request import Request

_REQUEST_ID = re.compile(r"[\w.:=/+-]{1,128}", re.ASCII)
"""Whatever else a client sends has no place in a log."""


def traceparent_of(request: HttpRequest | Request) -> str:
    """The W3C trace context that a request is part of: OpenTelemetry's current one, else its header's; "" for none."""
    carrier: dict[str, str] = {}
    inject(carrier)
    for traceparent in (carrier.get(TRACEPARENT, ""), request.headers.get(TRACEPARENT, "")):
        if trace_id(traceparent):
            return traceparent
    return ""


def request_log_context(request: HttpRequest | Request) -> AbstractContextManager[None]:
    """Lines that are logged within tell the request's id, as the worker or a proxy set it, and its trace's."""
    request_id = request.headers.get(REQUEST_ID, "")
    return log_context(
        request_id=request_id if _REQUEST_ID.fullmatch(request_id) else "",
        trace_id=trace_id(traceparent_of(request)),
    )
