"""WSGI entry point. It has no default settings: the environment must set DJANGO_SETTINGS_MODULE."""

import os

from django.core.exceptions import ImproperlyConfigured
from django.core.wsgi import get_wsgi_application

if "DJANGO_SETTINGS_MODULE" not in os.environ:
    raise ImproperlyConfigured("Set DJANGO_SETTINGS_MODULE, for example to settings.local.")

application = get_wsgi_application()
