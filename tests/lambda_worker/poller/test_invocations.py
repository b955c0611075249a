"""How the poller runs the handler, and what becomes of its messages."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.lambda_worker.poller.conftest import HERE, REGION, ROW_DATA, Queue, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_sqs import SQSClient

    from tests.lambda_worker.poller.conftest import RunningPoller


def test_a_successful_message_is_deleted(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The second invocation is a warm start in the same process."""
    queue.send(do="nothing")
    queue.send(do="nothing")

    poller = start()

    until(queue.is_empty)
    first, second = poller.notes("pid")
    assert first == second


def test_the_event_has_the_format_of_a_recorded_lambda_event(
    queue: Queue, sqs: SQSClient, start: Callable[..., RunningPoller]
) -> None:
    """It differs from the recording only in the values that differ between messages."""
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


def test_the_context_has_the_request_id_and_counts_down(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The context has all attributes of the protocol. The remaining time starts at the function's timeout."""
    queue.send()

    poller = start(handler="sample_handlers.tell_context")

    (context,) = until(lambda: poller.notes("context"))
    assert uuid.UUID(context["aws_request_id"]).version == 4
    assert context["aws_request_id"] in poller.log
    assert context["invoked_function_arn"].endswith(f":function:{context['function_name']}")
    assert (context["function_version"], context["memory_limit_in_mb"]) == ("$LATEST", "1024")
    first, second = context["remaining"]
    assert 60_000 > first > second > 0


def test_only_the_failed_message_of_a_batch_is_redelivered(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The other message is deleted. The failed one comes again after its visibility timeout, with a higher count."""
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
    ids=["malformed", "not JSON", "exception", "exit", "crash"],
)
def test_a_failed_invocation_redelivers_the_whole_batch(
    queue: Queue,
    start: Callable[..., RunningPoller],
    order: dict[str, Any],
    reason: str,
    is_new_process: bool,
) -> None:
    """A new process replaces one that died. A process that is still alive is used again."""
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


def test_an_invocation_that_exceeds_its_timeout_is_killed_and_the_next_one_works(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """The message of the killed invocation stays in flight. The next message gets a new process."""
    queue.send(do="hang")

    poller = start(function_timeout=2)

    poller.logs("timed out after 2 s")
    queue.send(do="nothing")
    poller.records(2)
    until(lambda: queue.counts() == (0, 1))
    hung, fresh = poller.notes("pid")
    assert hung != fresh
    assert poller.stop() == 0


def test_no_message_is_received_until_the_handler_can_be_imported(
    queue: Queue, start: Callable[..., RunningPoller]
) -> None:
    """An init error does not use up a delivery of any message."""
    queue.send()

    poller = start(handler="sample_broken_handler.handler")

    poller.logs("init error, no message is received", times=2)
    assert queue.counts() == (1, 0)
    (poller.directory / "fixed").touch()
    until(queue.is_empty)


def test_after_max_receive_count_deliveries_sqs_moves_a_message_to_the_dead_letter_queue(
    sqs: SQSClient, start: Callable[..., RunningPoller]
) -> None:
    """SQS does this because of the queue's redrive policy, without help from the poller."""
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


def test_one_invocation_per_slot_runs_at_the_same_time(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """Two invocations wait in two processes, while a third message stays on the queue."""
    for _ in range(3):
        queue.send(do="wait")

    poller = start(concurrency=2)

    until(lambda: len(poller.notes("waiting")) == 2)
    assert queue.counts() == (1, 2)
    (poller.directory / "go").touch()
    until(queue.is_empty)
    assert len(set(poller.notes("pid"))) == 2


def test_with_json_logs_every_line_is_json(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    poller = start(json_logs=True)
    queue.send(do="nothing")
    poller.logs("invocation ended")

    lines = [json.loads(line) for line in poller.log.splitlines()]
    assert {"timestamp", "level", "logger", "message"} <= lines[0].keys()
    (ended,) = [line for line in lines if line["message"].startswith("invocation ended")]
    assert ended["request_id"] in ended["message"]
    assert ROW_DATA not in poller.log
