"""Settings for the benchmarks: the local settings with the defaults for production, and without quotas."""

import os

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, REST_FRAMEWORK

DEBUG = False
ROOT_URLCONF = "benchmarks.accept_site"
DATA_UPLOAD_MAX_MEMORY_SIZE = None  # no limit, because the plain views read the whole body

DEMO_SIZES = {"CHUNK_ROWS", "LEASE_SECONDS", "PAUSE_SECONDS"}

# Use the default sizes instead of those of the demo, and quotas that no run reaches.
BULK_IMPORT = {name: value for name, value in BULK_IMPORT.items() if name not in DEMO_SIZES}
BULK_IMPORT |= {"SUBMISSION_RATE": "10000/min", "MAX_OPEN_JOBS": 10_000, "MAX_ROWS_PER_DAY": 1_000_000_000}

if int(os.environ.get("VIEW_WAITS_MS", "0")):
    waiting = [*REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"], "benchmarks.waiting_view.WaitsForDatabase"]
    REST_FRAMEWORK = REST_FRAMEWORK | {"DEFAULT_PERMISSION_CLASSES": waiting}
