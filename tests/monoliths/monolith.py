"""A small real project in a temporary folder, which is driven from outside with its own commands."""

from __future__ import annotations

import ast
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from bulk_import.local.processes import await_answer, free_port, stop_process
from tests.monoliths.services import package_folder, pgbouncer, postgresql, select, start_nginx
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).resolve().parents[2]
SITES = Path(__file__).with_name("sites")
MERGED = ("INSTALLED_APPS", "MIDDLEWARE", "DATABASES")
"""Settings of a site that are added to those of all sites. The others replace them."""

ROWS = [
    {"sku": "A", "name": "Tent", "unit_price": "1.50"},
    {"sku": "B", "name": "Stove", "unit_price": "2.25"},
]
DEADLINE_SECONDS = 60

PREPARE = """
import sys, django
django.setup()
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.management import call_command
for alias in settings.DATABASES:
    if alias != "replica":
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
users = get_user_model()
user = users._default_manager.create_superuser(**{users.USERNAME_FIELD: sys.argv[1], "password": "anna"})
print(signing.dumps(str(user.pk)))
"""
"""Creates the tables and the user, and prints the user's signed token."""


@dataclass(frozen=True)
class Case:
    """What is special about a site, and what must happen. A site file has these fields in its CASE."""

    url_name: str
    init: list[str] = field(default_factory=list)  # further arguments of bulk_import_init
    user: str = "anna"
    scheme: str = "Basic"
    host: str = ""  # host under which the user reaches the site
    told: str = ""  # what the doctor says before the site is fixed
    is_refused: bool = False  # whether imports can never work on this site
    fix: str = ""  # lines that the doctor's words lead to
    prefix: str = ""  # prefix below which the user and the worker reach the site
    fixed_prefix: str = ""  # prefix in the base URL that the doctor's words lead to
    report: str = ""  # what the doctor says when imports work
    bulk_path: str = "/items/bulk"
    rows: list[dict[str, Any]] = field(default_factory=lambda: ROWS)
    query: str = "SELECT sku FROM shop_item ORDER BY sku"
    stored: list[list[Any]] = field(default_factory=lambda: [["A"], ["B"]])
    server: str = "wsgi"
    database: str = "sqlite"  # or "postgresql", or "pgbouncer" with its pool mode: "pgbouncer transaction"
    databases: dict[str, Any] = field(default_factory=dict)  # further settings of the default database
    package: str = ""  # a package that only this site needs
    prepare: str = ""  # Python code that prepares the database, after the tables have been created
    more: str = ""  # further lines for the settings, after those that bulk_import_init prints
    row_count: int = 0  # with this many rows instead of `rows`
    tenants: list[str] = field(default_factory=list)  # further hosts into which the same rows are imported
    is_undone: bool = False  # whether the import is also read, sent again as an update, and undone
    nginx: str = ""  # directives of the server in front of the site
    nginx_fix: str = ""  # those to which the doctor's words lead
    nginx_later: str = ""  # those with which the rows are sent again; they refuse batches
    commands: list[list[str]] = field(default_factory=list)
    page: str = ""  # page that must work


def read_literals(path: Path) -> dict[str, Any]:
    """Return the constants of a site file, without importing it."""
    assignments = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    names = {node.targets[0].id: node.value for node in assignments if isinstance(node.targets[0], ast.Name)}
    return {name: ast.literal_eval(names[name]) for name in ("SETTINGS", "CASE") if name in names}


def settings_lines(overrides: dict[str, Any]) -> Iterator[str]:
    yield "from tests.monoliths.base_settings import *  # noqa: F403\n"
    for name, value in overrides.items():
        if name == "DATABASES":
            yield f"DATABASES |= {value!r}\n"
        else:
            yield f"{name} {'+=' if name in MERGED else '='} {value!r}\n"


