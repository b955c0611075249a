"""AWS on one machine, with what is deployed on it: ministack runs the function from its zip, behind SQS' real trigger.

What of it is not AWS's: no IAM, no batching window, and a malformed answer of a function counts as success (the tests
under `runtime` and those of the poller see to that).
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import boto3

from demo.stack import (
    DEAD_LETTER_QUEUE,
    FAILURES_BUCKET,
    PAYLOADS_BUCKET,
    QUEUE,
    await_answer,
    create_aws_parts,
    free_port,
    stop_process,
)
from lambda_worker import package
from settings.known_secrets import WORKER_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNT = "000000000000"  # ministack's
FUNCTION = "bulk-import"
DEAD_LETTER_FUNCTION = "bulk-import-dead-letters"
HANDLERS = dict(zip((FUNCTION, DEAD_LETTER_FUNCTION), package.HANDLERS, strict=True))
FUNCTION_TIMEOUT_SECONDS = 4
ROLE = f"arn:aws:iam::{ACCOUNT}:role/bulk-import"


@contextmanager
def ministack(python: Path, log: IO[str]) -> Iterator[tuple[str, int]]:
    """AWS at a URL, and the process that it is."""
    port = free_port()
    # A function sees the environment of its host; nothing of ours may help it.
    environment = {"PATH": os.environ["PATH"], "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1"}
    process = subprocess.Popen(
        [python, "-m", "ministack"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(f"{url}/_ministack/health", process)
        yield url, process.pid
    finally:
        stop_process(process)


@dataclass(frozen=True)
class Deployment:
    """The functions and queues, and a client for each service."""

    s3: Any
    sqs: Any
    functions: Any
    environment: dict[str, str]

    def configure(self, function: str, **changes: str) -> None:
        """Deploy another environment; an empty value is none."""
        variables = {name: value for name, value in (self.environment | changes).items() if value}
        self.functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

    def rest_for(self, seconds: int) -> None:
        """Let a message whose delivery failed come again after so long."""
        url = self.sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})

    def count(self, queue: str) -> int:
        """Of the messages on a queue, seen or not."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["", "NotVisible", "Delayed"]
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
        )["Attributes"]
        return sum(map(int, attributes.values()))


@contextmanager
def deploy(aws_url: str, monolith_url: str, zip_path: Path) -> Iterator[Deployment]:
    """Buckets, queues, both functions from the zip, and the mappings that trigger them."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    s3, sqs = session.client("s3", endpoint_url=aws_url), session.client("sqs", endpoint_url=aws_url)
    functions: Any = session.client("lambda", endpoint_url=aws_url)
    create_aws_parts(aws_url)
    environment = {
        "AWS_ENDPOINT_URL": aws_url,
        "BULK_IMPORT_BASE_URL": monolith_url,
        "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
        "BULK_IMPORT_PAYLOADS_BUCKET": PAYLOADS_BUCKET,
        "BULK_IMPORT_FAILURES_BUCKET": FAILURES_BUCKET,
        "BULK_IMPORT_QUEUE_URL": sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"],
    }
    for function, queue in ((FUNCTION, QUEUE), (DEAD_LETTER_FUNCTION, DEAD_LETTER_QUEUE)):
        functions.create_function(
            FunctionName=function,
            Runtime=f"python{package.PYTHON}",
            Handler=HANDLERS[function],
            Role=ROLE,
            Code={"ZipFile": zip_path.read_bytes()},
            Timeout=FUNCTION_TIMEOUT_SECONDS,
            MemorySize=512,
            Environment={"Variables": environment},
        )
        functions.create_event_source_mapping(
            EventSourceArn=f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}",
            FunctionName=function,
            BatchSize=10,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            ScalingConfig={"MaximumConcurrency": 2},
        )
    yield Deployment(s3, sqs, functions, environment)
    for client in (s3, sqs, functions):
        client.close()
