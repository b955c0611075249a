"""Tests imports with batch calls on real processes that are killed in the middle of a batch."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bulk_import.local.processes import stop_process
from demo.stack import local_stack
from tests.counts import counts
from tests.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from demo.stack import LocalStack

pytestmark = pytest.mark.timeout(180)

DEADLINE_SECONDS = 120
GUNICORN_WORKERS = 2


class Shop:
    """A running stack whose target has batches."""

    def __init__(self, stack: LocalStack, monolith: int) -> None:
        self.stack, self.monolith = stack, monolith
        self.http = httpx.Client(base_url=stack.url, auth=("demo", "demo"), timeout=60, trust_env=False)

    def submit(self, skus: list[str]) -> str:
        rest = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware"}
        answer = self.http.post("/products/bulk", json=[{"sku": sku, **rest} for sku in skus])
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    def ended(self, location: str) -> dict[str, Any]:
        """Wait until the job has ended, and return it."""
        wait_until(lambda: self.get(location).get("finished_at"))
        return self.get(location)

    def get(self, location: str) -> dict[str, Any]:
        """Return a document, or an empty one if the process dies meanwhile."""
        try:
            document: dict[str, Any] = self.http.get(location).json()
        except httpx.TransportError:
            return {}
        return document

    def created(self, prefix: str) -> int:
        """Return the number of products with this prefix. SKUs are unique, so a row created twice would be an error."""
        with closing(sqlite3.connect(self.stack.sqlite, timeout=60)) as database:
            sql = "SELECT count(*) FROM products_product WHERE sku LIKE ?"
            return int(database.execute(sql, [f"{prefix}-%"]).fetchone()[0])


def wait_until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, "timed out"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with ExitStack() as parts:
        stack = parts.enter_context(local_stack())
        stack.environment |= {"DJANGO_SETTINGS_MODULE": "tests.pipeline.batch_settings", "BATCH_ROWS": "20"}
        monolith = stack.start_monolith()
        parts.callback(stop_process, monolith)
        parts.callback(stop_process, stack.start_poller())
        shop = Shop(stack, monolith.pid)
        parts.callback(shop.http.close)
        yield shop


def test_a_monolith_that_is_killed_during_its_batches_loses_no_row_and_creates_none_twice(shop: Shop) -> None:
    location = shop.submit([f"KILLED-{number}" for number in range(400)])
    wait_until(lambda: shop.created("KILLED") > 50)
    for pid in sorted(descendants(shop.monolith))[-GUNICORN_WORKERS:]:
        os.kill(pid, signal.SIGKILL)
    created_before = shop.created("KILLED")
    job = shop.ended(location)

    assert created_before < 400
    assert job["counts"] == counts(created=400)
    assert shop.created("KILLED") == 400
    assert shop.stack.log.count("a batch call") < 200


def test_a_row_that_kills_its_process_is_found_and_the_others_of_its_batch_are_created(shop: Shop) -> None:
    skus = [f"GOOD-{number}" for number in range(40)]
    location = shop.submit([*skus[:20], "DEADLY", *skus[20:]])
    job = shop.ended(location)
    failures = [json.loads(line) for line in shop.http.get(f"{location}/failures").text.splitlines()]

    assert job["counts"] == counts(created=40, failed=1)
    assert shop.created("GOOD") == 40
    assert [(failure["index"], failure["errors"][0]["code"]) for failure in failures] == [(20, "no_answer")]
