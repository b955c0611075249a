"""The shop of the benchmarks: a real gunicorn on one CPU core, while the senders of rows use another core.

The rate comes from the products themselves: from the first and the last `created_at` of all SKUs with a prefix.

There are two monoliths on the same database, one with single calls and one with batches. Only one of them has something
to do at a time.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import httpx
import psycopg

from bulk_import.local.processes import await_answer, free_port, stop_process
from bulk_import_wire.batch import MAX_BATCH_ROWS
from bulk_import_wire.contract import IDEMPOTENCY_KEY, IMPORT_SCHEME, ClaimRequest
from demo.stack import local_stack
from settings.known_secrets import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.stack import LocalStack

SERVER_CORE, SENDER_CORE = 0, 1
IN_FLIGHT = 8
"""Calls in flight of the senders that do not adapt: the number of gunicorn's threads."""

BASIC = "Basic " + base64.b64encode(b"demo:demo").decode()
PATIENCE_SECONDS = 600
STALLED_SECONDS = 30  # without a new product for so long, `storm` gives up
WARM_UP_REQUESTS = 20  # to each monolith, because the first request of a process takes far longer
HERE = Path(__file__).resolve().parent


class Monolith:
    """A gunicorn with its processes."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process, self.url = process, url

    def cpu_seconds(self) -> float:
        """Return the processor time of all its processes so far."""
        seconds = 0.0
        for pid in family_of(self.process):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            seconds += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user and system time
        return seconds


class Shop:
    """A running shop. No worker reads its queue yet."""

    def __init__(self, stack: LocalStack, single: Monolith, batches: Monolith) -> None:
        self.stack, self.single, self.batches = stack, single, batches
        self.http = httpx.Client(base_url=stack.url, auth=("demo", "demo"), timeout=PATIENCE_SECONDS, trust_env=False)

    def query(self, sql: str) -> Any:
        """Run a statement, commit, and return its first row. The monolith has nothing to do for it."""
        if self.stack.database_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.stack.sqlite, timeout=60)) as sqlite, sqlite:
                return sqlite.execute(sql).fetchone()
        with psycopg.connect(self.stack.database_url) as postgresql:
            return postgresql.execute(sql.encode()).fetchone()

    def key(self, job_id: str) -> str:
        """Return the ID of a job as the database stores it."""
        return job_id.replace("-", "") if self.stack.database_url.startswith("sqlite") else job_id

    def created(self, prefix: str) -> int:
        return int(self.query(f"SELECT count(*) FROM products_product WHERE sku LIKE '{prefix}-%'")[0])  # noqa: S608 - ours

    def rows_a_second(self, prefix: str) -> float:
        """Return the rate at which the products with a prefix were created, from the first to the last."""
        where = f"FROM products_product WHERE sku LIKE '{prefix}-%'"
        count, first, last = self.query(f"SELECT count(*), min(created_at), max(created_at) {where}")
        return float((count - 1) / (moment(last) - moment(first)).total_seconds())

    def submit(self, rows: list[dict[str, Any]]) -> str:
        """Post an import and return the job's ID."""
        answer = self.http.post("/products/bulk", json=rows)
        answer.raise_for_status()
        return str(answer.json()["id"])

    def limit(self, job_id: str, calls: int) -> None:
        """Set the concurrency of a job, the number of calls in flight for each chunk, as staff can in the admin."""
        change = f"UPDATE bulk_import_importjob SET concurrency = {calls}"  # noqa: S608 - ours
        self.query(f"{change} WHERE id = '{self.key(job_id)}' RETURNING id")

    def drain(self, rows: list[dict[str, Any]], monolith: Monolith, round_trip_ms: float = 0) -> float:
        """Import rows with this worker and wait for the job's end. Return the monolith's processor time in seconds.

        `round_trip_ms` is the time that a request and its answer are on their way to the monolith and back.
        """
        job_id = self.submit(rows)
        before = monolith.cpu_seconds()
        with ExitStack() as cleanup:
            url = cleanup.enter_context(delayed(monolith.url, round_trip_ms)) if round_trip_ms else monolith.url
            cleanup.callback(stop_process, self.start_poller(url))
            self.wait_for(job_id)
        return monolith.cpu_seconds() - before

    def start_poller(self, url: str) -> subprocess.Popen[bytes]:
        """Start this worker, which calls the monolith at this URL."""
        self.stack.environment["BULK_IMPORT_BASE_URL"] = url
        return pinned(self.stack.start_poller(), SENDER_CORE)

    def import_export(self, rows: list[dict[str, Any]]) -> None:
        """Import rows with django-import-export, on the server's core."""
        path = self.stack.folder / "rows.json"
        path.write_text(json.dumps(rows))
        command = [sys.executable, "-m", "benchmarks.import_export", str(path)]
        process = subprocess.Popen(command, cwd=HERE.parent, env=self.stack.environment)  # noqa: S603 - ours
        if pinned(process, SERVER_CORE).wait():
            raise RuntimeError("django-import-export failed.")

    def wait_for(self, job_id: str) -> None:
        """Wait for a job's end. Raises RuntimeError after PATIENCE_SECONDS."""
        sql = f"SELECT 1 FROM bulk_import_importjob WHERE id = '{self.key(job_id)}' AND finished_at IS NOT NULL"  # noqa: S608 - ours
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not self.query(sql):
            if time.monotonic() > give_up_at:
                raise RuntimeError(f"The job did not end:\n{self.stack.log}")
            time.sleep(0.2)

    def calls_of_a_worker(self, rows: list[dict[str, Any]]) -> list[tuple[dict[str, str], str]]:
        """Submit an import, claim its chunks, and return the headers and body of each create call of this worker."""
        job_id = self.submit(rows)
        path = self.stack.folder / f"{job_id}.messages"
        # Only a window of the messages is on the queue, so take all of them from the database.
        chunks = f"ImportChunk.objects.filter(job='{job_id}').select_related('job')"
        texts = f"chunk.message().encode() for chunk in {chunks}"
        code = f"from pathlib import Path; Path('{path}').write_text('\\n'.join({texts}))"
        self.stack.run("manage.py", "shell", "--verbosity=0", "--command", f"from bulk_import.models import *; {code}")
        calls: list[tuple[dict[str, str], str]] = []
        for chunk in map(json.loads, path.read_text().splitlines()):
            answer = httpx.post(
                f"{self.stack.url}/bulk-import/worker/chunks/{chunk['chunk_id']}/claim",
                json=ClaimRequest(chunk, claimant=str(uuid4())).to_dict(),
                headers={"Authorization": f"Bearer {WORKER_SECRET}"},
                trust_env=False,
            )
            answer.raise_for_status()
            own = range(chunk["first_index"], chunk["first_index"] + chunk["row_count"])
            authorization = f"{IMPORT_SCHEME} {answer.json()['token']}"
            calls += [
                ({"Authorization": authorization, IDEMPOTENCY_KEY: f"{chunk['job_id']}:{index}"}, compact(rows[index]))
                for index in own
            ]
        # These chunks never end, so they must not keep their places in the window, nor their messages.
        change = "UPDATE bulk_import_importchunk SET lease_expires_at = NULL"
        self.query(f"{change} WHERE job_id = '{self.key(job_id)}' RETURNING id")
        session = boto3.Session("local", "local", region_name="us-east-1")
        sqs: Any = session.client("sqs", endpoint_url=self.stack.aws_url)
        # SQS purges a queue at most once a minute.
        queue: Any = {"QueueUrl": self.stack.queue_url}
        while messages := sqs.receive_message(**queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(**queue, ReceiptHandle=message["ReceiptHandle"])
        sqs.close()
        return calls

    def storm(self, calls: list[tuple[dict[str, str], str]], prefix: str) -> None:
        """Send calls with wrk as fast as the server accepts them, until all their products exist."""
        path = self.stack.folder / f"{uuid4()}.calls"
        path.write_text("".join(to_lua(headers, body) for headers, body in calls))
        script = str(HERE / "calls.lua")
        options = ["-t1", f"-c{IN_FLIGHT}", f"-d{PATIENCE_SECONDS}s", "-s", script, self.stack.url, "--", str(path)]
        wrk = subprocess.Popen(["wrk", *options], stdout=subprocess.DEVNULL)  # noqa: S603, S607 - ours, from PATH
        try:
            pinned(wrk, SENDER_CORE)
            created, progress_at = 0, time.monotonic()
            while created < len(calls) and time.monotonic() < progress_at + STALLED_SECONDS:
                time.sleep(0.2)
                before, created = created, self.created(prefix)
                progress_at = progress_at if created == before else time.monotonic()
        finally:
            wrk.kill()
            wrk.wait()

    def all_at_once(self, path: Path) -> subprocess.Popen[bytes]:
        """Start Node, which sends every row in a file at once and waits until every call settles."""
        command = ["node", str(HERE / "at_once.mjs"), f"{self.stack.url}/products/", BASIC, str(path)]
        return pinned(subprocess.Popen(command, stdout=subprocess.DEVNULL), SENDER_CORE)  # noqa: S603 - ours


@contextmanager
def open_shop(**variables: str) -> Iterator[Shop]:
    """Start a shop on the empty database of DATABASE_URL, or on SQLite. Raises RuntimeError if a tool is missing.

    `variables` are further environment variables of the shop.
    """
    if missing := [tool for tool in ("wrk", "node") if not shutil.which(tool)]:
        raise RuntimeError(f"Please install {' and '.join(missing)}: apt-get install wrk nodejs")
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(local_stack(database_url=os.environ.get("DATABASE_URL")))
        stack.environment |= {"DJANGO_SETTINGS_MODULE": "benchmarks.accept_settings", **variables}
        os.sched_setaffinity(0, {SENDER_CORE})
        monoliths = []
        for url, batch_rows in [(stack.url, 1), (f"http://127.0.0.1:{free_port()}", MAX_BATCH_ROWS)]:
            process = pinned(stack.start_monolith(url, BATCH_ROWS=str(batch_rows)), SERVER_CORE)
            cleanup.callback(stop_process, process)
            monoliths.append(Monolith(process, url))
        shop = Shop(stack, *monoliths)
        cleanup.callback(shop.http.close)
        for monolith in monoliths * WARM_UP_REQUESTS:
            shop.http.get(f"{monolith.url}/products/").raise_for_status()
        yield shop


@contextmanager
def delayed(url: str, round_trip_ms: float) -> Iterator[str]:
    """Start a proxy that delays what is sent to this URL and what comes back, and yield the proxy's URL."""
    port = free_port()
    arguments = [str(port), url.rpartition(":")[2], str(round_trip_ms)]
    proxy = subprocess.Popen([sys.executable, "-m", "benchmarks.delaying_proxy", *arguments], cwd=HERE.parent)  # noqa: S603 - ours
    try:
        pinned(proxy, SENDER_CORE)
        await_answer(f"http://127.0.0.1:{port}/admin/login/", proxy)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop_process(proxy)


@contextmanager
def importing(shop: Shop, rows: list[dict[str, Any]], monolith: Monolith, calls: int | None = None) -> Iterator[None]:
    """Import rows with this worker while the block runs, then cancel the job. `calls` caps the calls per chunk."""
    job_id = shop.submit(rows)
    if calls:
        shop.limit(job_id, calls)
    poller = shop.start_poller(monolith.url)
    try:
        yield
        shop.http.delete(f"/products/bulk/{job_id}").raise_for_status()
        shop.wait_for(job_id)
    finally:
        stop_process(poller)


@contextmanager
def pacing(shop: Shop, rows: list[dict[str, Any]], monolith: Monolith, calls_a_second: float) -> Iterator[None]:
    """Send the create calls of rows at equal intervals while the block runs."""
    path = shop.stack.folder / f"{uuid4()}.paced"
    headers = {"Content-Type": "application/json"}
    calls = [(headers | own, body) for own, body in shop.calls_of_a_worker(rows)]
    path.write_text("".join(json.dumps(call) + "\n" for call in calls))
    arguments = [f"{monolith.url}/products/", str(path), str(calls_a_second)]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.paced_calls", *arguments], cwd=HERE.parent)  # noqa: S603 - ours
    try:
        pinned(process, SENDER_CORE)
        yield
        if process.poll() is not None:
            raise RuntimeError("The calls ended before the visitors were done.")
    finally:
        stop_process(process)


def pinned(process: subprocess.Popen[bytes], core: int) -> subprocess.Popen[bytes]:
    """Bind a process to one CPU core, with all processes that it has started and will start."""
    for pid in family_of(process):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
    return process


def family_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the IDs of a process and its children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def compact(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def to_lua(headers: dict[str, str], body: str) -> str:
    """Return a call as the three lines that calls.lua reads."""
    return f"{headers['Authorization']}\n{headers.get(IDEMPOTENCY_KEY, '')}\n{body}\n"


def moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value).replace(tzinfo=UTC)
