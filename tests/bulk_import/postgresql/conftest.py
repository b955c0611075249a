"""What only PostgreSQL's row locks can show; on SQLite a transaction writes alone, so there is nothing to see."""

from django.conf import settings

collect_ignore_glob = [] if "postgresql" in settings.DATABASES["default"]["ENGINE"] else ["test_*.py"]
