"""AWS on one machine, with the stack of the template on it: ministack runs the zip behind SQS' real trigger.

What of it is not AWS's: no IAM, no batching window, and a malformed answer of a function counts as success (the tests
under `runtime` and those of the poller see to that).
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import boto3

from demo.stack import (
    DEAD_LETTER_QUEUE,
    FAILURES_BUCKET,
    PAYLOADS_BUCKET,
    QUEUE,
    await_answer,
    free_port,
    stop_process,
)
from settings.known_secrets import WORKER_SECRET
from tests.lambda_worker.sam_template import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STACK = "bulk-import"
FUNCTION = f"{STACK}-worker"
DEAD_LETTER_FUNCTION = f"{STACK}-dead-letters"
FUNCTION_TIMEOUT_SECONDS = 4
BATCH_SIZE = 10
PACKAGES_BUCKET, PACKAGE_KEY = "packages", "lambda_worker.zip"  # where the expanded template looks for the code


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

    def queue(self, name: str) -> dict[str, str]:
        """All attributes of a queue."""
        url = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes: dict[str, str] = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return attributes

    def count(self, queue: str) -> int:
        """Of the messages on a queue, seen or not."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["", "NotVisible", "Delayed"]
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
        )["Attributes"]
        return sum(map(int, attributes.values()))


def as_ministack_takes_it(aws_url: str) -> dict[str, Any]:
    """The expanded template, with all that differs from what AWS gets."""
    template = expanded()
    resources = template["Resources"]
    # ministack knows alarms of one metric only, and no dashboards.
    del resources["DeadLettersStay"], resources["Dashboard"]
    # The monolith of the tests is configured before there is a stack to tell the names.
    resources["PayloadsBucket"]["Properties"]["BucketName"] = PAYLOADS_BUCKET
    resources["FailuresBucket"]["Properties"]["BucketName"] = FAILURES_BUCKET
    resources["Queue"]["Properties"]["QueueName"] = QUEUE
    resources["DeadLetterQueue"]["Properties"]["QueueName"] = DEAD_LETTER_QUEUE
    # A time-out of a minute would be waited for.
    resources["WorkerFunction"]["Properties"]["Timeout"] = FUNCTION_TIMEOUT_SECONDS
    for function in ("WorkerFunction", "DeadLetterFunction"):
        resources[function]["Properties"]["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = aws_url
    # Parameters arrive as texts, also where they are numbers, and ministack calculates with them as they are.
    numbers = {
        name: int(parameter["Default"])
        for name, parameter in template["Parameters"].items()
        if parameter["Type"] == "Number"
    }
    taken: dict[str, Any] = put_in(template, numbers | {"BatchSize": BATCH_SIZE})
    return taken


def put_in(node: Any, numbers: dict[str, int]) -> Any:
    """The template with numbers in place of the references to them."""
    if isinstance(node, list):
        return [put_in(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Ref"} and node["Ref"] in numbers:
        return numbers[node["Ref"]]
    return {name: put_in(item, numbers) for name, item in node.items()}


@contextmanager
def deploy(aws_url: str, monolith_url: str, zip_path: Path) -> Iterator[Deployment]:
    """The stack of the template, with the zip for its functions."""
    session = boto3.Session("local", "local", region_name="us-east-1")
    with ExitStack() as clients:

        def client(service: Any) -> Any:
            return clients.enter_context(closing(session.client(service, endpoint_url=aws_url)))

        s3, stacks, secrets = client("s3"), client("cloudformation"), client("secretsmanager")
        s3.create_bucket(Bucket=PACKAGES_BUCKET)
        s3.put_object(Bucket=PACKAGES_BUCKET, Key=PACKAGE_KEY, Body=zip_path.read_bytes())
        parameters = {"BaseUrl": monolith_url, "FunctionTimeoutSeconds": "60"}
        stacks.create_stack(
            StackName=STACK,
            TemplateBody=json.dumps(as_ministack_takes_it(aws_url)),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        stacks.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        functions = client("lambda")
        environment = functions.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
        secret_id = environment["BULK_IMPORT_WORKER_SECRET_ID"]
        secrets.put_secret_value(SecretId=secret_id, SecretString=WORKER_SECRET)  # for the generated one
        yield Deployment(s3, client("sqs"), functions, environment)
