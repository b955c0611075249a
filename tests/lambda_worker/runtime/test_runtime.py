"""The deployed zip with Lambda's own runtime client, against a fake Runtime API."""

from __future__ import annotations

import json
import resource
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from lambda_worker import package
from lambda_worker.config import REQUIRED
from tests.lambda_worker.conftest import (
    JOB_ID,
    TOKEN,
    WORKER_SECRET,
    Buckets,
    Monolith,
    Queue,
    Reply,
    a_message,
    a_row,
    json_reply,
)
from tests.lambda_worker.runtime.runtime_api import START_SECONDS, Function, FunctionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUEUE_HANDLER, DEAD_LETTER_HANDLER = package.HANDLERS
ROWS = [a_row(index) for index in range(4)]


@pytest.fixture
def start(
    runtime_python: Path, task_root: Path, function_environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Function]]:
    """Start functions. They do not see the environment of this process."""
    with ExitStack() as functions:

        def start(handler: str = QUEUE_HANDLER, **changes: str) -> Function:
            environment = {name: value for name, value in (function_environment | changes).items() if value}
            return functions.enter_context(Function(runtime_python, task_root, tmp_path / "log", handler, environment))

        yield start
    log = (tmp_path / "log").read_text()
    assert WORKER_SECRET not in log
    assert TOKEN not in log
    assert "TENT-" not in log  # the SKU of a row


def test_one_cold_start_serves_two_invocations(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    function = start()

    for first_index in (0, 10):
        queue.send(buckets.store(ROWS, first_index=first_index).encode())
        assert queue.deliver(function) == []

    assert function.inits == 1
    assert monolith.indexes == [0, 1, 2, 3, 10, 11, 12, 13]
    assert len(monolith.finishes) == 2
    assert (queue.waiting, queue.resting) == (0, 0)
    metrics = [json.loads(line) for line in function.log.splitlines() if line.startswith('{"_aws"')]
    assert [(line["RowsCreated"], line["Calls"]) for line in metrics] == [(4, 4), (4, 4)]


def test_only_the_messages_that_failed_are_redelivered(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    good, lost = buckets.store(ROWS), a_message(bucket=buckets.payloads, key="gone.jsonl")
    queue.send(lost.encode(), good.encode(), "no message")

    assert sorted(queue.deliver(start())) == sorted([lost.encode(), "no message"])
    assert len(monolith.finishes) == 1


MALFORMED = {
    "html": Reply(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"}),
    "other-json": json_reply(200, {"epoch": "one"}),
    "deep": Reply(200, b"[" * 50_000),
    "cut-off": Reply(200, b'{"epoch": 1, "token": "', {"Content-Length": "4000"}, cut_at=20),
}


@pytest.mark.parametrize("call", ["claim", "finish"])
@pytest.mark.parametrize("reply", MALFORMED.values(), ids=MALFORMED)
def test_after_a_malformed_answer_of_the_worker_api_no_message_is_lost(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue, *, call: str, reply: Reply
) -> None:
    """The message, or a copy, is delivered again. The process survives, and the next delivery completes the chunk."""
    message = buckets.store(ROWS)
    queue.send(message.encode())
    function = start()
    monolith.replies = {call: [reply]}

    function.timeout_seconds = 8
    queue.deliver(function)

    assert monolith.finishes == []
    assert queue.resting + queue.delayed + queue.waiting == 1
    monolith.replies = {}
    function.timeout_seconds = 60
    if not queue.waiting:  # the message is delivered again later; do not wait for it
        queue.send(message.encode())
    assert queue.deliver(function) == []
    assert monolith.indexes == [0, 1, 2, 3]
    assert len(monolith.finishes) == 1
    assert function.inits == 1


def test_a_201_without_a_verdict_does_not_count_as_created(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    """A later delivery continues the chunk."""
    monolith.replies = {index: [Reply(201, b"<html>")] for index in range(len(ROWS))}
    queue.send(buckets.store(ROWS).encode())
    function = start()
    function.timeout_seconds = 8

    queue.deliver(function)

    assert monolith.finishes == []
    assert queue.resting + queue.delayed + queue.waiting == 1


def test_when_the_time_is_over_a_copy_continues_with_the_remaining_rows(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    """The worker sends no row after the deadline of the Runtime API, and answers before Lambda would kill it."""
    never = threading.Event()
    rows = [a_row(index) for index in range(50)]
    refused = json_reply(400, {"message": "No."}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
    monolith.replies = {1: [refused], **{index: [Reply(after=never)] for index in range(3, 50)}}
    queue.send(buckets.store(rows).encode())
    function = start()
    function.timeout_seconds = 12

    assert queue.deliver(function) == []

    assert function.inits == 1
    assert monolith.finishes == []
    assert len(monolith.releases) == 1
    assert len(monolith.creates) < len(rows)
    assert (queue.waiting, queue.resting) == (1, 0)
    never.set()
    monolith.replies = {}
    function.timeout_seconds = 60
    assert queue.deliver(function) == []
    assert monolith.indexes == [index for index in range(50) if index != 1]
    (finish,) = monolith.finishes
    assert finish["rejected"] == 1


def test_when_the_time_is_over_before_any_row_the_message_is_redelivered(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    never = threading.Event()
    monolith.replies = {index: [Reply(after=never)] for index in range(len(ROWS))}
    body = buckets.store(ROWS).encode()
    queue.send(body)
    function = start()
    function.timeout_seconds = 8

    assert queue.deliver(function) == [body]

    assert monolith.finishes == []
    assert queue.resting == 1
    never.set()


def test_a_function_that_runs_out_of_memory_acknowledges_nothing(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    """The payload does not fit into the process's memory limit. Without the limit it does."""
    queue.send(buckets.store(ROWS).encode())
    function = start()
    assert queue.deliver(function) == []
    assert function.process
    big = b'{"sku":"TENT-9","name":"' + b"x" * 2_000_000 + b'"}'
    body = buckets.store([big] * 40, first_index=10).encode()
    queue.send(body)
    pages = int(Path(f"/proc/{function.process.pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 20_000_000
    resource.prlimit(function.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    with pytest.raises(FunctionFailed):
        queue.deliver(function)

    assert len(monolith.finishes) == 1
    assert queue.resting == 1
    function.stop()
    queue.send(body)
    assert queue.deliver(function) == []
    assert monolith.indexes == [*range(4), *range(10, 50)]


@pytest.mark.parametrize("handler", [QUEUE_HANDLER, DEAD_LETTER_HANDLER])
def test_missing_configuration_is_reported_at_init(start: Callable[..., Function], handler: str) -> None:
    """The error lists all missing variables, before any invocation can fail."""
    missing = dict.fromkeys(REQUIRED, "")
    function = start(handler, **missing)

    assert function.start().wait(START_SECONDS) != 0

    (error,) = function.init_errors
    assert error["errorType"] == "ConfigurationError"
    assert all(name in error["errorMessage"] for name in REQUIRED)


def test_the_dead_letter_handler_reports_the_chunk_as_dead(
    start: Callable[..., Function], monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    """It acknowledges the message that it reported, and only that one."""
    queue.send(buckets.store(ROWS).encode(), "no message")

    assert queue.deliver(start(DEAD_LETTER_HANDLER)) == ["no message"]

    (dead,) = monolith.deads
    assert dead["unprocessed"] == len(ROWS)
    lines: list[dict[str, Any]] = buckets.failure_lines(dead["failures_key"])
    assert [line["row"] for line in lines] == [json.loads(row) for row in ROWS]
    assert f"{JOB_ID}:0" not in monolith.ledger
