"""Settings for the chaos runs: the local settings with small chunks, short leases and no quotas."""

from random import choice
from typing import Any

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, INSTALLED_APPS, LOGGING

DEBUG = False  # with DEBUG, Django keeps every query in memory
INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.apps.HurryConfig"]

# Without DEBUG, Django does not log the errors of views to the console.
_logging: dict[str, Any] = LOGGING
_logging["loggers"]["django.request"] = {"handlers": ["console"], "level": "ERROR"}

TARGETS: Any = BULK_IMPORT["TARGETS"]

BULK_IMPORT = {
    **BULK_IMPORT,
    # Some processes of the site allow batches and others refuse them, as in a deployment that turns batches on.
    "TARGETS": {"products": {**TARGETS["products"], "batch_rows": choice([1, 8, 8])}},  # noqa: S311
    "CHUNK_ROWS": 15,
    "CHUNKS_IN_FLIGHT": 2,  # an import has more chunks, so that the window has to be refilled
    "LEASE_SECONDS": 2,
    "PAUSE_SECONDS": 1,
    "MAX_PAUSE_HOURS": 4 / 3600,
    "CONCURRENCY": 4,
    "SUBMISSION_RATE": "100000/min",
    "MAX_OPEN_JOBS": 1000,
    "MAX_ROWS_PER_DAY": 10**9,
}
