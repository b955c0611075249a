"""Log lines that say which job, chunk, epoch and request they are about. Never a row, a token or a signed URL.

The fields are attributes of the log record: Lambda's own JSON format shows them, and so does `JsonFormatter`, which is
the poller's (`--json-logs`) and the monolith's, if it likes. Standard library only, for both sides.
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

_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - it is never changed, only replaced


@contextmanager
def log_context(**fields: str | int) -> Iterator[None]:
    """Every line that is logged within is about these, of FIELDS; "" says nothing. What is known later: see `note`."""
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value != ""}})
    try:
        yield
    finally:
        _about.reset(token)


def add_log_context(**fields: str | int) -> None:
    """From here to the end of the `about` around it."""
    _about.set({**_about.get(), **fields})


class LogContextFilter(logging.Filter):
    """On a handler: lets its records carry the fields, where they have none of that name."""

    def filter(self, record: logging.LogRecord) -> bool:
        vars(record).update({**_about.get(), **vars(record)})
        return True


def carry_fields() -> None:
    """Let what the root logger's handlers write carry the fields. Again changes nothing."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, LogContextFilter) for known in handler.filters):
            handler.addFilter(LogContextFilter())


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the names that Lambda gives these fields, where it has some."""

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
