#!/usr/bin/env python
"""Django's command line. Local settings are the default here only; `settings.wsgi` has none."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings.local")
    execute_from_command_line(sys.argv)
