"""S3 and SQS on loopback, by moto: `python -m demo.aws PORT`."""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from moto.server import main
from moto.sqs import models
from moto.sqs.models import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK = threading.RLock()


def guard_queues() -> None:
    """Let no message be sent while another one is deleted.

    moto's queue builds a new list to delete a message from, and forgets one that is sent meanwhile.
    """
    for name in ("add_message", "delete_message"):
        setattr(Queue, name, guarded(getattr(Queue, name)))


def hasten_queues() -> None:
    """Let moto ask for the time in a tenth of the time.

    It asks twice for each message that waits, whenever one is sent: for 200 messages, half a second in all.
    """
    vars(models)["unix_time_millis"] = lambda: time.time() * 1000


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        with LOCK:
            return method(*args, **options)

    return call


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    guard_queues()
    hasten_queues()
    main(["--port", sys.argv[1]])
