"""The deployed zip with S3, SQS, an event source mapping and Lambda (ministack), and a real monolith."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from bulk_import.local.processes import free_port, stop_process
from demo.stack import DEAD_LETTER_QUEUE, FAILURES_BUCKET, LOG, PAYLOADS_BUCKET, QUEUE, LocalStack
from tests.counts import counts
from tests.lambda_worker.sam_template import Stack
from tests.lambda_worker.trigger.deployment import (
    BATCH_SIZE,
    DEAD_LETTER_FUNCTION,
    FUNCTION,
    FUNCTION_TIMEOUT_SECONDS,
    Deployment,
    deploy,
    ministack,
)
from tests.processes import descendants
from tests.shop_client import ShopClient
from tests.virtual_environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
DEADLINE_SECONDS = 60


class Shop(ShopClient):
    """The monolith as its users see it, and the deployment."""

    def __init__(self, stack: LocalStack, http: httpx.Client, aws: Deployment, aws_process: int) -> None:
        super().__init__(http)
        self.stack, self.aws, self.aws_process = stack, aws, aws_process

    def ended(self, location: str) -> dict[str, Any]:
        self.until(lambda: self.has_ended(location))
        return self.job(location)

    def until(self, condition: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > give_up_at:
                pytest.fail(f"the condition did not become true; the log:\n{self.stack.log[-20_000:]}")
            time.sleep(0.1)

    def functions(self) -> list[int]:
        """Return the process IDs of the worker function's execution environments."""
        name = f"AWS_LAMBDA_FUNCTION_NAME={FUNCTION}\0".encode()
        return [pid for pid in descendants(self.aws_process) if name in environment(pid)]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # the process has ended


def rows(prefix: str, count: int, **fields: Any) -> list[dict[str, Any]]:
    basis = {"name": "Kettle", "price": "19.90", "currency": "EUR", "category": "cookware", **fields}
    return [{"sku": f"{prefix}-{number}", **basis} for number in range(count)]


