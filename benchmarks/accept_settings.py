"""Settings of the benchmarks: the local ones, with the limits of a production site and none in the way."""

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT

DEBUG = False
ROOT_URLCONF = "benchmarks.accept_site"
DATA_UPLOAD_MAX_MEMORY_SIZE = None  # the plain views read the whole body

DEMO_SIZES = {"CHUNK_ROWS", "LEASE_SECONDS", "PAUSE_SECONDS"}

# The sizes of chunks are the defaults, not the demo's; no quota ends the run.
BULK_IMPORT = {name: value for name, value in BULK_IMPORT.items() if name not in DEMO_SIZES}
BULK_IMPORT |= {"SUBMISSION_RATE": "10000/min", "MAX_OPEN_JOBS": 10_000, "MAX_ROWS_PER_DAY": 1_000_000_000}
