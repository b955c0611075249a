"""The local settings with a real SMTP server, at SMTP_PORT on this machine."""

import os

from settings.local import *  # noqa: F403 - the usual way to layer Django settings

EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ["SMTP_PORT"])
EMAIL_TIMEOUT = 10
