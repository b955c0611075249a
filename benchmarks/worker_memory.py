"""`make bench-memory`: measures the worker's peak memory for one chunk and for a large job.

It runs the real poller and handler with moto's S3 and SQS and a fake monolith that answers at once. The rows are those
of the other benchmarks, in chunks of CHUNK_ROWS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from rich.console import Console
from rich.table import Table

from benchmarks.accept import make_rows
from benchmarks.shop import compact
from bulk_import.local.processes import stop_process
from bulk_import_wire.message import ChunkMessage
from demo.stack import PAYLOADS_BUCKET, local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from demo.stack import LocalStack

CHUNK_ROWS = 500
MEBIBYTE = 1024 * 1024
BATCH = 10
PATIENCE_SECONDS = 3600
PAYLOAD_ROWS = 10_000
"""Rows of the payload, which all chunks share. The worker reads only the byte range of its chunk."""


def send(stack: LocalStack, sqs: Any, rows: int) -> None:
    """Store rows in S3 and send the messages of their chunks."""
    s3: Any = boto3.Session("local", "local", region_name="us-east-1").client("s3", endpoint_url=stack.aws_url)
    lines = [compact(row).encode() + b"\n" for row in make_rows(min(rows, PAYLOAD_ROWS))]
    chunks = [lines[first : first + CHUNK_ROWS] for first in range(0, len(lines), CHUNK_ROWS)]
    etag = s3.put_object(Bucket=PAYLOADS_BUCKET, Key="rows.jsonl", Body=b"".join(lines))["ETag"]
    messages: list[str] = []
    job_id = str(uuid4())
    for first_index in range(0, rows, CHUNK_ROWS):
        place = first_index // CHUNK_ROWS % len(chunks)
        chunk = chunks[place]
        message = ChunkMessage(
            job_id=job_id,
            chunk_id=str(uuid4()),
            bucket=PAYLOADS_BUCKET,
            key="rows.jsonl",
            etag=etag,
            first_byte=sum(map(len, lines[: place * CHUNK_ROWS])),
            byte_count=sum(map(len, chunk)),
            first_index=first_index,
            row_count=len(chunk),
        )
        messages.append(message.encode())
    for first in range(0, len(messages), BATCH):
        batch = messages[first : first + BATCH]
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(batch)]
        sqs.send_message_batch(QueueUrl=stack.queue_url, Entries=entries)


def await_empty(stack: LocalStack, sqs: Any) -> None:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while any(
        map(int, sqs.get_queue_attributes(QueueUrl=stack.queue_url, AttributeNames=names)["Attributes"].values())
    ):
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"The queue did not become empty:\n{stack.log}")
        time.sleep(0.2)


def processes(pid: int) -> Iterator[int]:
    """Yield the IDs of a process and of all its descendants."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from processes(int(child))


def peak(pid: int) -> float:
    """Return the largest peak of resident memory among a process and its descendants, in MiB."""
    status = (Path(f"/proc/{found}/status").read_text() for found in processes(pid))
    peaks = (re.search(r"VmHWM:\s+(\d+) kB", text) for text in status)
    return max(int(match[1]) for match in peaks if match) * 1024 / MEBIBYTE


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker_memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    with ExitStack() as cleanup:
        stack = cleanup.enter_context(local_stack())
        command = [sys.executable, "-m", "benchmarks.instant_monolith", str(urlsplit(stack.url).port)]
        cleanup.callback(stop_process, subprocess.Popen(command))  # noqa: S603 - our own
        sqs: Any = boto3.Session("local", "local", region_name="us-east-1").client("sqs", endpoint_url=stack.aws_url)
        poller = stack.start_poller()
        cleanup.callback(stop_process, poller)
        peaks = {}
        for rows in (CHUNK_ROWS, options.rows):
            began = time.monotonic()
            send(stack, sqs, rows)
            await_empty(stack, sqs)
            seconds = time.monotonic() - began
            peaks[rows] = peak(poller.pid)
    table = Table("rows", "peak MiB of the largest process", title="Worker's memory")
    for rows, mebibytes in peaks.items():
        table.add_row(f"{rows:,}", f"{mebibytes:.0f}")
    console = Console()
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}")
    console.print(table)
    last = {
        "rows": options.rows,
        "mebibytes_chunk": round(peaks[CHUNK_ROWS]),
        "mebibytes_job": round(peaks[options.rows]),
        "rows_a_second": round(options.rows / seconds),
    }
    sys.stdout.write(json.dumps(last) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
