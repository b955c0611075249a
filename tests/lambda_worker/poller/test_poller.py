"""The poller as a stranger meets it: `python -m lambda_worker` over the wire, against an SQS server.

What the handler does is told by the body of the message it gets, see `sample_handlers`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import httpx
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from demo.stack import free_port
from lambda_worker.poller.event_source import QueueError, check_queue
from lambda_worker.poller.poller import MalformedAnswerError, failed_message_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_sqs import SQSClient

HERE = Path(__file__).parents[1]
ROOT = HERE.parents[1]
REGION = "eu-central-1"
DEADLINE_SECONDS = 30
VISIBILITY_SECONDS = 120
"""Longer than any test: what comes again does so because the test put the clock forward, see `Queue.redeliver`."""

ROW_DATA = "never to be logged"

T = TypeVar("T")


def until(condition: Callable[[], T]) -> T:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


class Queue:
    """One queue and what a test does with it."""

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
        """Say how many messages can be received, and how many have been received and not deleted."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        visible, in_flight = (int(self.attribute(name)) for name in names)
        return visible, in_flight

    def is_empty(self) -> bool:
        return self.counts() == (0, 0)

    def redeliver(self, record: Mapping[str, Any]) -> None:
        """End the visibility time-out of a message that a handler was given."""
        self._sqs.change_message_visibility(
            QueueUrl=self.url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=0
        )

    def delete(self) -> None:
        self._sqs.delete_queue(QueueUrl=self.url)


class RunningPoller:
    """The process under test. Its log is a pipe, whose end proves that no process of it is left."""

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
            pytest.fail(f"{text!r} is not {times} times in the log:\n{self.log}")

    def notes(self, key: str) -> list[Any]:
        """Return what the handler has noted under a key so far."""
        path = self.directory / "notes.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [note[key] for note in map(json.loads, lines) if key in note]

    def records(self, invocations: int) -> list[dict[str, Any]]:
        """Wait for so many invocations to have ended, and return what the last of them was given."""
        self.logs("invocation ended", times=invocations)
        records: list[dict[str, Any]] = self.notes("event")[invocations - 1]["Records"]
        return records

    def signal_group(self, number: signal.Signals) -> None:
        """Signal all processes at once, as a terminal's Ctrl-C and many service managers do."""
        os.killpg(self._process.pid, number)

    def kill_parent(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)

    def exit_code(self) -> int:
        """Wait for the poller and all its processes to be gone."""
        code = self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        assert not self._reader.is_alive(), "a process is left"
        return code

    def stop(self) -> int:
        self.signal_group(signal.SIGTERM)
        return self.exit_code()

    def clear_away(self) -> None:
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
    """Start pollers with the given options instead of these."""
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
        poller.clear_away()


# The answer of the handler


@pytest.mark.parametrize(
    "answer",
    [None, "", {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}],
    ids=json.dumps,
)
def test_an_answer_that_names_no_failure_is_a_success_of_the_whole_batch(answer: object) -> None:
    """As AWS documents it; a missing list is an empty one."""
    assert failed_message_ids(answer, ["a", "b"]) == set()


