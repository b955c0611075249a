"""Settings for the tests: the local settings, with emails in memory and a database that threads can share.

DATABASE_URL sets the database; the tests run on SQLite and on PostgreSQL. The tests start a moto server for S3 and SQS.
"""

import os
import tempfile
from pathlib import Path

from settings.local import *  # noqa: F403 - the usual way to layer Django settings
from settings.local import BULK_IMPORT, DATABASES

DEBUG = False
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
DATABASES["default"]["CONN_MAX_AGE"] = 0
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"bulk-import-{os.getpid()}.sqlite3")}
    # The tests kill processes, but the machine does not lose power: never wait for the disk.
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"

# Shared by all processes, as in production.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": Path(tempfile.gettempdir()) / f"bulk-import-cache-{os.getpid()}",
    },
}

# Most tests look at all messages of a job at once, so the window is larger than any job. Tests of the window set it.
BULK_IMPORT = {**BULK_IMPORT, "CHUNK_ROWS": 3, "CHUNKS_IN_FLIGHT": 1000}