class Monolith:
    """One project. Use it as a context manager: all its processes end with it."""

    def __init__(self, name: str, folder: Path) -> None:
        literals = read_literals(SITES / f"{name}.py")
        self.case = case = Case(**literals["CASE"])
        self.rows = [{**ROWS[0], "sku": f"S{number:03}"} for number in range(case.row_count)] or case.rows
        self.host = case.host
        self.folder = folder
        self._parts = ExitStack()
        self._site: subprocess.Popen[bytes] | None = None
        self.port, self._aws_port = free_port(), free_port()
        self._site_port = free_port() if case.nginx else self.port
        self._front: subprocess.Popen[bytes] | None = None
        self.nginx = case.nginx
        (folder / "urls.py").write_text((SITES / f"{name}.py").read_text())
        (folder / "config.py").write_text("".join(settings_lines(literals.get("SETTINGS", {}))))
        packages = [package_folder(case.package)] if case.package else []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BULK_", "DJANGO"))},
            "PYTHONPATH": os.pathsep.join(map(str, (folder, PROJECT, *packages))),
            "DJANGO_SETTINGS_MODULE": "config",
        }
        self.token = ""
        self.prefix = case.prefix
        self._database: dict[str, Any] = {}
        if case.database != "sqlite":
            self._start_database()

    def _start_database(self) -> None:
        """Start PostgreSQL, and write it into the settings."""
        self._database = self._parts.enter_context(postgresql())
        self._use_database(self._database)

    def _use_database(self, server: dict[str, Any]) -> None:
        default = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": server["host"],
            "PORT": server.get("port", ""),
            "USER": server["user"],
            "NAME": server["dbname"],
            **self.case.databases,
        }
        self.append("config.py", f'DATABASES["default"] = {default!r}')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._parts.close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "django", *arguments)

    def install(self) -> None:
        """Paste what `bulk_import_init` prints, create the tables and the user."""
        if self.case.package:
            self.append("config.py", "INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]")
        printed = self.init()
        for name in ("config", "urls"):
            if lines := re.search(rf"^# {name}, at the end\n(.*?)(?=^# \S)", printed, re.MULTILINE | re.DOTALL):
                self.append(f"{name}.py", lines[1])
        printed = printed.replace(":4566", f":{self._aws_port}")
        self.environment |= dict(re.findall(r"^export (\w+)=(\S+)", printed, re.MULTILINE))
        self.append("config.py", self.case.more)
        prepared = self.run("-W", "ignore", "-c", PREPARE + self.case.prepare, self.case.user)
        assert prepared.returncode == 0, prepared.stderr
        self.token = prepared.stdout.strip()
        name, _, pool_mode = self.case.database.partition(" ")
        if name == "pgbouncer":
            self._use_database(self._parts.enter_context(pgbouncer(self.folder, self._database, pool_mode)))
        for command in self.case.commands:
            done = self.manage(*command)
            assert done.returncode == 0, done.stderr

    def init(self) -> str:
        done = self.manage("bulk_import_init", self.case.url_name, "--base-url", self.base_url, *self.case.init)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def append(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"{path.read_text()}\n{text}\n")

    def start_local(self) -> subprocess.Popen[bytes]:
        """Start `bulk_import_local`, and wait until S3 and SQS run."""
        self.environment["BULK_IMPORT_BASE_URL"] = self.base_url + self.case.fixed_prefix
        local = self._start("-m", "django", "bulk_import_local")
        await_answer(f"http://127.0.0.1:{self._aws_port}/moto-api/", local)
        return local

    def start_site(self) -> None:
        """Start the site, or start it again with other settings."""
        if self._site:
            stop_process(self._site)
        server = ["-m", "django", "runserver", "--noreload", str(self._site_port)]
        if self.case.server == "asgi":
            server = [str(PROJECT / "tests" / "monoliths" / "asgi_server.py"), str(self.port)]
        self._site = self._start(*server)
        await_answer(f"http://127.0.0.1:{self._site_port}/", self._site)
        if self.nginx:
            self.start_nginx()

    def use_batches(self) -> None:
        """Let workers send several rows in one request."""
        self.append("config.py", 'BULK_IMPORT["TARGETS"]["items"]["batch_rows"] = 20')
        self.start_site()

    def start_nginx(self) -> None:
        """Start nginx in front of the site, or start it again with other directives."""
        if self._front:
            stop_process(self._front)
        self._front = self._start(program=start_nginx(self.folder, self.port, self._site_port, self.nginx))
        await_answer(f"http://127.0.0.1:{self.port}/", self._front)

    def _start(self, *arguments: str, program: Sequence[str] = (sys.executable,)) -> subprocess.Popen[bytes]:
        log = self._parts.enter_context((self.folder / "log").open("a"))
        process = subprocess.Popen(
            [*program, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._parts.callback(stop_process, process)
        return process

    def doctor(self) -> tuple[int, str]:
        """Return the exit code of the doctor and what it says."""
        host = ["--host", self.host] if self.host else []
        done = self.manage("bulk_import_doctor", "--base-url", self.base_url, "--user", self.case.user, *host)
        return done.returncode, done.stdout + done.stderr

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Host": self.host} if self.host else {}
        if self.case.scheme == "Bearer":
            headers["Authorization"] = f"Bearer {self.token}"
        else:
            options["auth"] = (self.case.user, "anna")
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **options)

    def upload(self, query: str = "", rows: list[dict[str, Any]] | None = None) -> httpx.Response:
        return self.send("POST", self.prefix + self.case.bulk_path + query, json=rows or self.rows)

    def path_of(self, location: str) -> str:
        """Return the path of a job, as the user of the site reaches it here."""
        path = httpx.URL(location).path
        is_forced = "FORCE_SCRIPT_NAME" in (self.folder / "config.py").read_text() and not self.nginx
        return path.removeprefix("/shop") if is_forced or not path.startswith(self.prefix) else path

    def finish(self, location: str) -> dict[str, Any]:
        """Wait until the job has ended, and return it."""
        path = self.path_of(location)
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            answer = self.send("GET", path)
            assert answer.status_code == 200, answer.text
            job: dict[str, Any] = answer.json()
            if job["status"] in TERMINAL or job["status"] == "paused" or time.monotonic() > give_up_at:
                return job
            time.sleep(0.2)

    def stored(self, query: str = "") -> list[list[Any]]:
        """Return what a query finds in the database of the current host: by default, the query of the case."""
        query = query or self.case.query
        if self._database:
            rows = select(self._database, query, schema=self.host.partition(".")[0])
        else:
            with closing(sqlite3.connect(self.folder / "default.sqlite3")) as database:
                rows = database.execute(query).fetchall()
        return json.loads(json.dumps(rows, default=float))  # type: ignore[no-any-return]

    def log(self) -> str:
        return (self.folder / "log").read_text()
