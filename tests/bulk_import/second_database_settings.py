"""The test settings for a process of its own: every table is in a second database, which has ATOMIC_REQUESTS."""

import os
from typing import Any

from settings.test import *  # noqa: F403 - the usual way to layer Django settings
from settings.test import DATABASES


class SecondRouter:
    """Routes every model to the second database."""

    def db_for_read(self, *_args: Any, **_hints: Any) -> str:
        return "second"

    db_for_write = db_for_read


DATABASES["second"] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ["SECOND_DATABASE"],
    "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    "ATOMIC_REQUESTS": True,
}
DATABASE_ROUTERS = [SecondRouter()]
ALLOWED_HOSTS = ["testserver"]
