"""`make bench-hostile`: measures hostile bodies, and how long another user waits meanwhile.

Each body is sent as a dry run and with gzip, so it is small on the network. For each one, the benchmark measures the
processor time of the server, and the duration of another user's GET, which is sent every 50 ms. A storm repeats the
measurement with eight clients of one user at the same time. The server is gunicorn with one worker and four threads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.hostile_bodies import HOSTILE_BODIES
from bulk_import.local.processes import stop_process
from demo.stack import START_GUNICORN, local_stack

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from benchmarks.hostile_bodies import HostileBody
    from demo.stack import LocalStack

ATTACKER, NEIGHBOUR = ("demo", "demo"), ("neighbour", "neighbour")
STORM_CLIENTS = 8
PAUSE_SECONDS = 0.05
WAIT_SECONDS = 120
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

PREPARE = """
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("neighbour", password="neighbour")
"""


class Figures(NamedTuple):
    """What one kind of body did to the server."""

    codes: set[str]
    processor_seconds: float
    neighbour_p99: float


class Site:
    """A running monolith with one worker process."""

    def __init__(self, stack: LocalStack, process: subprocess.Popen[bytes]) -> None:
        self.url = stack.url
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._stat = Path("/proc", worker, "stat")

    def processor_seconds(self) -> float:
        """Return the processor time of the worker since its start."""
        user, system = self._stat.read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICKS_PER_SECOND

    def attack(self, body: bytes, media_type: str) -> str:
        """Send a dry run, and return the code of the answer."""
        headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
        path = f"{self.url}/products/bulk?dry_run=true"
        answer = httpx.post(path, content=body, headers=headers, auth=ATTACKER, timeout=WAIT_SECONDS, trust_env=False)
        return str(answer.json().get("code", answer.status_code))

    def visit(self, over: Event) -> list[float]:
        """Request the list of imports as another user until `over` is set. Return the duration of each request."""
        took = []
        with httpx.Client(base_url=self.url, auth=NEIGHBOUR, timeout=WAIT_SECONDS, trust_env=False) as http:
            while not over.wait(PAUSE_SECONDS):
                began = time.perf_counter()
                answer = http.get("/products/bulk")
                took.append(time.perf_counter() - began)
                if answer.status_code != HTTPStatus.OK:
                    raise RuntimeError(f"The neighbour got {answer.status_code}: {answer.text[:200]}")
        return took

    def measure(self, hostile: HostileBody, requests: int, clients: int) -> Figures:
        """Send the body so many times with so many clients, and measure the processor time of one request."""
        body = gzip.compress(hostile.make())
        over = Event()
        with ThreadPoolExecutor(clients + 1) as threads:
            visits = threads.submit(self.visit, over)
            began = self.processor_seconds()
            codes = set(threads.map(lambda _n: self.attack(body, hostile.media_type), range(requests)))
            seconds = self.processor_seconds() - began
            over.set()
            return Figures(codes, seconds / requests, p99(visits.result()))


def p99(took: list[float]) -> float:
    """Return the 99th percentile; of fewer than 100 values, the largest one."""
    return sorted(took)[int(len(took) * 0.99)] if took else 0.0


@contextmanager
def open_site() -> Iterator[Site]:
    """Start a site with a neighbour. Its throttle and quota do not stop the attacker before the limits do."""
    with local_stack() as stack:
        stack.environment["DJANGO_SETTINGS_MODULE"] = "benchmarks.hostile_settings"
        stack.run("manage.py", "shell", "--verbosity=0", "--command", PREPARE)
        START_GUNICORN[START_GUNICORN.index("--workers=2")] = "--workers=1"
        process = stack.start_monolith()
        try:
            yield Site(stack, process)
        finally:
            stop_process(process)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="parts of the names of the bodies")
    parser.add_argument("--runs", type=int, default=3, help="requests with each body")
    options = parser.parse_args(arguments)
    chosen = {
        name: hostile
        for name, hostile in HOSTILE_BODIES.items()
        if not options.only or any(part in name for part in options.only)
    }
    console = Console(width=120)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}")
    table = Table("body", "answer", "CPU s", "p99 s", "p99 s, storm", title="Hostile bodies")
    worst = {"processor_seconds": 0.0, "neighbour_p99_seconds": 0.0, "storm_p99_seconds": 0.0}
    with open_site() as site:
        for name, hostile in chosen.items():
            one = site.measure(hostile, options.runs, clients=1)
            storm = site.measure(hostile, STORM_CLIENTS * options.runs, clients=STORM_CLIENTS)
            figures = (one.processor_seconds, one.neighbour_p99, storm.neighbour_p99)
            table.add_row(name, ", ".join(sorted(one.codes | storm.codes)), *(f"{number:.2f}" for number in figures))
            worst = {key: max(worst[key], number) for key, number in zip(worst, figures, strict=True)}
    console.print(table)
    last = {key: round(number, 3) for key, number in worst.items()} | {"bodies": len(chosen)}
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
