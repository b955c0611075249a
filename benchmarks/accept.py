"""`make bench-accept`: measures how long the endpoint takes to accept an import.

It compares the endpoint with a plain view and with a floor, and a dry run with the same validation without the
database. Time is measured over HTTP, from the first byte of the body
to the answer. Each contender has a gunicorn with one worker; S3 and SQS are moto's. The contenders take turns within
one run. Memory is the worker's peak, minus its memory before its first import.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from rich.console import Console
from rich.table import Table

from bulk_import.local.processes import await_answer, free_port, stop_process
from demo.stack import PAYLOADS_BUCKET, PROJECT, QUEUE, local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from demo.stack import LocalStack

MEBIBYTE = 1024 * 1024
WARM_UP_ROWS = 20
ANSWER_SECONDS = 600
WORDS = [
    "alpine",
    "bivouac",
    "carbon",
    "down",
    "featherlight",
    "grün",
    "insulated",
    "jacket",
    "lightweight",
    "merino",
    "ridge",
    "summit",
    "tarp",
    "three-season",
    "trail",
    "two-person",
    "vestibule",
    "waterproof",
    "zipped",
]

ENDPOINT, DRY_RUN, VALIDATION = "endpoint", "dry run", "validation"
PLAIN, QUERYLESS, FLOOR = "plain", "queryless", "floor"
PATHS = {
    ENDPOINT: "/products/bulk",
    DRY_RUN: "/products/bulk?dry_run=true",
    VALIDATION: "/validation",
    PLAIN: "/plain",
    QUERYLESS: "/queryless",
    FLOOR: "/floor",
}
LABELS = {
    ENDPOINT: "this endpoint",
    DRY_RUN: "dry run",
    VALIDATION: "dry run without queries",
    PLAIN: "plain view",
    QUERYLESS: "plain view without queries",
    FLOOR: "floor: parse once, put once",
}


@dataclass
class Figures:
    """The measurements of one contender with one size."""

    seconds: list[float] = field(default_factory=list)
    extra_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Server:
    """A gunicorn with one worker, for one contender and one size, so that other imports do not affect its memory."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, path: str) -> None:
        self._port, self._path = port, path
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._proc = Path("/proc", worker)

    def post(self, body: bytes) -> float:
        """Send an import. Returns the seconds from the first byte of the body to the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        connection.putrequest("POST", self._path)
        connection.putheader("Authorization", "Basic " + base64.b64encode(b"demo:demo").decode())
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        began = time.perf_counter()
        connection.send(body)
        answer = connection.getresponse()
        text = answer.read()
        seconds = time.perf_counter() - began
        connection.close()
        if answer.status not in {http.client.OK, http.client.ACCEPTED}:
            raise RuntimeError(f"{self._path} answered {answer.status}: {text[:500]!r}")
        return seconds

    def memory(self, name: str) -> int:
        """Return the bytes that /proc/PID/status reports under this name, such as VmRSS."""
        lines = (self._proc / "status").read_text().splitlines()
        (kibibytes,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
        return int(kibibytes) * 1024

    def reset_peak(self) -> None:
        """Reset VmHWM, the peak of resident memory, to the current value."""
        (self._proc / "clear_refs").write_text("5")


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return valid rows with nine fields. The same seed gives the same rows."""
    chance = random.Random(seed)  # noqa: S311 - not used for security
    categories = ["tees", "jackets", "backpacks", "tents", "cookware"]  # categories of the demo shop
    return [
        {
            "sku": f"BENCH-{seed}-{number:07d}",
            "name": " ".join(chance.choices(WORDS, k=4)).capitalize(),
            "description": " ".join(chance.choices(WORDS, k=20)).capitalize() + ".",
            "price": f"{chance.randrange(100, 100_000) / 100:.2f}",
            "currency": chance.choice(["BRL", "USD", "EUR"]),
            "stock": chance.randrange(1000),
            "category": chance.choice(categories),
            "weight_kg": chance.choice([None, f"{chance.randrange(1, 9000) / 1000:.3f}"]),
            "is_active": chance.random() < 0.9,  # noqa: PLR2004 - most are
        }
        for number in range(count)
    ]


