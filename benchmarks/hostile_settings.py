"""The settings of `benchmarks.hostile`: an attacker whom neither the throttle nor the row quota stops."""

from settings.local import *  # noqa: F403 - all settings but those below
from settings.local import BULK_IMPORT

BULK_IMPORT = {**BULK_IMPORT, "SUBMISSION_RATE": "1000000/min", "MAX_ROWS_PER_DAY": 1_000_000_000}
