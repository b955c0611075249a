"""The test settings for a process of its own: the tests' database and mail server, as the environment names them."""

import json
import os

from settings.test import *  # noqa: F403 - the usual way to layer Django settings
from settings.test import DATABASES

DATABASES["default"] |= json.loads(os.environ["TEST_DATABASE"])
EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST, EMAIL_PORT = os.environ["TEST_EMAIL_HOST"], int(os.environ["TEST_EMAIL_PORT"])
EMAIL_TIMEOUT = 10
