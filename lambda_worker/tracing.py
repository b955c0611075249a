"""The trace that a POST to the bulk endpoint was part of goes on in the calls that its rows become.

The worker makes no spans of its own: it hands the trace context on as it came.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from bulk_import_wire.contract import TRACEPARENT, trace_id
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambda_worker.events import SqsRecord

_current: ContextVar[str] = ContextVar("traceparent", default="")


def traceparent_of(record: SqsRecord) -> str:
    """The trace context that came with a message; "" for none, or for something else."""
    attribute = record["messageAttributes"].get(TRACEPARENT, {})
    traceparent = str(attribute.get("stringValue", ""))
    return traceparent if trace_id(traceparent) else ""


@contextmanager
def continued_trace(record: SqsRecord) -> Iterator[None]:
    """Calls that are made within, and log lines, are part of the message's trace."""
    traceparent = traceparent_of(record)
    token = _current.set(traceparent)
    try:
        with log_context(trace_id=trace_id(traceparent)):
            yield
    finally:
        _current.reset(token)


def trace_headers() -> dict[str, str]:
    """What a call says of the trace that it is part of."""
    traceparent = _current.get()
    return {TRACEPARENT: traceparent} if traceparent else {}