@pytest.mark.parametrize("named", [["a"], ["a", "b"], ["b", "b"]], ids=json.dumps)
def test_an_answer_that_names_messages_is_a_failure_of_these_alone(named: list[str]) -> None:
    """The others are deleted."""
    answer = {"batchItemFailures": [{"itemIdentifier": name} for name in named]}
    assert failed_message_ids(answer, ["a", "b"]) == set(named)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        0,
        False,
        "done",
        {"batchItemFailures": {}},
        {"batchItemFailures": ""},
        {"batchItemFailures": "a"},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": 1}]},
        {"batchItemFailures": [{"itemIdentifier": ["a"]}]},
        {"batchItemFailures": [{"messageId": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": "of another batch"}]},
        {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": ""}]},
    ],
    ids=json.dumps,
)
def test_a_malformed_answer_is_a_failure_of_the_whole_batch(answer: object) -> None:
    """Nothing may be deleted on the word of a handler that cannot be understood."""
    with pytest.raises(MalformedAnswerError):
        failed_message_ids(answer, ["a", "b"])


# Invocations


def test_a_message_that_succeeds_is_deleted(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The plain case, with a warm second invocation in the same process."""
    queue.send(do="nothing")
    queue.send(do="nothing")

    poller = start()

    until(queue.is_empty)
    first, second = poller.notes("pid")
    assert first == second


def test_the_event_is_shaped_like_a_recorded_one(
    queue: Queue, sqs: SQSClient, start: Callable[..., RunningPoller]
) -> None:
    """The recording differs only in what differs from message to message."""
    recorded = json.loads((HERE / "events" / "sqs.json").read_text())
    sqs.send_message(
        QueueUrl=queue.url,
        MessageBody=recorded["Records"][0]["body"],
        MessageAttributes={
            "trace": {"DataType": "String", "StringValue": "0199-a"},
            "digest": {"DataType": "Binary", "BinaryValue": b"\x00\xff\x10"},
        },
    )

    (seen,) = start().records(1)

    (expected,) = recorded["Records"]
    for name in ("messageId", "receiptHandle"):
        assert isinstance(seen[name], str)
        expected[name] = seen[name]
    for name in ("SentTimestamp", "SenderId", "ApproximateFirstReceiveTimestamp"):
        assert isinstance(seen["attributes"][name], str)
        expected["attributes"][name] = seen["attributes"][name]
    assert expected["eventSourceARN"].startswith(f"arn:aws:sqs:{REGION}:")
    expected["eventSourceARN"] = queue.attribute("QueueArn")
    assert seen == expected


def test_the_context_names_the_invocation_and_counts_down(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """All that the handlers' Protocol promises; the time left begins at the function's time-out."""
    queue.send()

    poller = start(handler="sample_handlers.tell_context")

    (context,) = until(lambda: poller.notes("context"))
    assert uuid.UUID(context["aws_request_id"]).version == 4
    assert context["aws_request_id"] in poller.log
    assert context["invoked_function_arn"].endswith(f":function:{context['function_name']}")
    assert (context["function_version"], context["memory_limit_in_mb"]) == ("$LATEST", "1024")
    first, second = context["remaining"]
    assert 60_000 > first > second > 0


def test_only_the_failed_message_of_a_batch_comes_again(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The other is deleted at once; the failed one is left to its visibility time-out, and counted."""
    queue.send(do="nothing")
    failing = queue.send(do="fail")

    poller = start(batch_size=10)

    first, second = poller.records(1)
    assert queue.counts() == (0, 1)
    queue.redeliver(next(record for record in (first, second) if record["messageId"] == failing))
    (again,) = poller.records(2)
    assert again["messageId"] == failing
    assert again["attributes"]["ApproximateReceiveCount"] == "2"
    until(queue.is_empty)


@pytest.mark.parametrize(
    ("order", "reason", "is_new_process"),
    [
        ({"do": "answer", "answer": {"batchItemFailures": [{"itemIdentifier": ""}]}}, "itemIdentifier", False),
        ({"do": "answer"}, "TypeError", False),
        ({"do": "raise"}, "RuntimeError", False),
        ({"do": "exit"}, "crashed with exit code 3", True),
        ({"do": "crash"}, "crashed with exit code 7", True),
    ],
    ids=["malformed", "no JSON", "exception", "exit", "crash"],
)
def test_a_failed_invocation_brings_the_whole_batch_again(
    queue: Queue,
    start: Callable[..., RunningPoller],
    order: dict[str, Any],
    reason: str,
    is_new_process: bool,
) -> None:
    """Whichever way it fails; a process that died is replaced, one that lives is kept."""
    queue.send(do="nothing")
    queue.send(**order)

    poller = start(batch_size=10)

    records = poller.records(1)
    poller.logs(reason)
    assert queue.counts() == (0, 2)
    for record in records:
        queue.redeliver(record)
    until(queue.is_empty)
    pids = poller.notes("pid")
    assert (pids[0] != pids[-1]) == is_new_process


def test_an_invocation_that_runs_out_of_time_is_killed_and_the_next_one_works(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """The message that hung stays in flight; the next gets a process of its own."""
    queue.send(do="hang")

    poller = start(function_timeout=2)

    poller.logs("timed out after 2 s")
    queue.send(do="nothing")
    poller.records(2)
    until(lambda: queue.counts() == (0, 1))
    hung, fresh = poller.notes("pid")
    assert hung != fresh
    assert poller.stop() == 0


def test_a_handler_that_cannot_be_imported_receives_nothing_until_it_can(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """An init error costs no message an attempt."""
    queue.send()

    poller = start(handler="sample_broken_handler.handler")

    poller.logs("init error, nothing is received", times=2)
    assert queue.counts() == (1, 0)
    (poller.directory / "mended").touch()
    until(queue.is_empty)


def test_a_message_out_of_attempts_is_moved_to_the_dead_letter_queue(
    sqs: SQSClient, start: Callable[..., RunningPoller]
) -> None:
    """By SQS, as its redrive policy says."""
    dead_letters = Queue(sqs)
    redrive = {"deadLetterTargetArn": dead_letters.attribute("QueueArn"), "maxReceiveCount": 2}
    queue = Queue(sqs, RedrivePolicy=json.dumps(redrive))
    queue.send(do="raise", times=9)

    poller = start(queue_url=queue.url)

    for attempt in (1, 2):
        (record,) = poller.records(attempt)
        queue.redeliver(record)
    until(lambda: dead_letters.counts() == (1, 0))
    assert queue.is_empty()
    assert len(poller.notes("event")) == 2


def test_as_many_invocations_run_at_the_same_time_as_there_are_slots(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """Two wait in two processes for one signal, while a third message is left on the queue."""
    for _ in range(3):
        queue.send(do="wait")

    poller = start(concurrency=2)

    until(lambda: len(poller.notes("waiting")) == 2)
    assert queue.counts() == (1, 2)
    (poller.directory / "go").touch()
    until(queue.is_empty)
    assert len(set(poller.notes("pid"))) == 2


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_running_invocation_finish_and_receives_no_more(
    queue: Queue, start: Callable[..., RunningPoller], number: signal.Signals
) -> None:
    """Also when the signal reaches the handler's process; its answer is applied, the exit code is 0."""
    queue.send(do="wait")
    poller = start()
    until(lambda: poller.notes("waiting"))
    queue.send(do="nothing")

    poller.signal_group(number)
    poller.logs("stopping")
    (poller.directory / "go").touch()

    assert poller.exit_code() == 0
    assert queue.counts() == (1, 0)


def status(port: int, path: str) -> int | None:
    """None while nobody answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code
    except httpx.TransportError:
        return None


def test_a_platform_is_told_of_the_pollers_health(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    port = free_port()
    poller = start(health_port=port)
    until(lambda: status(port, "/ready") == 200)
    assert status(port, "/live") == 200
    assert status(port, "/") == 404

    queue.send(do="wait")
    until(lambda: poller.notes("waiting"))
    poller.signal_group(signal.SIGTERM)
    until(lambda: status(port, "/ready") == 503)

    assert status(port, "/live") == 200, "it ends its invocation"
    (poller.directory / "go").touch()
    assert poller.exit_code() == 0


def test_a_poller_without_sqs_is_alive_and_not_ready(start: Callable[..., RunningPoller]) -> None:
    port = free_port()
    poller = start(endpoint="http://127.0.0.1:9", health_port=port)
    poller.logs("SQS is away")

    assert (status(port, "/live"), status(port, "/ready")) == (200, 503)


def test_a_health_port_that_is_taken_is_an_error(start: Callable[..., RunningPoller]) -> None:
    with socket.create_server(("", 0)) as taken:
        poller = start(health_port=taken.getsockname()[1])

        assert poller.exit_code() == 2


def test_every_line_is_json_where_that_is_asked_for(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    poller = start(json_logs=True)
    queue.send(do="nothing")
    poller.logs("invocation ended")

    lines = [json.loads(line) for line in poller.log.splitlines()]
    assert {"timestamp", "level", "logger", "message"} <= lines[0].keys()
    (ended,) = [line for line in lines if line["message"].startswith("invocation ended")]
    assert ended["request_id"] in ended["message"]
    assert ROW_DATA not in poller.log


def test_a_second_signal_waits_for_nothing(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The invocation is killed, its message left to come again."""
    queue.send(do="hang")
    poller = start()
    until(lambda: poller.notes("pid"))

    poller.signal_group(signal.SIGTERM)
    poller.logs("stopping")
    poller.signal_group(signal.SIGTERM)

    assert poller.exit_code() == 128 + signal.SIGTERM
    assert queue.counts() == (0, 1)


def test_a_message_received_after_the_stop_is_handed_back_at_once(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """The long poll that was running when the signal came can still bring one."""
    poller = start(wait_seconds=20)
    poller.logs("ready")

    poller.signal_group(signal.SIGTERM)
    poller.logs("stopping")
    message_id = queue.send(do="nothing")

    assert poller.exit_code() == 0
    assert f"handed back message={message_id}" in poller.log
    assert queue.counts() == (1, 0)
    assert not poller.notes("event")


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_a_poller_killed_leaves_no_process(queue: Queue, start: Callable[..., RunningPoller], busy: bool) -> None:
    """The handler's process notices, also in the middle of an invocation."""
    poller = start()
    if busy:
        queue.send(do="hang")
        until(lambda: poller.notes("pid"))
    poller.logs("ready")

    poller.kill_parent()

    assert poller.exit_code() == -signal.SIGKILL


# What the queue is like, or that it is not there


def test_a_queue_that_aws_would_refuse_is_refused(start: Callable[..., RunningPoller]) -> None:
    """A visibility time-out below the function's would run a message twice at the same time."""
    poller = start(function_timeout=VISIBILITY_SECONDS + 1)

    assert poller.exit_code() == 2
    assert "visibility time-out (120 s) is less than the function's time-out (121 s)" in poller.log


def test_a_queue_that_does_not_exist_is_an_error(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """Waiting for it would hide a mistyped URL."""
    poller = start(queue_url=queue.url + "x")

    assert poller.exit_code() == 2
    assert "the queue does not exist" in poller.log


def test_an_aws_that_is_not_configured_is_an_error(start: Callable[..., RunningPoller]) -> None:
    """Here an endpoint that is no URL."""
    poller = start(endpoint="nonsense")

    assert poller.exit_code() == 2
    assert "AWS is not configured" in poller.log


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("queue_url", "", "BULK_IMPORT_QUEUE_URL"),
        ("batch_size", "11", "from 1 to 10"),
        ("handler", "handler", "dotted path"),
    ],
)
def test_an_impossible_option_is_an_error(
    start: Callable[..., RunningPoller], option: str, value: str, complaint: str
) -> None:
    """Before anything is polled."""
    poller = start(**{option: value})

    assert poller.exit_code() == 2
    assert complaint in poller.log


@pytest.mark.parametrize(
    ("attributes", "warnings"),
    [
        ({"VisibilityTimeout": "60", "RedrivePolicy": '{"maxReceiveCount": 5}'}, []),
        ({"VisibilityTimeout": "59", "RedrivePolicy": '{"maxReceiveCount": "5"}'}, ["less than 6 times"]),
        ({"VisibilityTimeout": "60", "RedrivePolicy": '{"maxReceiveCount": 4}'}, ["(4) is less than 5"]),
        ({"VisibilityTimeout": "10"}, ["less than 6 times", "no RedrivePolicy"]),
    ],
)
def test_a_queue_that_aws_advises_against_is_warned_of(
    caplog: pytest.LogCaptureFixture, attributes: dict[str, str], warnings: list[str]
) -> None:
    """With a function time-out of 10 s."""
    check_queue(attributes, function_timeout_seconds=10)

    assert len(caplog.messages) == len(warnings)
    assert all(warning in message for warning, message in zip(warnings, caplog.messages, strict=True))


def test_a_visibility_below_the_function_time_out_is_refused() -> None:
    """By one second."""
    with pytest.raises(QueueError):
        check_queue({"VisibilityTimeout": "9"}, function_timeout_seconds=10)


def test_sqs_may_be_away_at_the_start_and_later(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """Each time the poller waits and goes on. (All servers of this process share their queues.)"""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    poller = start(endpoint=f"http://127.0.0.1:{port}")
    outages = 0
    for order in ("first", "second"):
        poller.logs("SQS is away", times=outages + 1)
        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        queue.send(do=order)
        until(queue.is_empty)
        server.stop()
        outages = poller.log.count("SQS is away")

    assert len(poller.notes("event")) == 2


def test_a_queue_deleted_meanwhile_is_no_reason_to_crash(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """Neither for the acknowledgement nor for the next receive; it may be created again."""
    queue.send(do="wait")
    poller = start()
    until(lambda: poller.notes("waiting"))

    queue.delete()
    (poller.directory / "go").touch()

    poller.logs("not deleted, will come again")
    poller.logs("SQS is away", times=2)
    assert poller.stop() == 0
