"""The handler returns exactly the messages that SQS must deliver again."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from bulk_import_wire.logs import JsonFormatter, LogContextFilter
from lambda_worker import worker_api_errors
from lambda_worker.config import REQUIRED, ConfigurationError
from lambda_worker.deadlines import Deadlines
from lambda_worker.handler import handler
from lambda_worker.redelivery import AWAY_SINCE, MAX_AWAY_SECONDS
from lambda_worker.retries import MAX_TRIES
from tests.lambda_worker.conftest import (
    JOB_ID,
    MAX_RECEIVE_COUNT,
    TOKEN,
    WORKER_SECRET,
    Buckets,
    Context,
    HttpServer,
    Monolith,
    Queue,
    Reply,
    a_claim,
    a_message,
    a_row,
    json_reply,
    serving,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.events import SqsEvent, SqsRecord

pytestmark = pytest.mark.usefixtures("_no_backoff", "_environment")

ROWS = [a_row(index) for index in range(4)]


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
    """Return an event with the messages "0", "1" and so on."""
    return {"Records": [a_record(str(place), body) for place, body in enumerate(bodies)]}


def unfinished(event: SqsEvent, context: Context | None = None) -> list[str]:
    answer = handler(event, context or Context())
    assert answer.keys() == {"batchItemFailures"}
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.fixture
def message(buckets: Buckets) -> ChunkMessage:
    return buckets.store(ROWS)


def test_when_a_chunk_is_finished_its_message_is_deleted(monolith: Monolith, message: ChunkMessage) -> None:
    assert unfinished(an_event(message.encode())) == []

    assert monolith.ledger == {f"{JOB_ID}:{index}": a_row(index) for index in range(4)}
    assert len(monolith.finishes) == 1


def test_an_event_without_messages_has_no_failures() -> None:
    assert unfinished(an_event()) == []


def test_when_some_rows_are_rejected_the_message_is_deleted(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets
) -> None:
    monolith.replies = {2: [json_reply(400, {"message": "No."}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})]}

    assert unfinished(an_event(message.encode())) == []
    assert buckets.failure_keys() == [monolith.finishes[0]["failures_key"]]


def test_exactly_the_messages_that_are_not_finished_are_delivered_again(
    monolith: Monolith, buckets: Buckets, queue: Queue
) -> None:
    messages = [buckets.store([a_row(10 * place)], first_index=10 * place) for place in range(4)]
    gone = replace(messages[1], key="gone.jsonl")
    monolith.replies = {20: [json_reply(403, {}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})]}

    bodies = [messages[0].encode(), gone.encode(), "no message", messages[2].encode(), messages[3].encode()]

    assert unfinished(an_event(*bodies)) == ["1", "2"]
    assert queue.delayed == 1  # the copy of the message whose job is paused
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
        " " * 300_000,
    ],
)
def test_a_malformed_message_is_not_acknowledged_and_nothing_is_called_or_read(
    monkeypatch: pytest.MonkeyPatch, monolith_server: HttpServer, body: str
) -> None:
    with serving(lambda _request: Reply(500)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)

        assert unfinished(an_event(body)) == ["0"]
        assert s3.requests == []
    assert monolith_server.requests == []


def test_a_message_with_a_foreign_bucket_is_not_acknowledged_and_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith
) -> None:
    with serving(lambda _request: Reply(500)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)

        assert unfinished(an_event(a_message(bucket="of-somebody-else").encode())) == ["0"]
        assert s3.requests == []
    assert not monolith.creates


def test_a_message_whose_chunk_is_closed_is_acknowledged_and_nothing_is_done(
    monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {"claim": [json_reply(410, {"code": "closed"})]}

    assert unfinished(an_event(message.encode())) == []
    assert monolith.calls == ["claim"]
    assert not monolith.creates


@pytest.mark.parametrize(
    ("status", "code"), [(404, "unknown_chunk"), (422, "foreign_message"), (401, ""), (404, ""), (500, "")]
)
def test_a_message_that_the_monolith_refuses_is_not_acknowledged(
    monolith: Monolith, message: ChunkMessage, queue: Queue, status: int, code: str
) -> None:
    monolith.replies = {"claim": [json_reply(status, {"code": code})]}

    assert unfinished(an_event(message.encode())) == ["0"]
    assert not monolith.creates
    assert (queue.waiting, queue.delayed) == (0, 0)


@pytest.mark.parametrize(
    "reply",
    [
        json_reply(409, {"code": "lease_held"}, Retry_After="20"),
        json_reply(409, {"code": "paused"}, Retry_After="20"),
        Reply(429),
        Reply(502),
        Reply(503),
        Reply(cut_at=-1),
    ],
    ids=["lease held", "paused", "429", "502", "503", "no answer"],
)
def test_a_message_that_cannot_be_processed_now_is_replaced_by_a_delayed_copy(
    monolith: Monolith, message: ChunkMessage, queue: Queue, reply: Reply
) -> None:
    monolith.replies = {"claim": [reply]}
    queue.send(message.encode())

    assert queue.deliver(handler) == []

    assert (queue.waiting, queue.resting, queue.delayed) == (0, 0, 1)
    assert not monolith.creates


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, b"<a>Moved</a>", {"Location": "/maintenance"}),
        Reply(200, b"<h1>We are back soon</h1>"),
        Reply(404, b"<h1>default backend</h1>"),
        Reply(500, b"<h1>Server error</h1>"),
    ],
    ids=["302", "200", "404", "500"],
)
def test_while_a_maintenance_page_answers_no_delivery_counts_for_a_day(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue, reply: Reply
) -> None:
    monkeypatch.setattr(worker_api_errors, "AWAY_SECONDS", 0)
    monkeypatch.setattr("lambda_worker.handler.MAX_AWAY_DELAY_SECONDS", 0)
    monolith.replies = {"claim": [reply]}
    queue.send(message.encode())

    for _delivery in range(MAX_RECEIVE_COUNT + 2):
        assert queue.deliver(handler) == []
        assert (queue.waiting, queue.resting, queue.dead) == (1, 0, 0)

    later = time.time() + MAX_AWAY_SECONDS + 1
    monkeypatch.setattr("lambda_worker.handler.time.time", lambda: later)
    assert queue.deliver(handler) == [message.encode()]
    assert (queue.waiting, queue.resting) == (0, 1)


def test_the_longer_the_monolith_is_away_the_rarer_are_the_attempts(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    delays: list[float] = []
    monkeypatch.setattr("lambda_worker.handler.defer", lambda *call, since: delays.append(call[3]))  # noqa: ARG005
    monolith.replies = {"claim": [Reply(503, b"<h1>Away</h1>")]}
    queue.send(message.encode())
    records = queue.receive()

    for away_seconds in (10, 100, 3600):
        monkeypatch.setattr("lambda_worker.handler.away_since", lambda _record, now, ago=away_seconds: now - ago)
        handler({"Records": records}, Context())

    assert delays == pytest.approx([30, 100, 300])


def test_after_an_answer_of_the_monolith_the_next_outage_has_a_day_again(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    monkeypatch.setattr(worker_api_errors, "AWAY_SECONDS", 0)
    monkeypatch.setattr("lambda_worker.handler.MAX_AWAY_DELAY_SECONDS", 0)
    held = json_reply(409, {"code": "lease_held"}, Retry_After="1")
    page = Reply(503, b"<h1>Away</h1>")
    monolith.replies = {"claim": [*[page] * MAX_TRIES, held]}
    queue.send(message.encode())
    assert queue.deliver(handler) == []
    (record,) = queue.receive()
    assert AWAY_SINCE in record["messageAttributes"]

    assert handler({"Records": [record]}, Context()) == {"batchItemFailures": []}
    time.sleep(1.1)
    (record,) = queue.receive()
    assert AWAY_SINCE not in record["messageAttributes"]


@pytest.mark.parametrize("code", ["malformed", "unsupported_contract"])
def test_a_400_to_our_own_request_returns_the_delivery_to_the_queue(
    monolith: Monolith, message: ChunkMessage, queue: Queue, code: str
) -> None:
    """During a deployment the two sides may disagree for a while, so the deliveries must not be used up at once."""
    monolith.replies = {"claim": [json_reply(400, {"code": code, "message": "Deploy the monolith."})]}
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert (queue.waiting, queue.resting) == (0, 1)


def test_a_message_of_another_version_returns_to_the_queue(queue: Queue, monolith_server: HttpServer) -> None:
    body = json.dumps({**a_message().to_dict(), "version": 2})
    queue.send(body)

    assert queue.deliver(handler) == [body]
    assert (queue.waiting, queue.resting) == (0, 1)
    assert monolith_server.requests == []


def test_when_sqs_does_not_accept_a_copy_the_message_itself_is_delivered_again(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    monolith.replies = {"claim": [json_reply(409, {"code": "lease_held"})]}
    monkeypatch.setenv("BULK_IMPORT_QUEUE_URL", queue.url + "-gone")
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert queue.resting == 1


@pytest.mark.parametrize("verb", ["claim", "finish"])
def test_a_delivery_counts_if_the_monolith_answers_500(
    monolith: Monolith, message: ChunkMessage, queue: Queue, verb: str
) -> None:
    monolith.replies = {verb: [Reply(500)]}
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert (queue.waiting, queue.resting, queue.delayed) == (0, 1, 0)


@pytest.mark.parametrize("reply", [Reply(502), Reply(504), Reply(cut_at=-1)])
def test_a_delivery_counts_and_releases_its_lease_if_its_report_is_not_accepted(
    monolith: Monolith, message: ChunkMessage, queue: Queue, reply: Reply
) -> None:
    """Otherwise a monolith that accepts claims but no reports would make the chunk come back without end."""
    monolith.replies = {"finish": [reply]}
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert len(monolith.releases) == 1
    assert queue.delayed == 0


@pytest.mark.parametrize(
    "body",
    [
        "no message",
        a_message(bucket="of-somebody-else").encode(),
    ],
    ids=["malformed", "a foreign bucket"],
)
def test_a_message_that_no_delivery_can_help_ends_in_the_dead_letter_queue_at_once(
    monolith_server: HttpServer, queue: Queue, body: str
) -> None:
    queue.send(body)

    for _delivery in range(MAX_RECEIVE_COUNT):
        assert queue.deliver(handler) == [body]

    assert queue.receive() == []  # at this moment SQS moves it
    assert (queue.waiting, queue.resting, queue.delayed, queue.dead) == (0, 0, 0, 1)
    assert monolith_server.requests == []


@pytest.mark.parametrize("code", ["unknown_chunk", "foreign_message"])
def test_a_message_that_the_monolith_never_wrote_ends_in_the_dead_letter_queue_at_once(
    monolith: Monolith, message: ChunkMessage, queue: Queue, code: str
) -> None:
    monolith.replies = {"claim": [json_reply(422, {"code": code})]}
    queue.send(message.encode())

    for _delivery in range(MAX_RECEIVE_COUNT):
        assert queue.deliver(handler) == [message.encode()]

    assert queue.receive() == []
    assert queue.dead == 1
    assert not monolith.creates


@pytest.mark.parametrize("fault", ["gone", "changed", "truncated"])
def test_when_the_payload_is_not_as_promised_the_delivery_fails_with_the_reason(  # noqa: PLR0917 - fixtures
    monolith: Monolith,
    message: ChunkMessage,
    buckets: Buckets,
    queue: Queue,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    if fault == "gone":
        buckets.s3.delete_object(Bucket=message.bucket, Key=message.key)
    elif fault == "changed":
        buckets.s3.put_object(Bucket=message.bucket, Key=message.key, Body=b"{}\n" * 100)
    else:
        cut = buckets.s3.put_object(Bucket=message.bucket, Key=message.key, Body=ROWS[0] + b"\n")
        message = replace(message, etag=cut["ETag"])
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]

    assert not monolith.creates
    assert (monolith.finishes, len(monolith.releases)) == ([], 1)
    assert (queue.resting, queue.delayed) == (1, 0)
    assert "The payload" in caplog.text


def test_a_stale_worker_changes_neither_the_lease_nor_the_failures(
    monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    monolith.replies = {
        1: [json_reply(409, {}, **{VERDICT_HEADER: RowVerdict.STALE})],
        "release": [json_reply(409, {"code": "stale_epoch"})],
    }
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert (monolith.releases, monolith.finishes) == ([], [])


def test_a_later_delivery_sends_only_the_rows_that_the_ledger_does_not_record(
    monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {3: [json_reply(403, {}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})]}
    assert unfinished(an_event(message.encode())) == []
    calls_before = monolith.creates.copy()

    monolith.replies = {}
    assert monolith.indexes == [0, 1, 2]

    assert unfinished(an_event(message.encode())) == []
    assert monolith.creates - calls_before == {3: 1}


def test_without_time_left_every_message_is_replaced_by_a_copy_and_nothing_is_claimed(
    monolith_server: HttpServer, message: ChunkMessage, queue: Queue
) -> None:
    queue.send(message.encode(), message.encode())

    assert queue.deliver(handler, Context(milliseconds_left=0)) == []
    assert (queue.waiting, queue.resting) == (2, 0)
    assert monolith_server.requests == []


@pytest.fixture
def unanswered() -> Iterator[Reply]:
    """Yield a reply that is not sent as long as the test runs."""
    event = threading.Event()
    yield Reply(503, after=event)
    event.set()


def set_deadlines(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    monkeypatch.setattr(Deadlines, "of", lambda *_args: times(**seconds))


def test_when_the_time_is_over_the_failures_are_kept_and_a_copy_continues_with_the_other_rows(  # noqa: PLR0917 - fixtures
    monkeypatch: pytest.MonkeyPatch,
    monolith: Monolith,
    message: ChunkMessage,
    buckets: Buckets,
    queue: Queue,
    unanswered: Reply,
) -> None:
    monolith.replies = {1: [json_reply(400, {"message": "No."}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})]}
    monolith.replies[2] = [unanswered]  # the last row that is sent
    queue.send(message.encode())
    with monkeypatch.context() as patch:
        set_deadlines(patch, stop_at=2.0, settle_by=2.2)
        assert queue.deliver(handler) == []

    (release,) = monolith.releases
    assert (release["epoch"], release["pause"], release["retry_after_seconds"]) == (1, "", 0)
    assert [line["index"] for line in buckets.failure_lines(release["failures_key"])] == [1]
    assert (monolith.indexes, monolith.finishes) == ([0, 3], [])
    assert (queue.waiting, queue.resting, queue.delayed) == (1, 0, 0)

    monolith.replies = {}
    assert queue.deliver(handler) == []

    assert dict(monolith.creates) == {0: 1, 1: 1, 2: 2, 3: 1}
    (finish,) = monolith.finishes
    assert (finish["epoch"], finish["rejected"], finish["failed"], finish["unprocessed"]) == (2, 1, 0, 0)
    assert [line["index"] for line in buckets.failure_lines(finish["failures_key"])] == [1]
    assert (queue.waiting, queue.resting, queue.delayed) == (0, 0, 0)


def test_a_delivery_counts_if_its_time_is_over_before_any_row_has_an_outcome(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue, unanswered: Reply
) -> None:
    monolith.replies = {key: [unanswered] for key in range(4)}
    set_deadlines(monkeypatch, stop_at=2.0, settle_by=2.1)
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]

    assert (queue.waiting, queue.resting, queue.delayed) == (0, 1, 0)
    assert [release["pause"] for release in monolith.releases] == [""]


def test_when_s3_hangs_the_invocation_still_ends_in_time(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue, unanswered: Reply
) -> None:
    set_deadlines(monkeypatch, report_by=2.0)
    queue.send(message.encode())
    with serving(lambda _request: unanswered) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)

        assert queue.deliver(handler) == [message.encode()]

        assert len(s3.requests) == 1  # it is still open; a retry would follow after a timeout
    assert (queue.resting, queue.delayed) == (1, 0)
    assert len(monolith.releases) == 1


def test_when_the_earlier_failures_cannot_be_read_the_delivery_fails(
    monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    monolith.failures_key = f"{JOB_ID}/gone.jsonl"
    queue.send(message.encode())

    assert queue.deliver(handler) == [message.encode()]
    assert not monolith.creates
    assert [release["failures_key"] for release in monolith.releases] == [monolith.failures_key]


@pytest.mark.usefixtures("_no_patience")
@pytest.mark.parametrize(
    ("reply", "pause"),
    [(Reply(503), "endpoint_busy"), (Reply(429), "endpoint_busy"), (Reply(200, b"{}", cut_at=1), "endpoint_away")],
    ids=["503", "429", "no answer"],
)
def test_while_the_endpoint_is_away_no_delivery_counts_and_afterwards_the_chunk_is_finished(
    monolith: Monolith, message: ChunkMessage, queue: Queue, reply: Reply, pause: str
) -> None:
    monolith.pause_seconds = 0
    monolith.replies = {key: [reply] for key in range(4)}
    queue.send(message.encode())

    for delivery in range(1, MAX_RECEIVE_COUNT + 3):
        assert queue.deliver(handler) == []
        assert [release["pause"] for release in monolith.releases] == [pause] * delivery
        assert (queue.waiting, queue.resting, queue.delayed) == (1, 0, 0)

    assert {release["failures_key"] for release in monolith.releases} == {""}
    monolith.replies = {}
    assert queue.deliver(handler) == []
    assert monolith.indexes == [0, 1, 2, 3]
    assert len(monolith.finishes) == 1
    assert queue.dead == 0


def test_an_execution_environment_serves_several_invocations(monolith: Monolith, buckets: Buckets) -> None:
    for place in range(3):
        assert unfinished(an_event(buckets.store([a_row(place)], first_index=place).encode())) == []

    assert len(monolith.ledger) == len(monolith.finishes) == 3


@pytest.mark.parametrize("name", REQUIRED)
def test_when_the_environment_is_incomplete_the_error_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, monolith_server: HttpServer, message: ChunkMessage, name: str
) -> None:
    monkeypatch.delenv(name)

    with pytest.raises(ConfigurationError, match=name):
        handler(an_event(message.encode()), Context())

    assert monolith_server.requests == []


def test_the_log_contains_neither_rows_nor_secrets(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lambda_worker")
    caplog.set_level(logging.INFO)
    verdict = {VERDICT_HEADER: RowVerdict.NOT_CREATED}
    rejection: dict[str, Any] = {"errors": [{"field": "sku", "code": "unique", "message": "TENT-2 is taken."}]}
    monolith.replies = {
        0: [json_reply(500, {"message": "TENT-0"}, **verdict)],
        2: [json_reply(400, rejection, **verdict)],
    }
    forbidden = buckets.store([a_row(20)], first_index=20)
    monolith.replies[20] = [json_reply(403, {"message": "TENT-20 is not yours."}, **verdict)]
    busy = buckets.store([a_row(30)], first_index=30)
    monolith.replies[30] = [json_reply(429, {"message": "TENT-30"}, Retry_After="200", **verdict)]
    gone = replace(message, key="TENT.jsonl")
    bodies = [chunk.encode() for chunk in (message, forbidden, busy, gone)]

    unfinished(an_event(*bodies, json.dumps({"TENT-3": WORKER_SECRET}), "TENT-4"))

    assert len(monolith.releases) == 3
    assert message.chunk_id in caplog.text
    as_json = "\n".join(map(JsonFormatter().format, caplog.records))
    assert not [word for word in ("TENT", "12.50", WORKER_SECRET, TOKEN) if word in caplog.text + as_json]


def test_a_log_line_names_its_message_job_chunk_and_epoch(
    message: ChunkMessage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lambda_worker")
    caplog.handler.addFilter(LogContextFilter())

    unfinished(an_event(message.encode(), "no message of ours"))

    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    (finished,) = [line for line in lines if line["logger"] == "lambda_worker.chunk_session"]
    (refused,) = [line for line in lines if line["level"] == "ERROR"]
    assert (finished["job_id"], finished["chunk_id"]) == (message.job_id, message.chunk_id)
    assert finished["epoch"] == a_claim().epoch
    assert "job_id" not in refused, "the next message has the context of the previous one"
    assert refused["message_id"] != finished["message_id"]
