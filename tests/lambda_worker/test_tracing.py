"""Every call for a message carries the trace of the POST and the ID of the invocation."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest

from bulk_import_wire.logs import JsonFormatter, LogContextFilter
from lambda_worker import dead_letter
from lambda_worker.handler import handler
from lambda_worker.redelivery import defer
from lambda_worker.tracing import traceparent_of
from tests.lambda_worker.conftest import Buckets, Context, HttpServer, Monolith, Queue, a_row

if TYPE_CHECKING:
    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.events import SqsRecord

pytestmark = pytest.mark.usefixtures("_no_backoff", "_environment")

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.fixture
def message(buckets: Buckets) -> ChunkMessage:
    return buckets.store([a_row(index) for index in range(4)])


def delivered(queue: Queue, message: ChunkMessage, traceparent: str = "") -> SqsRecord:
    """Send the message to SQS, and return the received record."""
    attribute = {"traceparent": {"DataType": "String", "StringValue": traceparent}} if traceparent else {}
    queue.sqs.send_message(QueueUrl=queue.url, MessageBody=message.encode(), MessageAttributes=attribute)  # type: ignore[arg-type] # plain dicts
    (record,) = queue.receive()
    return record


def test_every_call_for_a_message_carries_its_trace_and_the_invocation_id(
    queue: Queue, message: ChunkMessage, monolith_server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lambda_worker")
    caplog.handler.addFilter(LogContextFilter())

    handler({"Records": [delivered(queue, message, TRACEPARENT)]}, Context())

    calls = monolith_server.requests
    assert [call.path.rpartition("/")[2] for call in calls].count("") == 4
    assert {call.path.rpartition("/")[2] for call in calls} >= {"claim", "finish"}
    assert {call.headers["traceparent"] for call in calls} == {TRACEPARENT}
    assert {call.headers["X-Request-ID"] for call in calls} == {Context().aws_request_id}
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert {line["trace_id"] for line in lines if "job_id" in line} == {TRACE_ID}


def test_the_next_message_does_not_continue_the_trace_of_the_previous_one(
    queue: Queue, buckets: Buckets, monolith_server: HttpServer
) -> None:
    first = delivered(queue, buckets.store([a_row(0)]), TRACEPARENT)
    second = delivered(queue, buckets.store([a_row(9)], first_index=9))

    handler({"Records": [first, second]}, Context())

    creates = [call for call in monolith_server.requests if call.path == "/products/"]
    assert [call.headers.get("traceparent") for call in creates] == [TRACEPARENT, None]


@pytest.mark.parametrize("traceparent", [TRACEPARENT, ""])
def test_a_copy_of_a_message_continues_the_same_trace(queue: Queue, message: ChunkMessage, traceparent: str) -> None:
    assert defer(queue.sqs, queue.url, delivered(queue, message, traceparent), 0)

    (copy,) = queue.receive()
    assert copy["body"] == message.encode()
    assert traceparent_of(copy) == traceparent


def test_a_dead_letter_is_reported_in_its_trace(
    queue: Queue, message: ChunkMessage, monolith_server: HttpServer
) -> None:
    dead_letter.handler({"Records": [delivered(queue, message, TRACEPARENT)]}, Context())

    assert {call.headers["traceparent"] for call in monolith_server.requests} == {TRACEPARENT}


@pytest.mark.parametrize(
    "malformed",
    [
        "something else",
        TRACEPARENT.upper(),
        f"01{TRACEPARENT[2:]}",
        TRACEPARENT + "-more",
        TRACEPARENT.replace(TRACE_ID, "0" * 32),
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16),
        "00-12-34-01",
    ],
)
def test_a_malformed_trace_context_is_not_passed_on_and_does_no_harm(
    queue: Queue, message: ChunkMessage, monolith: Monolith, monolith_server: HttpServer, malformed: str
) -> None:
    answer = handler({"Records": [delivered(queue, message, malformed)]}, Context())

    assert answer == {"batchItemFailures": []}
    assert len(monolith.ledger) == 4
    assert not [call for call in monolith_server.requests if "traceparent" in call.headers]
