"""`make bench-row`: measures what one created row costs the monolith, as a single call and in a batch of 100 rows.

The rows are created in this process, through the site's WSGI handler and complete middleware. The figures are
milliseconds of processor time of this process, so they do not contain the time of the PostgreSQL server. Each step is
timed without the steps within it. Single calls and batches take turns. At the end, a gunicorn gets the same calls over
HTTP, and its processor time is compared.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows
from benchmarks.shop import Monolith, compact
from bulk_import.local.processes import await_answer, free_port, stop_process
from demo.stack import PROJECT, START_GUNICORN
from settings.known_secrets import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bulk_import.models import ImportChunk

BATCH = 100
SINGLE_CALLS, BATCHES = "single call", "in a batch"
Call = tuple[str, dict[str, str], bytes]
"""The path, the headers and the body of a request."""

HANDLER = "Django's handler and the site's middleware"
LOCK, RECORD = "ledger: lock the chunk", "ledger: write the record"
COMPLETE, MIDDLEWARE = "ledger: complete the record, with the product's hash", "ledger: checks and everything else"
TRANSACTION = "begin and commit"
VIEW, PERMISSIONS, FIELDS = "view: everything else", "view: permissions", "view: build the serializer's fields"
VALIDATE, SAVE, RENDER = "view: validate", "view: save", "view: render"
REPLAY = "batch: request and answer of the row"
STEPS = [HANDLER, PERMISSIONS, FIELDS, VALIDATE, SAVE, RENDER, VIEW, TRANSACTION, LOCK, RECORD, COMPLETE]
STEPS += [MIDDLEWARE, REPLAY]
LEDGER = (LOCK, RECORD, COMPLETE, MIDDLEWARE)


class Stopwatch:
    """Measures the processor time of each step, without that of the steps within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def time(self, step: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = time.thread_time()
        self._inner.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            took = time.thread_time() - began
            self.seconds[step] += took - self._inner.pop()
            if self._inner:
                self._inner[-1] += took

    def wrap(self, owner: Any, name: str, step: str) -> None:
        function = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: self.time(step, function, *args, **kwargs))


def wrap_steps(watch: Stopwatch) -> None:
    # Django's modules can be imported only after django.setup().
    from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415
    from rest_framework.response import Response  # noqa: PLC0415
    from rest_framework.serializers import ModelSerializer, Serializer  # noqa: PLC0415

    from bulk_import import middleware  # noqa: PLC0415
    from bulk_import.ledger import CreateCall  # noqa: PLC0415
    from bulk_import.models import ImportedRow  # noqa: PLC0415
    from bulk_import.worker_api.replay import Replay  # noqa: PLC0415
    from products.views import ProductViewSet  # noqa: PLC0415

    for owner, name, step in [
        (WSGIHandler, "__call__", HANDLER),
        (middleware.ImportedRowMiddleware, "_answer_create", MIDDLEWARE),
        (CreateCall, "lock_chunk", LOCK),
        (CreateCall, "write_record", RECORD),
        (ImportedRow, "complete", COMPLETE),
        (type(connections["default"]), "set_autocommit", TRANSACTION),
        (type(connections["default"]), "commit", TRANSACTION),
        (middleware, "call_view", VIEW),
        (ProductViewSet, "check_permissions", PERMISSIONS),
        (ModelSerializer, "get_fields", FIELDS),
        (Serializer, "is_valid", VALIDATE),
        (ProductViewSet, "perform_create", SAVE),
        (Response, "render", RENDER),
        (Replay, "create", REPLAY),
    ]:
        watch.wrap(owner, name, step)


def claimed_chunk(rows: Sequence[bytes]) -> ImportChunk:
    """Return a chunk of a new import with these rows, as if a worker had claimed it."""
    from django.contrib.auth import get_user_model  # noqa: PLC0415

    from bulk_import.models import ImportChunk, ImportJob  # noqa: PLC0415
    from bulk_import.models.row import row_hash  # noqa: PLC0415

    submitter = get_user_model().objects.get(username="demo")
    job = ImportJob.objects.create(
        target="products", submitter=submitter, language="en", status="processing", rows=len(rows), request_sha256=b""
    )
    chunk: ImportChunk = ImportChunk.objects.create(
        job=job,
        number=0,
        first_index=0,
        row_count=len(rows),
        first_byte=0,
        byte_count=sum(map(len, rows)),
        row_hashes=b"".join(map(row_hash, rows)),
        status="processing",
        epoch=1,
    )
    return chunk


def calls(way: str, prefix: str, count: int) -> list[Call]:
    """Return the calls of a worker that create new rows."""
    from bulk_import.authentication import ImportToken  # noqa: PLC0415
    from bulk_import_wire.batch import BATCH_CONTENT_TYPE, BatchHead  # noqa: PLC0415
    from bulk_import_wire.contract import (  # noqa: PLC0415
        CONTRACT_HEADER,
        CONTRACT_VERSION,
        IDEMPOTENCY_KEY,
        create_call_headers,
    )

    rows = [compact({**row, "sku": f"{prefix}-{n}"}).encode() for n, row in enumerate(make_rows(count))]
    found: list[Call] = []
    for first in range(0, count, BATCH):
        some = rows[first : first + BATCH]
        chunk = claimed_chunk(some)
        if way == BATCHES:
            head = json.dumps(BatchHead(1, [*range(len(some))]).to_dict()).encode()
            headers = {
                "Authorization": f"Bearer {WORKER_SECRET}",
                "Content-Type": BATCH_CONTENT_TYPE,
                CONTRACT_HEADER: str(CONTRACT_VERSION),  # without it, the batch would count as a request of a visitor
            }
            found.append((f"/bulk-import/worker/chunks/{chunk.pk}/rows", headers, b"\n".join([head, *some])))
        else:
            headers = create_call_headers(ImportToken(chunk.pk, 1).sign(), "Authorization", "en", "", "")
            found += [
                ("/products/", {**headers, IDEMPOTENCY_KEY: f"{chunk.job_id}:{n}"}, row) for n, row in enumerate(some)
            ]
    return found


