"""Tests rows that hang or kill their process within a batch, behind the timeouts of the worker, gunicorn and nginx."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from bulk_import.local.processes import await_answer, free_port, start_part, stop_process
from demo.stack import PROJECT, local_stack
from lambda_worker import deadlines, row_dispatch
from lambda_worker.config import Config
from lambda_worker.handler import Services, process_event
from tests.counts import counts
from tests.monoliths.services import start_nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.stack import LocalStack

pytestmark = pytest.mark.timeout(240)

PATIENCE_SECONDS = 3
"""How long the worker, gunicorn or nginx waits for a row. The rows that hang take longer, and the others never do, also
on a busy machine."""

ROWS = 24
FRONT_LOG = "front.log"
GUNICORN = ["-m", "gunicorn", "settings.wsgi", "--worker-class=sync", "--workers=2", "--log-level=warning"]
GUNICORN += ["--config=python:demo.gunicorn_conf", f"--timeout={PATIENCE_SECONDS}"]
NGINX = f"""
location / {{
    proxy_pass http://site/;
    proxy_set_header Host $http_host;
    proxy_read_timeout {PATIENCE_SECONDS}s;
}}
"""


class Site:
    """A running monolith with batches, and the URLs at which something gives up on a row."""

    def __init__(self, stack: LocalStack, urls: dict[str, str]) -> None:
        self.stack, self.urls = stack, urls
        self.http = httpx.Client(base_url=stack.url, auth=("demo", "demo"), timeout=60, trust_env=False)
        session: Any = boto3.Session("local", "local", region_name="us-east-1")
        self.s3, self.sqs = (session.client(name, endpoint_url=stack.aws_url) for name in ("s3", "sqs"))

    @property
    def front_log(self) -> str:
        """What the second gunicorn and nginx have logged."""
        return (self.stack.folder / FRONT_LOG).read_text()

    def import_rows(self, skus: list[str], url: str) -> tuple[dict[str, Any], str]:
        """Import a chunk of rows with a worker that calls the monolith at this URL. Return the job and the new log."""
        stack_log, front_log = self.stack.log, self.front_log
        rest = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware"}
        accepted = self.http.post("/products/bulk", json=[{"sku": sku, **rest} for sku in skus])
        assert accepted.status_code == 202, accepted.text
        config = Config.from_environment({**self.stack.environment, "BULK_IMPORT_BASE_URL": url})
        context: Any = SimpleNamespace(aws_request_id="1", get_remaining_time_in_millis=lambda: 120_000)
        queue = {"QueueUrl": self.stack.queue_url}
        (message,) = self.sqs.receive_message(**queue, WaitTimeSeconds=5)["Messages"]
        record = {"messageId": "1", "body": message["Body"], "attributes": {}, "messageAttributes": {}}
        event: Any = {"Records": [record | {"receiptHandle": message["ReceiptHandle"]}]}
        returned = asyncio.run(process_event(event, context, Services(config, self.s3, self.sqs)))
        assert returned == {"batchItemFailures": []}
        self.sqs.delete_message(**queue, ReceiptHandle=message["ReceiptHandle"])
        new_log = self.stack.log[len(stack_log) :] + self.front_log[len(front_log) :]
        return self.http.get(accepted.headers["Location"]).json(), new_log

    def failures(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.http.get(f"/products/bulk/{job['id']}/failures").text.splitlines()]

    def stored(self, prefix: str) -> int:
        with closing(sqlite3.connect(self.stack.sqlite, timeout=60)) as database:
            sql = "SELECT count(*) FROM products_product WHERE sku LIKE ?"
            return int(database.execute(sql, [f"{prefix}-%"]).fetchone()[0])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with ExitStack() as parts:
        stack = parts.enter_context(local_stack())
        stack.environment |= {"DJANGO_SETTINGS_MODULE": "tests.pipeline.batch_settings", "BATCH_ROWS": "20"}
        parts.callback(stop_process, stack.start_monolith())
        log = parts.enter_context((stack.folder / FRONT_LOG).open("w"))
        gunicorn, nginx = free_port(), free_port()
        bind = f"--bind=127.0.0.1:{gunicorn}"
        impatient = start_part([sys.executable, *GUNICORN, bind], log, stack.environment, PROJECT)
        parts.callback(stop_process, impatient)
        command = start_nginx(stack.folder, nginx, int(stack.url.rpartition(":")[2]), NGINX)
        front = subprocess.Popen(command, stdout=log, stderr=log)
        parts.callback(stop_process, front)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in [("gunicorn", gunicorn), ("nginx", nginx)]}
        for url, process in [(urls["gunicorn"], impatient), (urls["nginx"], front)]:
            await_answer(f"{url}/admin/login/", process)
        site = Site(stack, {"worker": stack.url, **urls})
        parts.callback(site.http.close)
        yield site


@pytest.mark.parametrize(
    ("who", "bad", "place", "statuses"),
    [
        ("worker", "HANGING", 3, {None}),
        ("gunicorn", "HANGING", 3, {500, None}),  # gunicorn may answer 500 when it ends a process that hangs
        ("nginx", "DEADLY", 0, {502}),
    ],
)
def test_a_row_without_an_answer_is_found_and_the_others_of_its_batch_are_created(  # noqa: PLR0917 - fixtures
    site: Site, monkeypatch: pytest.MonkeyPatch, who: str, bad: str, place: int, statuses: set[int | None]
) -> None:
    monkeypatch.setattr(row_dispatch, "MAX_TRIES", 2)
    if who == "worker":
        monkeypatch.setattr(deadlines, "CALL_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    skus = [f"{who}-{number}" for number in range(ROWS)]
    skus[place] = f"{bad}-{who}"

    job, log = site.import_rows(skus, site.urls[who])

    assert job["counts"] == counts(created=ROWS - 1, failed=1), log
    (failure,) = site.failures(job)
    assert (failure["index"], failure["status"] in statuses) == (place, True), failure
    assert site.stored(who) == ROWS - 1
    # The first batch has at least half of the rows, and those after the bad one are sent alone.
    alone = re.findall(r"a create call of (\S+)", log)
    assert {*skus[place : ROWS // 2]} <= {*alone}
    assert not {*skus[:place]} & {*alone}


def test_a_row_counts_as_created_although_nginx_does_not_wait_for_its_answer(site: Site) -> None:
    skus = [f"LATE-{number}" if number in {3, 5} else f"SOON-{number}" for number in range(ROWS)]

    job, log = site.import_rows(skus, site.urls["nginx"])

    assert job["counts"] == counts(created=ROWS), log
    assert (site.stored("SOON"), site.stored("LATE")) == (ROWS - 2, 2)
    assert "while reading upstream" in log  # nginx cut the answer of the batch at row 3
    assert "while reading response header from upstream" in log  # nginx answered 504 to row 5, which was sent alone
    assert re.findall(r"a create call of (LATE-\S+)", log).count("LATE-5") == 2
