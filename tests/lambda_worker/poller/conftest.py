"""Starts `python -m lambda_worker` as a separate process, against an SQS server.

The body of each message says what the handler does with it; see `sample_handlers`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]
REGION = "eu-central-1"
DEADLINE_SECONDS = 60
VISIBILITY_SECONDS = 120
"""Longer than any test: a message is redelivered only because the test ends its visibility; see `Queue.redeliver`."""

ROW_DATA = "must not be logged"

T = TypeVar("T")


def until(condition: Callable[[], T]) -> T:
    """Wait until the condition returns a true value, and return that value."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)
    return value


class Queue:
    """One queue, and the actions of a test on it."""

    def __init__(self, sqs: SQSClient, **attributes: str) -> None:
        self._sqs = sqs
        self.url = sqs.create_queue(
            QueueName=f"chunks-{uuid.uuid4()}",
            Attributes={"VisibilityTimeout": str(VISIBILITY_SECONDS), **attributes},  # type: ignore[dict-item]
        )["QueueUrl"]

    def send(self, **order: Any) -> str:
        body = json.dumps({**order, "row": ROW_DATA})
        return self._sqs.send_message(QueueUrl=self.url, MessageBody=body)["MessageId"]

    def attribute(self, name: str) -> str:
        answer = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        return answer["Attributes"][name]  # type: ignore[index]

    def counts(self) -> tuple[int, int]:
        """Return how many messages can be received, and how many have been received but not deleted."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        visible, in_flight = (int(self.attribute(name)) for name in names)
        return visible, in_flight

    def is_empty(self) -> bool:
        return self.counts() == (0, 0)

    def redeliver(self, record: Mapping[str, Any]) -> None:
        """End the visibility timeout of a message that a handler received, so that SQS redelivers it."""
        self._sqs.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
        )

    def delete(self) -> None:
        self._sqs.delete_queue(QueueUrl=self.url)


class RunningPoller:
    """The process under test. Its log is a pipe: when the pipe ends, no process of the poller is left."""

    def __init__(self, *arguments: str, queue_url: str, endpoint: str, directory: Path) -> None:
        self.directory = directory
        self.log = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lambda_worker", *arguments],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(HERE),
                "SAMPLE_DIRECTORY": str(directory),
                "BULK_IMPORT_QUEUE_URL": queue_url,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            },
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line

    def logs(self, text: str, times: int = 1) -> None:
        try:
            until(lambda: self.log.count(text) >= times)
        except AssertionError:
            pytest.fail(f"{text!r} does not occur {times} times in the log:\n{self.log}")

    def notes(self, key: str) -> list[Any]:
        """Return the values that the handler has noted under a key so far."""
        path = self.directory / "notes.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [note[key] for note in map(json.loads, lines) if key in note]

    def records(self, invocations: int) -> list[dict[str, Any]]:
        """Wait until that many invocations have ended, and return the records of the last one."""
        self.logs("invocation ended", times=invocations)
        records: list[dict[str, Any]] = self.notes("event")[invocations - 1]["Records"]
        return records

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to all processes at once, as a terminal's Ctrl-C and many service managers do."""
        os.killpg(self._process.pid, number)

    def signal_thread(self, number: signal.Signals) -> None:
        """Let the poller's newest thread receive a signal."""
        newest = max(int(task.name) for task in Path(f"/proc/{self._process.pid}/task").iterdir())
        assert newest != self._process.pid, "there is only the main thread"
        os.kill(newest, number)

    def kill_parent(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)

    def exit_code(self) -> int:
        """Wait until the poller and all its processes have ended, and return the poller's exit code."""
        code = self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        assert not self._reader.is_alive(), "a process still runs"
        return code

    def stop(self) -> int:
        self.signal_group(signal.SIGTERM)
        return self.exit_code()

    def clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal_group(signal.SIGKILL)
        self.exit_code()
        assert self._process.stderr is not None
        self._process.stderr.close()
        assert ROW_DATA not in self.log


@pytest.fixture(scope="module", autouse=True)
def _quiet_server() -> Iterator[None]:
    werkzeug = logging.getLogger("werkzeug")
    level = werkzeug.level
    werkzeug.setLevel(logging.ERROR)
    yield
    werkzeug.setLevel(level)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="module")
def sqs(endpoint: str) -> Iterator[SQSClient]:
    client = boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@pytest.fixture
def queue(sqs: SQSClient) -> Queue:
    return Queue(sqs)


@pytest.fixture
def start(endpoint: str, queue: Queue, tmp_path: Path) -> Iterator[Callable[..., RunningPoller]]:
    """Start pollers. The given options replace the defaults of the test."""
    pollers = []

    def start(endpoint: str = endpoint, **options: object) -> RunningPoller:
        options = {
            "handler": "sample_handlers.behave",
            "function_timeout": 60,
            "wait_seconds": 0,
            **options,
        }
        flags = {name: value for name, value in options.items() if value is not True}
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        arguments += [f"--{name.replace('_', '-')}" for name in options if name not in flags]
        pollers.append(RunningPoller(*arguments, queue_url=queue.url, endpoint=endpoint, directory=tmp_path))
        return pollers[-1]

    yield start
    for poller in pollers:
        poller.clean_up()
