"""gunicorn's configuration for the demo and the benchmarks."""

from __future__ import annotations

import gc
from typing import Any


def post_worker_init(worker: Any) -> None:  # noqa: ARG001 - gunicorn's signature
    """Exclude the application from garbage collection. gunicorn calls this in each worker that has loaded it.

    A full collection looks at every object of the process, and stops all of its threads meanwhile. Most of the objects
    belong to the loaded application and are never garbage. Creates allocate many objects, so an import would cause many
    full collections, and each of them would delay the requests of the shop's users.
    """
    gc.collect()
    gc.freeze()