@pytest.fixture(scope="module")
def shop(lambda_python: Path, lambda_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Start one deployment and one shop for all tests."""
    folder = tmp_path_factory.mktemp("shop")
    python = environment_of(HERE / "requirements.txt", lambda_python)
    with ExitStack() as parts:
        log = parts.enter_context((folder / LOG).open("w"))
        aws_url, aws_process = parts.enter_context(ministack(python, log))
        stack = LocalStack(folder, log, free_port(), aws_url, None)
        stack.environment["DJANGO_SETTINGS_MODULE"] = "tests.lambda_worker.trigger.settings"
        aws = parts.enter_context(deploy(aws_url, stack.url, lambda_zip))
        prepare(stack)
        parts.callback(stop_process, stack.start_monolith())
        parts.callback(stop_process, stack.start_relay())
        http = httpx.Client(base_url=stack.url, auth=("demo", "demo"), timeout=60, trust_env=False)
        yield Shop(stack, parts.enter_context(http), aws, aws_process)


def prepare(stack: LocalStack) -> None:
    """Fill the database. `demo.prepare` creates users with public passwords, so it accepts settings.local only."""
    settings = stack.environment["DJANGO_SETTINGS_MODULE"]
    stack.environment["DJANGO_SETTINGS_MODULE"] = "settings.local"
    stack.run("-m", "demo.prepare")
    stack.environment["DJANGO_SETTINGS_MODULE"] = settings


@pytest.fixture(autouse=True)
def _clean_queues(shop: Shop) -> Iterator[None]:
    """Wait until the queue is empty, so that no test leaves a message for the next one."""
    yield
    shop.until(lambda: shop.aws.count(QUEUE) == 0)


def test_the_stack_has_the_properties_of_the_template(shop: Shop) -> None:
    expected = Stack(BatchSize=BATCH_SIZE, FunctionTimeoutSeconds="60")
    queues = {name: shop.aws.queue(name) for name in (QUEUE, DEAD_LETTER_QUEUE)}
    redrive = json.loads(queues[QUEUE]["RedrivePolicy"])
    buckets = (PAYLOADS_BUCKET, FAILURES_BUCKET)
    encryption = [
        shop.aws.s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"] for name in buckets
    ]
    mappings = {
        mapping["FunctionArn"].rpartition(":")[2]: mapping
        for mapping in shop.aws.functions.list_event_source_mappings()["EventSourceMappings"]
    }

    assert redrive["maxReceiveCount"] == expected.properties("Queue")["RedrivePolicy"]["maxReceiveCount"]
    assert redrive["deadLetterTargetArn"] == queues[DEAD_LETTER_QUEUE]["QueueArn"]
    for name, logical in ((QUEUE, "Queue"), (DEAD_LETTER_QUEUE, "DeadLetterQueue")):
        properties = expected.properties(logical)
        for attribute in ("VisibilityTimeout", "MessageRetentionPeriod", "ReceiveMessageWaitTimeSeconds"):
            assert int(queues[name][attribute]) == properties[attribute]
    assert [rule["Rules"][0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] for rule in encryption] == [
        "AES256"
    ] * 2
    for function, queue, batch_size in ((FUNCTION, QUEUE, BATCH_SIZE), (DEAD_LETTER_FUNCTION, DEAD_LETTER_QUEUE, 1)):
        mapping = mappings[function]
        assert mapping["EventSourceArn"] == queues[queue]["QueueArn"]
        assert mapping["BatchSize"] == batch_size
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["ScalingConfig"] == {"MaximumConcurrency": 2}
    assert (
        shop.aws.environment.keys() - {"AWS_ENDPOINT_URL"}
        == expected.properties("WorkerFunction")["Environment"]["Variables"].keys()
    )


def test_every_row_is_created(shop: Shop) -> None:
    job = shop.ended(shop.submit(rows("good", 150)))

    assert job["status"] == "succeeded"
    assert job["counts"] == counts(created=150)
    assert len(shop.skus("good")) == 150


def test_rejected_rows_are_reported_and_their_messages_are_deleted(shop: Shop) -> None:
    job = shop.ended(shop.submit([*rows("some", 110), *rows("kayak", 5, category="kayaks")]))

    assert job["status"] == "partially_succeeded"
    assert job["counts"] == counts(created=110, rejected=5)
    assert len(shop.http.get(job["links"]["failures"]).text.splitlines()) == 5


def test_only_a_message_that_always_fails_ends_in_the_dead_letter_queue(shop: Shop) -> None:
    """A foreign message stays in the dead-letter queue, where people can inspect it."""
    location = shop.submit(rows("beside", 100))
    shop.aws.sqs.send_message(QueueUrl=shop.aws.environment["BULK_IMPORT_QUEUE_URL"], MessageBody="no message")

    assert shop.ended(location)["counts"]["created"] == 100
    shop.until(lambda: shop.aws.count(DEAD_LETTER_QUEUE) == 1)
    shop.aws.sqs.purge_queue(QueueUrl=shop.aws.sqs.get_queue_url(QueueName=DEAD_LETTER_QUEUE)["QueueUrl"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["crash", "timeout"])
def test_no_row_is_lost_or_duplicated_if_a_function_crashes_or_exceeds_its_timeout(
    shop: Shop, number: signal.Signals
) -> None:
    """A stopped process exceeds its timeout, like one that hangs. SQS redelivers its message."""
    shop.aws.set_visibility_timeout(FUNCTION_TIMEOUT_SECONDS)
    prefix = number.name.lower()
    location = shop.submit(rows(prefix, 200))
    shop.until(lambda: shop.job(location)["counts"]["created"] > 20)
    hit = shop.functions()
    for pid in hit:
        os.kill(pid, number)
    before = shop.job(location)
    job = shop.ended(location)

    assert hit
    assert before["status"] == "processing"
    assert job["counts"] == counts(created=200)
    assert len(shop.skus(prefix)) == len(set(shop.skus(prefix))) == 200
    shop.until(lambda: not set(hit) & set(shop.functions()))  # the redelivery may start before the timeout


def test_dead_chunks_of_a_broken_deployment_are_reported_and_can_be_redriven(shop: Shop) -> None:
    """The worker cannot start, and its messages become dead letters. After the fix, a redrive creates all rows."""
    shop.aws.set_visibility_timeout(1)
    shop.aws.configure(FUNCTION, BULK_IMPORT_BASE_URL="")

    location = shop.submit(rows("dead", 120))
    dead = shop.ended(location)

    assert dead["status"] == "failed"
    assert dead["counts"] == counts(unprocessed=120)
    assert dead["problems"][0]["code"] == "dead_letter"
    shop.until(lambda: shop.aws.count(DEAD_LETTER_QUEUE) == 0)
    shop.aws.set_visibility_timeout(60)
    shop.aws.configure(FUNCTION)
    assert shop.http.post(f"{location}/redrive").status_code == 202
    shop.until(lambda: shop.job(location)["status"] == "succeeded")
    assert len(shop.skus("dead")) == 120
