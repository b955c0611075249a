"""The headers that connect the log lines of both sides: the trace of the POST, and the ID of a worker's invocation."""

from __future__ import annotations

import re

TRACEPARENT = "traceparent"
"""Message attribute, and header of every call of the worker: the W3C trace context of the POST, unchanged."""

REQUEST_ID = "X-Request-ID"
"""Header of every call of the worker: the ID of the invocation. It connects the log lines of both sides."""

_TRACEPARENT_FORMAT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(traceparent: str) -> str:
    """Return the trace ID of a trace context, 32 hexadecimal digits, or "" if the context is not valid.

    See https://www.w3.org/TR/trace-context/.
    """
    match = _TRACEPARENT_FORMAT.fullmatch(traceparent)
    return match[1] if match else ""