def call_in_process(handler: Any, call: Call) -> bytes:
    from django.http.request import HttpHeaders  # noqa: PLC0415

    path, headers, body = call
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "RAW_URI": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.input": BytesIO(body),
        **HttpHeaders.to_wsgi_names({"Host": "127.0.0.1:8000", "Content-Length": str(len(body)), **headers}),
    }
    response = handler(environ, lambda *_arguments: None)
    answer = b"".join(response)
    response.close()
    return answer


def count_created(way: str, answers: Sequence[bytes]) -> int:
    """Return the number of created rows. A batch on a busy machine ends before its last row. Raises RuntimeError."""
    created = sum(answer.count(b'"created"') if way == BATCHES else answer.count(b'"sku"') for answer in answers)
    if not created or (way == SINGLE_CALLS and created < len(answers)):
        raise RuntimeError(f"Not all rows were created. The last answer is: {answers[-1]!r}")
    return created


def measure_steps(watch: Stopwatch, runs: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds per row of each step, the medians of all runs, for each way."""
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415

    handler = get_wsgi_application()
    found: dict[str, list[dict[str, float]]] = {SINGLE_CALLS: [], BATCHES: []}
    for number in range(-1, runs):  # the first one warms up
        gc.collect()
        gc.freeze()  # as gunicorn_conf does
        for way, measured in found.items():
            prepared = calls(way, f"STEP{number}{way}", BATCH)
            watch.seconds.clear()
            outermost = REPLAY if way == BATCHES else HANDLER
            answers = [watch.time(outermost, call_in_process, handler, call) for call in prepared]
            created = count_created(way, answers)
            if number >= 0:
                measured.append({step: 1e3 * watch.seconds[step] / created for step in STEPS})
    return {
        way: {step: statistics.median(run[step] for run in measured) for step in STEPS}
        for way, measured in found.items()
    }


def measure_server(rows: int, runs: int) -> dict[str, float]:
    """Return gunicorn's milliseconds of processor time per row, the medians of all runs, for each way."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # One worker, so that the first run warms up the process that serves the others.
    arguments = [sys.executable, *START_GUNICORN, "--workers=1", f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(arguments, cwd=PROJECT, env={**os.environ})  # noqa: S603 - ours
    try:
        await_answer(f"{url}/admin/login/", process)
        monolith = Monolith(process, url)
        found: dict[str, list[float]] = {SINGLE_CALLS: [], BATCHES: []}
        for number in range(-1, runs):
            for way, measured in found.items():
                prepared = calls(way, f"HTTP{number}{way}", rows if number >= 0 else BATCH)
                before = monolith.cpu_seconds()
                created = count_created(way, call_over_http(port, prepared))
                if number >= 0:
                    measured.append(1e3 * (monolith.cpu_seconds() - before) / created)
    finally:
        stop_process(process)
    return {way: statistics.median(measured) for way, measured in found.items()}


def call_over_http(port: int, prepared: Sequence[Call]) -> list[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    answers = []
    for path, headers, body in prepared:
        connection.request("POST", path, body, headers)
        answers.append(connection.getresponse().read())
    connection.close()
    return answers


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.row_cost", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=500, help="rows of each run over HTTP")
    options = parser.parse_args(arguments)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(TemporaryDirectory(prefix="bulk-import-")))
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.accept_settings"
        os.environ["BATCH_ROWS"] = str(BATCH)
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{folder / 'db.sqlite3'}")
        prepare = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings.local"}
        subprocess.run([sys.executable, "-m", "demo.prepare"], cwd=PROJECT, env=prepare, check=True)
        import django  # noqa: PLC0415

        django.setup()
        server = measure_server(options.rows, options.runs) if options.rows else {SINGLE_CALLS: 0.0, BATCHES: 0.0}
        watch = Stopwatch()
        wrap_steps(watch)
        steps = measure_steps(watch, options.runs)
    table = Table("step", *steps, title="Processor time per row, in ms")
    for step in STEPS:
        table.add_row(step, *(f"{found[step]:.3f}" for found in steps.values()))
    totals = {way: sum(found.values()) for way, found in steps.items()}
    table.add_row("in process, together", *(f"{total:.3f}" for total in totals.values()))
    table.add_row("gunicorn, over HTTP", *(f"{server[way]:.3f}" for way in steps))
    Console(width=110).print(table)
    ledger = {way: sum(found[step] for step in LEDGER) / totals[way] for way, found in steps.items()}
    last: dict[str, Any] = {
        "ledger_share_single": round(ledger[SINGLE_CALLS], 3),
        "ledger_share_batches": round(ledger[BATCHES], 3),
        "batch_ratio_in_process": round(totals[BATCHES] / totals[SINGLE_CALLS], 3),
        "batch_ratio": round(server[BATCHES] / server[SINGLE_CALLS], 3) if options.rows else None,
        "database": os.environ["DATABASE_URL"].partition(":")[0],
    }
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
