"""Continues the trace of the POST to the bulk endpoint in the calls that create its rows.

The worker creates no spans of its own. It passes the trace context on unchanged.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from bulk_import_wire.logs import log_context
from bulk_import_wire.tracing import TRACEPARENT, trace_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambda_worker.events import SqsRecord

_current: ContextVar[str] = ContextVar("traceparent", default="")


def traceparent_of(record: SqsRecord) -> str:
    """Return the trace context of a message, or "" if there is none or it is malformed."""
    attribute = record["messageAttributes"].get(TRACEPARENT, {})
    traceparent = str(attribute.get("stringValue", ""))
    return traceparent if trace_id(traceparent) else ""


@contextmanager
def continued_trace(record: SqsRecord) -> Iterator[None]:
    """Make the calls and log lines within the block part of the message's trace."""
    traceparent = traceparent_of(record)
    token = _current.set(traceparent)
    try:
        with log_context(trace_id=trace_id(traceparent)):
            yield
    finally:
        _current.reset(token)


def trace_headers() -> dict[str, str]:
    """Return the trace headers for a call; an empty dict outside a trace."""
    traceparent = _current.get()
    return {TRACEPARENT: traceparent} if traceparent else {}
