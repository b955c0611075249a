"""Makes moto's SQS queues fit for many clients at once: elsewhere they have one.

Its queue builds a new list to delete a message from, and forgets one that is sent meanwhile.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from moto.sqs.models import Queue

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK = threading.RLock()


def guard_queues() -> None:
    """Let no message be sent while another one is deleted. Again changes nothing."""
    for name in ("add_message", "delete_message"):
        method = getattr(Queue, name)
        if not hasattr(method, "__wrapped__"):
            setattr(Queue, name, guarded(method))


def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        with LOCK:
            return method(*args, **options)

    return call
