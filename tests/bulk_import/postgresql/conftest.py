"""Tests of PostgreSQL's row locks. SQLite has none, because only one transaction can write at a time."""

from django.conf import settings

collect_ignore_glob = [] if "postgresql" in settings.DATABASES["default"]["ENGINE"] else ["test_*.py"]
