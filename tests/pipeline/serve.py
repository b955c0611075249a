"""A running `make serve`, for the tests that use it from the outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import httpx

from tests.shop_client import ShopClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 110  # the messages of a killed poller stay invisible for 60 s


class Shop(ShopClient):
    """A running `make serve`: its output, and an HTTP client for the user `demo`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.printed = ""
        assert process.stdout
        while "Poller " not in self.printed:
            line = process.stdout.readline()
            assert line, self.printed
            self.printed += line
        self.url = self.find(r"Products\s+(\S+)/products/")
        self.queue_url = self.find(r"Queue\s+(\S+)")
        session = boto3.Session("any", "any", region_name="us-east-1")
        aws_url = self.find(r"AWS_ENDPOINT_URL=(\S+)")
        self.sqs: Any = session.client("sqs", endpoint_url=aws_url)
        self.s3: Any = session.client("s3", endpoint_url=aws_url)
        super().__init__(httpx.Client(base_url=self.url, auth=("demo", "demo"), timeout=60, trust_env=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for client in (self.sqs, self.s3, self.http):
            client.close()

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.printed)
        assert found, self.printed
        return found[1]

    @property
    def poller(self) -> int:
        return int(self.find(r"Poller\s+process (\d+)"))

    def ended(self, location: str) -> dict[str, Any]:
        """Poll until the job has ended, and return it."""
        wait_until(lambda: self.has_ended(location))
        return self.job(location)


def wait_until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "timed out"
        time.sleep(0.1)


def rows(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware", **fields}
    return [{"sku": f"{prefix}-{number}", **basis} for number in range(count)]


IN_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
"""Prefix that starts a command with SIGINT ignored, as shells without job control do for background jobs."""


@contextmanager
def serving(*database: str, start: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*(start or []), sys.executable, "-u", "-m", "demo", "serve", "--port", "0", *database],
        cwd=PROJECT,
        env={**os.environ, "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)
