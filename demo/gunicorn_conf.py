"""gunicorn's configuration for the demo, the tests and the benchmarks."""

from __future__ import annotations

import gc
import sys
from typing import Any

from django.urls import get_resolver

preload_app = True  # load the application once, before gunicorn forks its workers

SWITCH_SECONDS = 0.001
"""How long a thread that computes keeps the others of its process waiting. Python's default is 5 ms.

A request of a person waits for the thread of a create call several times, first when the server accepts it.
"""


def when_ready(server: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Load the views, and exclude the application from garbage collection. gunicorn calls this before it forks.

    The settings of Python's threads and garbage collector are the same in the forked processes.

    A full collection looks at every object of the process, and stops all of its threads meanwhile. Most of the objects
    belong to the loaded application and are never garbage. Creates allocate many objects, so an import would cause many
    full collections, and each of them would delay the requests of the shop's users.
    """
    get_resolver().url_patterns  # noqa: B018 - Django loads the views when it first needs them
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