@contextmanager
def serve(stack: LocalStack, contender: str) -> Iterator[Server]:
    """Start a server for one contender and send it a small import as a warm-up."""
    port = free_port()
    environment = stack.environment | {"DJANGO_SETTINGS_MODULE": "benchmarks.accept_settings"}
    options = ["--workers=1", f"--timeout={ANSWER_SECONDS}", "--log-level=warning", f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "gunicorn", "settings.wsgi", *options],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await_answer(f"http://127.0.0.1:{port}/admin/login/", process)
        server = Server(process, port, PATHS[contender])
        server.post(json.dumps(make_rows(WARM_UP_ROWS)).encode())
        yield server
    finally:
        stop_process(process)


def compare(stack: LocalStack, body: bytes, runs: int, plain_runs: int) -> dict[str, Figures]:
    """Let the contenders take turns with the same body, and return the measurements of each."""
    figures = {contender: Figures() for contender in PATHS}
    session = boto3.Session("local", "local", region_name="us-east-1")
    s3 = session.resource("s3", endpoint_url=stack.aws_url)
    sqs = session.client("sqs", endpoint_url=stack.aws_url)
    with ExitStack() as cleanup:
        servers = {contender: cleanup.enter_context(serve(stack, contender)) for contender in PATHS}
        baselines = {contender: server.memory("VmRSS") for contender, server in servers.items()}
        for run in range(runs):
            for contender, server in servers.items():
                if contender == PLAIN and run >= plain_runs:
                    continue
                server.reset_peak()
                figures[contender].seconds.append(server.post(body))
                extra = server.memory("VmHWM") - baselines[contender]
                figures[contender].extra_bytes = max(extra, figures[contender].extra_bytes)
                s3.Bucket(PAYLOADS_BUCKET).objects.delete()
                # moto becomes slower with each message, and refuses to purge a queue twice a minute.
                sqs.delete_queue(QueueUrl=stack.queue_url)
                sqs.create_queue(QueueName=QUEUE)
    return figures


def summary(rows: int, body: bytes, figures: dict[str, Figures]) -> dict[str, Any]:
    """Return the figures for which docs/performance.md has goals."""
    endpoint = figures[ENDPOINT]
    return {
        "rows": rows,
        "speedup_over_plain": round(figures[PLAIN].median / endpoint.median, 2),
        "speedup_over_plain_without_queries": round(figures[QUERYLESS].median / endpoint.median, 2),
        "dry_run_over_validation": round(figures[DRY_RUN].median / figures[VALIDATION].median, 2),
        "times_floor": round(endpoint.median / figures[FLOOR].median, 2),
        "extra_memory_over_body": round(endpoint.extra_bytes / len(body), 2),
        "seconds": round(endpoint.median, 3),
        "microseconds_per_row": round(endpoint.median / rows * 1e6, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accept", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--plain-runs", type=int, default=1, help="of the plain view with its queries")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    console = Console(width=110)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}")
    table = Table("rows", "contender", *("seconds", "µs a row", "ratio to floor", "memory / body"), title="Accept")
    last: dict[str, Any] = {}
    with local_stack() as stack:
        for rows in options.rows:
            body = json.dumps(make_rows(rows, options.seed), ensure_ascii=False).encode()
            figures = compare(stack, body, options.runs, options.plain_runs)
            for contender, one in figures.items():
                per_row, times = one.median / rows * 1e6, one.median / figures[FLOOR].median
                memory = f"{one.extra_bytes / len(body):.1f}" if len(body) > MEBIBYTE else ""  # noise otherwise
                label = LABELS[contender]
                table.add_row(f"{rows:,}", label, f"{one.median:.3f}", f"{per_row:.1f}", f"{times:.1f}", memory)
            table.add_section()
            last = summary(rows, body, figures)
            last["body_mebibytes"] = round(len(body) / MEBIBYTE, 1)
    console.print(table)
    console.print(
        "Medians. The contenders take turns. Memory is the peak above that of the idle worker and includes the body."
    )
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
