"""`make bench-clients`: measures the CPU time of one create call with different HTTP clients.

All clients have the same number of calls in flight, to a monolith that answers at once. We measure CPU time instead of
elapsed time, because a client that computes delays its other calls.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows
from benchmarks.instant_monolith import CLAIM, CONCURRENCY
from benchmarks.shop import compact
from bulk_import.local.processes import await_answer, free_port, stop_process
from lambda_worker.config import Config
from lambda_worker.monolith_client import MonolithClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Call = Callable[[bytes], Awaitable[object]]

WORKER, PLAIN, BARE, ONE_EACH = "worker", "httpx", "aiohttp", "one each"
LABELS = {
    WORKER: "this worker",
    PLAIN: "httpx, one client",
    BARE: "aiohttp without httpx",
    ONE_EACH: "httpx, a new client for each row",
}


async def call_all(rows: Sequence[bytes], call: Call) -> float:
    """Send all rows with CONCURRENCY calls in flight. Returns the CPU time per call in microseconds."""
    left = iter(rows)

    async def send_rows() -> None:
        for row in left:
            await call(row)

    began = time.process_time()
    await asyncio.gather(*(send_rows() for _ in range(CONCURRENCY)))
    return 1e6 * (time.process_time() - began) / len(rows)


async def measure(contender: str, url: str, rows: Sequence[bytes]) -> float:
    headers = {"Content-Type": "application/json", "Authorization": "Import token", "Idempotency-Key": "job:1"}
    if contender == WORKER:
        config = Config(url, "secret", "payloads", "failures", f"{url}/queue")
        async with MonolithClient(config, "request") as monolith:
            return await call_all(rows, lambda row: monolith.create(CLAIM, "job:1", row, timeout_seconds=30))
    if contender == PLAIN:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await call_all(rows, lambda row: client.post(f"{url}/products/", headers=headers, content=row))
    if contender == BARE:
        async with aiohttp.ClientSession() as session:

            async def post(row: bytes) -> None:
                async with session.post(f"{url}/products/", headers=headers, data=row) as answer:
                    await answer.read()

            return await call_all(rows, post)

    async def post_alone(row: bytes) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{url}/products/", headers=headers, content=row)

    return await call_all(rows, post_alone)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clients", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    rows = [compact(row).encode() for row in make_rows(options.rows)]
    figures: dict[str, list[float]] = {contender: [] for contender in LABELS}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    monolith = subprocess.Popen([sys.executable, "-m", "benchmarks.instant_monolith", str(port)])  # noqa: S603 - ours
    try:
        await_answer(f"{url}/products/", monolith)
        for _ in range(options.runs):
            for contender in LABELS:
                share = rows[: max(1, len(rows) // 20)] if contender == ONE_EACH else rows
                figures[contender].append(asyncio.run(measure(contender, url, share)))
    finally:
        stop_process(monolith)
    medians = {contender: statistics.median(found) for contender, found in figures.items()}
    table = Table("client", "µs of CPU time per call", "ratio to this worker", title=f"{CONCURRENCY} calls in flight")
    for contender, label in LABELS.items():
        table.add_row(label, f"{medians[contender]:,.0f}", f"{medians[contender] / medians[WORKER]:.1f}")
    console = Console()
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}")
    console.print(table)
    last = {
        "microseconds": round(medians[WORKER]),
        "times_less_than_httpx": round(medians[PLAIN] / medians[WORKER], 2),
        "times_less_than_a_client_each": round(medians[ONE_EACH] / medians[WORKER], 1),
        "times_aiohttp": round(medians[WORKER] / medians[BARE], 2),
    }
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
