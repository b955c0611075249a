"""Tests complete imports from the outside, with HTTP, S3 and SQS only.

The tests start `make serve` as a separate process and import no module of the product.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.counts import counts
from tests.pipeline.serve import IN_BACKGROUND, Shop, rows, serving, wait_until
from tests.processes import descendants, is_running
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG_POLL_SECONDS = 1.5  # slightly longer than the poller's: afterwards, no earlier receive is still waiting

pytestmark = pytest.mark.timeout(240)


def test_valid_rows_are_created_and_invalid_rows_are_reported(shop: Shop) -> None:
    submitted = [*rows("mixed", 130), *rows("kayak", 7, category="kayaks"), *rows("mixed", 1)]
    job = shop.ended(shop.submit(submitted))

    assert job["status"] == "partially_succeeded"
    assert job["counts"] == counts(created=130, rejected=8)
    assert sorted(shop.skus("mixed")) == sorted(row["sku"] for row in submitted[:130])
    assert [(problem["field"], problem["code"], problem["count"]) for problem in job["problems"]] == [
        ("category", "does_not_exist", 7),
        ("sku", "duplicate", 1),
    ]
    failures = [json.loads(line) for line in shop.http.get(job["links"]["failures"]).text.splitlines()]
    refused = {failure["index"]: failure["row"] for failure in failures}
    assert list(refused) == sorted(refused)
    assert all(submitted[index] == row for index, row in refused.items())
    assert set(range(130, 137)) < set(refused)


def test_a_rehearsal_forecasts_its_import_and_an_undo_removes_it(shop: Shop) -> None:
    def results(job: dict[str, Any]) -> list[tuple[Any, ...]]:
        lines = map(json.loads, shop.http.get(job["links"]["results"]).text.splitlines())
        return [(line["index"], line["outcome"], line["errors"]) for line in lines]

    submitted = [*rows("stage", 60), *rows("kayak", 7, category="kayaks"), *rows("stage-free", 3, price="0")]
    answer = shop.http.post("/products/bulk?rehearse=true", json=submitted)
    rehearsal = shop.ended(answer.headers["Location"])
    assert shop.skus("stage") == []

    imported = shop.ended(shop.http.post(rehearsal["links"]["run"]).headers["Location"])
    assert results(imported) == results(rehearsal)
    assert imported["counts"] == rehearsal["counts"]
    assert len(shop.skus("stage")) == imported["counts"]["created"] == 60

    undone = shop.ended(shop.http.post(imported["links"]["undo"]).headers["Location"])
    assert undone["counts"]["deleted"] == 60
    assert shop.skus("stage") == []


def test_a_file_that_is_sent_twice_never_fails(shop: Shop) -> None:
    """With `skip`, its rows are unchanged. Otherwise they are rejected, because their objects exist."""
    file = "sku,name,price,currency,category\n" + "".join(f"sent-{n},Pan,9.50,EUR,cookware\n" for n in range(3))
    ended = []
    for query in ("mode=upsert&on_existing=skip", "mode=upsert&on_existing=skip", ""):
        answer = shop.http.post(f"/products/bulk?{query}", files={"file": ("products.csv", file, "text/csv")})
        ended.append(shop.ended(answer.headers["Location"]))

    assert [(job["status"], job["counts"]) for job in ended] == [
        ("succeeded", counts(created=3)),
        ("succeeded", counts(unchanged=3)),
        ("partially_succeeded", counts(rejected=3)),
    ]
    assert "3 of them exist already" in ended[-1]["message"]
    assert len(shop.skus("sent")) == 3


def test_a_redelivered_message_creates_no_row(shop: Shop) -> None:
    with paused(shop.poller):
        location = shop.submit(rows("again", 120))
        bodies = peek(shop)
    job = shop.ended(location)
    for body in bodies * 3:
        shop.sqs.send_message(QueueUrl=shop.queue_url, MessageBody=body)
    wait_until(lambda: messages_left(shop) == 0)

    assert len(bodies) == 2
    assert len(shop.skus("again")) == 120
    assert shop.job(location) == job


def test_one_message_delivered_many_times_at_once_creates_each_row_once(shop: Shop) -> None:
    with paused(shop.poller):
        location = shop.submit(rows("copies", 100))
        (body,) = peek(shop)
        for _ in range(9):
            shop.sqs.send_message(QueueUrl=shop.queue_url, MessageBody=body)
    job = shop.ended(location)

    assert job["counts"]["created"] == len(shop.skus("copies")) == 100


@pytest.mark.one_database  # `make chaos` kills pollers on PostgreSQL
def test_a_killed_poller_loses_no_row_and_creates_none_twice(shop: Shop) -> None:
    """To save time, messages become visible again 12 s after the kill instead of 60 s."""
    shop.sqs.set_queue_attributes(QueueUrl=shop.queue_url, Attributes={"VisibilityTimeout": "12"})
    time.sleep(LONG_POLL_SECONDS)
    location = shop.submit(rows("killed", 600))
    wait_until(lambda: shop.job(location)["counts"]["created"] > 100)
    os.kill(shop.poller, signal.SIGKILL)
    before = shop.job(location)
    job = shop.ended(location)

    assert before["status"] == "processing"
    assert job["counts"] == counts(created=600)
    assert len(shop.skus("killed")) == len(set(shop.skus("killed"))) == 600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_shop_leaves_no_process_behind(number: signal.Signals) -> None:
    """The shop also stops if it runs as a background job of a shell."""
    with serving(start=IN_BACKGROUND) as process, Shop(process) as shop:
        family = descendants(process.pid)
        shop.submit(rows("left", 300))
        process.send_signal(number)
        code = process.wait(60)

    assert code == 0
    assert len(family) >= 4
    wait_until(lambda: not any(map(is_running, family)))


def test_a_shop_whose_parts_all_hang_stops_them_at_the_same_time() -> None:
    """All parts together have 15 seconds to stop, and are then killed."""
    with serving() as process, Shop(process):
        family = descendants(process.pid)
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        code = process.wait(45)  # one after the other would take 60 seconds

    assert code == 0
    wait_until(lambda: not any(map(is_running, family)))


def test_a_killed_shop_leaves_no_process_behind() -> None:
    with serving() as process, Shop(process) as shop:
        family = descendants(process.pid)
        shop.submit(rows("orphan", 300))
        process.kill()
        process.wait()

        assert len(family) >= 4
        wait_until(lambda: not any(map(is_running, family)))


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop the poller while the block runs, after its last long poll has ended."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(LONG_POLL_SECONDS)
    yield
    os.kill(pid, signal.SIGCONT)


def peek(shop: Shop) -> list[str]:
    """Return the bodies of all messages, and leave the messages on the queue."""
    received = shop.sqs.receive_message(QueueUrl=shop.queue_url, MaxNumberOfMessages=10)["Messages"]
    for message in received:
        shop.sqs.change_message_visibility(
            QueueUrl=shop.queue_url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )
    return [message["Body"] for message in received]


def messages_left(shop: Shop) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = shop.sqs.get_queue_attributes(QueueUrl=shop.queue_url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


@pytest.mark.one_database  # tests/bulk_import/test_window.py shows the same order on PostgreSQL
@pytest.mark.parametrize("user", ["demo", "admin"])
def test_ten_rows_end_before_the_large_imports_that_were_sent_before(shop: Shop, user: str) -> None:
    """The same user sent the large imports, or another one."""
    large = [shop.submit(rows(f"large-{user}-{number}", 1000)) for number in range(3)]
    wait_until(lambda: shop.job(large[0])["status"] == "processing")
    sender = httpx.Client(base_url=shop.url, auth=(user, user), timeout=60, trust_env=False)
    location = sender.post("/products/bulk", json=rows(f"small-{user}", 10)).headers["Location"]
    wait_until(lambda: sender.get(location).json()["status"] in TERMINAL)

    assert sender.get(location).json()["counts"]["created"] == 10
    assert not TERMINAL.intersection(shop.job(url)["status"] for url in large)
    for url in large:
        shop.http.delete(url)
    assert {shop.ended(url)["status"] for url in large} == {"cancelled"}
    sender.close()
