"""Deploys the template's stack to ministack, which emulates AWS on one machine and triggers the zip from SQS.

ministack differs from AWS: it has no IAM and no batching window, and treats a malformed answer of a function as a
success. The tests in `runtime` and those of the poller cover malformed answers.
"""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import boto3

from bulk_import.local.processes import await_answer, free_port, stop_process
from demo.stack import DEAD_LETTER_QUEUE, FAILURES_BUCKET, PAYLOADS_BUCKET, QUEUE
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
    """Start ministack. Yields its URL and its process ID."""
    port = free_port()
    # ministack passes its environment on to the functions, so it must not contain our variables.
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
    """The deployed functions and queues, with a client for each service."""

    s3: Any
    sqs: Any
    functions: Any
    environment: dict[str, str]

    def configure(self, function: str, **changes: str) -> None:
        """Change environment variables of a function. An empty value removes the variable."""
        variables = {name: value for name, value in (self.environment | changes).items() if value}
        self.functions.update_function_configuration(FunctionName=function, Environment={"Variables": variables})

    def set_visibility_timeout(self, seconds: int) -> None:
        """Set how long SQS waits before it redelivers a message whose delivery failed."""
        url = self.sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
        self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": str(seconds)})

    def queue(self, name: str) -> dict[str, str]:
        """Return all attributes of a queue."""
        url = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        attributes: dict[str, str] = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return attributes

    def count(self, queue: str) -> int:
        """Return the number of messages on a queue: visible, in flight or delayed."""
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["", "NotVisible", "Delayed"]
        attributes = self.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=[f"ApproximateNumberOfMessages{name}" for name in names]
        )["Attributes"]
        return sum(map(int, attributes.values()))


def as_ministack_takes_it(aws_url: str) -> dict[str, Any]:
    """Return the expanded template, with the changes that ministack and the tests need."""
    template = expanded()
    resources = template["Resources"]
    # ministack supports neither alarms with several metrics nor dashboards.
    del resources["DeadLettersStay"], resources["Dashboard"]
    # The test's monolith is configured before the stack exists, so the names must be fixed.
    resources["PayloadsBucket"]["Properties"]["BucketName"] = PAYLOADS_BUCKET
    resources["FailuresBucket"]["Properties"]["BucketName"] = FAILURES_BUCKET
    resources["Queue"]["Properties"]["QueueName"] = QUEUE
    resources["DeadLetterQueue"]["Properties"]["QueueName"] = DEAD_LETTER_QUEUE
    # The test's monolith has no TLS, and ministack checks this pattern as AWS does.
    del template["Parameters"]["BaseUrl"]["AllowedPattern"]
    # A short timeout, so that the tests do not wait for a minute.
    resources["WorkerFunction"]["Properties"]["Timeout"] = FUNCTION_TIMEOUT_SECONDS
    for function in ("WorkerFunction", "DeadLetterFunction"):
        resources[function]["Properties"]["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = aws_url
    # ministack does not convert parameters of the type Number, so replace them with numbers.
    numbers = {
        name: int(parameter["Default"])
        for name, parameter in template["Parameters"].items()
        if parameter["Type"] == "Number"
    }
    taken: dict[str, Any] = replace_parameters(template, numbers | {"BatchSize": BATCH_SIZE})
    return taken


def replace_parameters(node: Any, numbers: dict[str, int]) -> Any:
    """Return the template with references to these parameters replaced by numbers."""
    if isinstance(node, list):
        return [replace_parameters(item, numbers) for item in node]
    if not isinstance(node, dict):
        return node
    if node.keys() == {"Ref"} and node["Ref"] in numbers:
        return numbers[node["Ref"]]
    return {name: replace_parameters(item, numbers) for name, item in node.items()}


@contextmanager
def deploy(aws_url: str, monolith_url: str, zip_path: Path) -> Iterator[Deployment]:
    """Create the stack, with the zip as the code of its functions."""
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
        secrets.put_secret_value(SecretId=secret_id, SecretString=WORKER_SECRET)  # replaces the generated secret
        yield Deployment(s3, client("sqs"), functions, environment)
