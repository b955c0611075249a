"""What the queue is told: exactly the messages that are not done come again."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from lambda_worker import handler as handler_module
from lambda_worker.config import REQUIRED
from lambda_worker.contract import ROW_HEADER, RowVerdict
from lambda_worker.exceptions import ConfigurationError
from lambda_worker.handler import handler
from tests.lambda_worker.conftest import (
    JOB_ID,
    TOKEN,
    WORKER_SECRET,
    Buckets,
    HttpServer,
    Monolith,
    Reply,
    a_message,
    a_row,
    json_reply,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambda_worker.contract import ChunkMessage
    from lambda_worker.events import SqsEvent, SqsRecord

pytestmark = pytest.mark.usefixtures("_no_backoff")

ROWS = [a_row(index) for index in range(4)]


@dataclass(frozen=True)
class Context:
    """An invocation with this much time left."""

    milliseconds_left: int = 60_000
    aws_request_id: str = "request"
    function_name: str = "lambda_worker"
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "1024"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:lambda_worker"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds_left


def a_record(message_id: str, body: str) -> SqsRecord:
    return {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "md5OfBody": "",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:chunks",
        "awsRegion": "us-east-1",
    }


def an_event(*bodies: str) -> SqsEvent:
    """An event with the messages "0", "1" and so on."""
    return {"Records": [a_record(str(place), body) for place, body in enumerate(bodies)]}


def coming_again(event: SqsEvent, context: Context | None = None) -> list[str]:
    answer = handler(event, context or Context())
    assert answer.keys() == {"batchItemFailures"}
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture(autouse=True)
def _cold_start() -> Iterator[None]:
    """Let each test have an execution environment of its own: nothing is kept from the one before."""
    made_once = (handler_module.config, handler_module.s3, handler_module._sqs)
    for function in made_once:
        function.cache_clear()
    yield
    for client in (handler_module.s3, handler_module._sqs):
        if client.cache_info().currsize:
            client().close()
    for function in made_once:
        function.cache_clear()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, monolith_server: HttpServer, aws_url: str, buckets: Buckets) -> None:
    environment = {
        "BULK_IMPORT_BASE_URL": monolith_server.url,
        "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
        "BULK_IMPORT_PAYLOADS_BUCKET": buckets.payloads,
        "BULK_IMPORT_FAILURES_BUCKET": buckets.failures,
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    monkeypatch.delenv("BULK_IMPORT_WORKER_API_PATH", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def message(buckets: Buckets) -> ChunkMessage:
    return buckets.store(ROWS)


def test_when_a_chunk_is_finished_its_message_does_not_come_again(monolith: Monolith, message: ChunkMessage) -> None:
    assert coming_again(an_event(message.encode())) == []

    assert monolith.ledger == {f"{JOB_ID}:{index}": a_row(index) for index in range(4)}
    assert len(monolith.finishes) == 1


def test_an_event_without_messages_is_no_failure() -> None:
    assert coming_again(an_event()) == []


def test_when_some_rows_are_rejected_the_message_does_not_come_again(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets
) -> None:
    monolith.replies = {2: [json_reply(400, {"message": "No."}, **{ROW_HEADER: RowVerdict.NOT_CREATED})]}

    assert coming_again(an_event(message.encode())) == []
    assert buckets.failure_keys() == [monolith.finishes[0]["failures_key"]]


def test_exactly_the_messages_that_are_not_finished_come_again(monolith: Monolith, buckets: Buckets) -> None:
    messages = [buckets.store([a_row(10 * place)], first_index=10 * place) for place in range(4)]
    gone = replace(messages[1], key="gone.jsonl")
    monolith.replies = {20: [json_reply(403, {}, **{ROW_HEADER: RowVerdict.NOT_CREATED})]}

    bodies = [messages[0].encode(), gone.encode(), "no message", messages[2].encode(), messages[3].encode()]

    assert coming_again(an_event(*bodies)) == ["1", "2", "3"]
    assert set(monolith.ledger) == {f"{JOB_ID}:0", f"{JOB_ID}:30"}
    assert len(monolith.finishes) == 2


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no message",
        "[" * 2000,
        json.dumps({**a_message().to_dict(), "version": 2}),
        json.dumps({**a_message().to_dict(), "chunk_id": "../../products"}),
        json.dumps({**a_message().to_dict(), "row_count": -1}),
        json.dumps({**a_message().to_dict(), "url": "http://evil.example/"}),
        " " * 300_000,
    ],
)
def test_a_malformed_message_comes_again_and_nothing_is_called_or_read(
    monkeypatch: pytest.MonkeyPatch, monolith_server: HttpServer, body: str
) -> None:
    with serving(lambda _request: Reply(500)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)

        assert coming_again(an_event(body)) == ["0"]
        assert s3.requests == []
    assert monolith_server.requests == []


def test_a_message_with_a_foreign_bucket_comes_again_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith
) -> None:
    with serving(lambda _request: Reply(500)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)

        assert coming_again(an_event(a_message(bucket="of-somebody-else").encode())) == ["0"]
        assert s3.requests == []
    assert not monolith.creates


def test_a_message_whose_chunk_is_closed_is_acknowledged_and_nothing_is_done(
    monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {"claim": [json_reply(410, {"code": "closed"})]}

    assert coming_again(an_event(message.encode())) == []
    assert monolith.calls == ["claim"]
    assert not monolith.creates


@pytest.mark.parametrize(
    ("status", "code"), [(409, "lease_held"), (404, "unknown_chunk"), (422, "foreign_message"), (401, ""), (500, "")]
)
def test_a_message_that_may_not_be_worked_on_now_comes_again(
    monolith: Monolith, message: ChunkMessage, status: int, code: str
) -> None:
    monolith.replies = {"claim": [json_reply(status, {"code": code})]}

    assert coming_again(an_event(message.encode())) == ["0"]
    assert not monolith.creates


def test_when_a_redelivery_finds_some_rows_in_the_ledger_it_does_the_rest(
    monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {3: [json_reply(403, {}, **{ROW_HEADER: RowVerdict.NOT_CREATED})]}
    assert coming_again(an_event(message.encode())) == ["0"]
    calls_before = monolith.creates.copy()

    monolith.replies = {}
    monolith.created_ranges = [[0, 2]]

    assert coming_again(an_event(message.encode())) == []
    assert monolith.creates - calls_before == {3: 1}


def test_without_time_left_every_message_comes_again_and_nothing_is_claimed(
    monolith_server: HttpServer, message: ChunkMessage
) -> None:
    event = an_event(message.encode(), message.encode())

    assert coming_again(event, Context(milliseconds_left=0)) == ["0", "1"]
    assert monolith_server.requests == []


def test_an_execution_environment_serves_one_invocation_after_the_other(monolith: Monolith, buckets: Buckets) -> None:
    for place in range(3):
        assert coming_again(an_event(buckets.store([a_row(place)], first_index=place).encode())) == []

    assert len(monolith.ledger) == len(monolith.finishes) == 3


@pytest.mark.parametrize("name", REQUIRED)
def test_when_the_environment_is_incomplete_the_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, monolith_server: HttpServer, message: ChunkMessage, name: str
) -> None:
    monkeypatch.delenv(name)

    with pytest.raises(ConfigurationError, match=name):
        handler(an_event(message.encode()), Context())

    assert monolith_server.requests == []


def test_the_log_holds_neither_rows_nor_secrets(
    monolith: Monolith, message: ChunkMessage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lambda_worker")
    rejection: dict[str, Any] = {"errors": [{"field": "sku", "code": "unique", "message": "TENT-2 is taken."}]}
    monolith.replies = {2: [json_reply(400, rejection, **{ROW_HEADER: RowVerdict.NOT_CREATED})]}

    coming_again(an_event(message.encode(), json.dumps({"TENT-3": WORKER_SECRET}), "TENT-4"))

    assert message.chunk_id in caplog.text
    assert not [word for word in ("TENT", "12.50", WORKER_SECRET, TOKEN) if word in caplog.text]
