"""Adds context to log lines: the job, chunk, epoch and request that a line is about.

A line never contains a row, a token or a signed URL. The fields become attributes of the log record. Lambda's own JSON
format shows them, and so does `JsonFormatter`, which the poller uses with `--json-logs` and a monolith may use. This
module uses the standard library only, so that both sides can import it.
"""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = ("request_id", "trace_id", "message_id", "job_id", "chunk_id", "epoch", "row_index")
"""Names of the context fields, in the order in which JsonFormatter writes them."""

_context: ContextVar[dict[str, Any]] = ContextVar("log_context", default={})  # noqa: B039 - never mutated


@contextmanager
def log_context(**fields: str | int) -> Iterator[None]:
    """Add these fields, which must be in FIELDS, to every line that is logged within the block.

    A field whose value is "" is left out. The fields of an outer `log_context` stay. Use `add_log_context` inside the
    block to add fields that only become known later.
    """
    token = _context.set({**_context.get(), **{name: value for name, value in fields.items() if value != ""}})
    try:
        yield
    finally:
        _context.reset(token)


def add_log_context(**fields: str | int) -> None:
    """Add these fields to every line from now until the surrounding `log_context` ends."""
    _context.set({**_context.get(), **fields})


class LogContextFilter(logging.Filter):
    """Copies the context fields to each record of a handler. It does not overwrite attributes of the record."""

    def filter(self, record: logging.LogRecord) -> bool:
        vars(record).update({**_context.get(), **vars(record)})
        return True


def install_log_context() -> None:
    """Attach a LogContextFilter to each handler of the root logger. Idempotent: a second call has no effect."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, LogContextFilter) for known in handler.filters):
            handler.addFilter(LogContextFilter())


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object per line. Keys that Lambda's JSON log format also has get the same names."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: vars(record)[name] for name in FIELDS if name in vars(record)},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
