"""What the worker asks SQS for so that a message is delivered again. If SQS is away, nothing is lost."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import_wire.message import FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS
from lambda_worker.redelivery import MAX_DELAY_SECONDS, defer, give_up, retry_later
from tests.lambda_worker.conftest import QUEUE_ARN, HttpServer, Queue, Reply, json_reply, serving, sqs_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient

    from lambda_worker.events import SqsRecord

QUEUE_URL = "http://queue.example/1/chunks"
BODY = "the body"


def a_record(receive_count: int = 1) -> SqsRecord:
    return {
        "messageId": "id",
        "receiptHandle": "handle",
        "body": BODY,
        "attributes": {"ApproximateReceiveCount": str(receive_count)},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE_ARN,
        "awsRegion": "us-east-1",
    }


@contextmanager
def an_sqs(reply: Reply) -> Iterator[tuple[SQSClient, HttpServer]]:
    """Yield a client of an SQS that answers every request with this reply, and its server."""
    with serving(lambda _request: reply) as server, sqs_at(server.url) as sqs:
        yield sqs, server


def asked(server: HttpServer) -> tuple[str, dict[str, Any]]:
    """Return the action and the parameters of the only request."""
    (request,) = server.requests
    return request.headers["X-Amz-Target"].rpartition(".")[2], json.loads(request.body)


@pytest.mark.parametrize(
    ("seconds", "delay"),
    [(0, 0), (0.2, 1), (30, 30), (MAX_DELAY_SECONDS, MAX_DELAY_SECONDS), (5000, MAX_DELAY_SECONDS)],
)
def test_a_copy_is_sent_with_the_requested_delay_rounded_up(seconds: float, delay: int) -> None:
    with an_sqs(json_reply(200, {"MessageId": "copy"})) as (sqs, server):
        assert defer(sqs, QUEUE_URL, a_record(), seconds)

        sent = {"QueueUrl": QUEUE_URL, "MessageBody": BODY, "MessageAttributes": {}, "DelaySeconds": delay}
        assert asked(server) == ("SendMessage", sent)


def test_the_copy_stays_in_the_group_of_its_submitter() -> None:
    """A queue without fair queues delivers no group, and then the copy has none; see the test above."""
    record = a_record()
    record["attributes"]["MessageGroupId"] = "ana"
    with an_sqs(json_reply(200, {"MessageId": "copy"})) as (sqs, server):
        assert defer(sqs, QUEUE_URL, record, 5)

        assert asked(server)[1]["MessageGroupId"] == "ana"


def test_the_copy_has_all_its_deliveries_left(queue: Queue) -> None:
    queue.send(BODY)
    (record,) = queue.receive()

    assert defer(queue.sqs, queue.url, record, 0)

    (copy,) = queue.receive()
    assert copy["messageId"] != record["messageId"]
    assert (copy["body"], copy["attributes"]["ApproximateReceiveCount"]) == (BODY, "1")


AWAY = pytest.mark.parametrize(
    "reply",
    [
        Reply(cut_at=-1),
        Reply(503),
        Reply(500, b"<html>"),
        json_reply(400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "gone"}),
        json_reply(403, {"__type": "AccessDenied"}),
    ],
    ids=["no answer", "503", "nonsense", "no queue", "denied"],
)


@AWAY
def test_when_sqs_does_not_accept_the_copy_the_message_may_not_be_deleted(
    reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with an_sqs(reply) as (sqs, _server):
        assert not defer(sqs, QUEUE_URL, a_record(), 5)

    assert "copy of message id" in caplog.text
    assert BODY not in caplog.text


@AWAY
def test_when_the_visibility_cannot_be_set_the_worker_logs_it(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    with an_sqs(reply) as (sqs, _server):
        retry_later(sqs, QUEUE_URL, a_record())
        give_up(sqs, QUEUE_URL, a_record())

    assert caplog.text.count("visibility of message id cannot be set") == 2


def visibility_after(receive_count: int) -> int:
    with an_sqs(json_reply(200, {})) as (sqs, server):
        retry_later(sqs, QUEUE_URL, a_record(receive_count))
    action, parameters = asked(server)
    assert (action, parameters["ReceiptHandle"]) == ("ChangeMessageVisibility", "handle")
    seconds: int = parameters["VisibilityTimeout"]
    return seconds


def test_the_wait_after_a_failed_delivery_grows_up_to_the_maximum() -> None:
    waits = [visibility_after(receive_count) for receive_count in range(1, 8)]

    assert waits[0] == FIRST_RETRY_SECONDS
    assert waits == sorted(waits)
    assert waits[1] > waits[0]
    assert waits[-1] == MAX_RETRY_SECONDS


def test_a_message_that_is_given_up_can_be_received_at_once(queue: Queue) -> None:
    queue.send(BODY)
    (record,) = queue.receive()
    assert queue.receive() == []

    give_up(queue.sqs, queue.url, record)

    (again,) = queue.receive()
    assert (again["messageId"], again["attributes"]["ApproximateReceiveCount"]) == (record["messageId"], "2")
