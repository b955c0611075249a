"""Settings of the test suite: the local ones, with mail kept in memory.

DATABASE_URL chooses the database; the tests run on SQLite and on PostgreSQL.
"""

from settings.local import *  # noqa: F403 - the usual way to layer Django settings

DEBUG = False
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
