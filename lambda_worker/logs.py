"""Log lines that say which job, chunk, epoch and invocation they are about. Never a row, a token or a signed URL.

The fields are attributes of the log record: Lambda's own JSON format shows them, and so does `JsonFormatter`, which is
the poller's (`--json-logs`).
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

FIELDS = ("request_id", "message_id", "job_id", "chunk_id", "epoch")

_about: ContextVar[dict[str, Any]] = ContextVar("about", default={})  # noqa: B039 - it is never changed, only replaced


@contextmanager
def about(**fields: str | int) -> Iterator[None]:
    """Every line that is logged within is about these, of FIELDS. `epoch` is known later: see `note`."""
    token = _about.set({**_about.get(), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def note(**fields: str | int) -> None:
    """From here to the end of the `about` around it."""
    _about.set({**_about.get(), **fields})


def remember() -> None:
    """Let every record carry the fields. Again changes nothing."""
    make = logging.getLogRecordFactory()
    if getattr(make, "carries_fields", False):
        return

    def make_with_fields(*args: Any, **options: Any) -> logging.LogRecord:
        record = make(*args, **options)
        vars(record).update(_about.get())
        return record

    make_with_fields.carries_fields = True  # type: ignore[attr-defined] # a mark on our own function
    logging.setLogRecordFactory(make_with_fields)


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
