"""The chunk of a message in the dead-letter queue is reported as dead, or the message stays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bulk_import_wire.contract import DEAD_LETTER, VERDICT_HEADER, RowVerdict
from bulk_import_wire.lines import refused_line
from bulk_import_wire.problems import MAX_PROBLEMS
from lambda_worker.dead_letter import handler
from lambda_worker.failure_file import write_failures
from lambda_worker.handler import handler as work
from tests.lambda_worker.conftest import (
    TOKEN,
    WORKER_SECRET,
    Buckets,
    Context,
    HttpServer,
    Monolith,
    Queue,
    Reply,
    a_message,
    a_row,
    json_reply,
    serving,
)
from tests.lambda_worker.test_failure_file import a_failure

if TYPE_CHECKING:
    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.usefixtures("_no_backoff", "_environment")

TAKEN = {"field": "sku", "code": "unique", "message": "Taken."}
REJECTED = json_reply(400, {"errors": [TAKEN]}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
FORBIDDEN = json_reply(403, {}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})


@pytest.fixture
def message(buckets: Buckets) -> ChunkMessage:
    return buckets.store([a_row(0), refused_line(a_row(1), [TAKEN]), a_row(2), a_row(3), a_row(4)])


def report_dead(queue: Queue, *bodies: str, context: Context | None = None) -> list[str]:
    """Deliver the bodies to the handler, and return those that stay in the dead-letter queue."""
    for body in bodies:
        queue.sqs.send_message(QueueUrl=queue.dead_letter_url, MessageBody=body)
    return queue.deliver(handler, context, queue.dead_letter_url)


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["rejected"], report["failed"], report["unprocessed"]


def outcomes(buckets: Buckets, key: str) -> dict[int, tuple[str, str]]:
    """Return the outcome and the code of the first error, by index."""
    return {line["index"]: (line["outcome"], line["errors"][0]["code"]) for line in buckets.failure_lines(key)}


def test_rows_with_an_outcome_keep_it_and_the_others_become_unprocessed(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue
) -> None:
    monolith.replies = {2: [REJECTED], 3: [FORBIDDEN], 4: [FORBIDDEN]}
    queue.send(message.encode())
    assert queue.deliver(work) == []  # the 403s stop it, and it releases the chunk with its failures
    calls = monolith.creates.copy()

    assert report_dead(queue, message.encode()) == []

    (report,) = monolith.deads
    assert monolith.indexes == [0]
    assert monolith.creates == calls
    assert report["epoch"] == 2
    assert counts(report) == (2, 0, 2)
    assert outcomes(buckets, report["failures_key"]) == {
        1: ("rejected", "unique"),
        2: ("rejected", "unique"),
        3: ("unprocessed", DEAD_LETTER),
        4: ("unprocessed", DEAD_LETTER),
    }
    assert [(p["code"], p["count"], p["first_index"]) for p in report["problems"]] == [
        ("unique", 2, 1),
        (DEAD_LETTER, 2, 3),
    ]
    assert [line["row"] for line in buckets.failure_lines(report["failures_key"])] == [
        json.loads(a_row(index)) for index in (1, 2, 3, 4)
    ]
    assert queue.dead == 0


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_when_the_payload_is_lost_the_report_says_how_many_rows_are_left(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue, fault: str
) -> None:
    monolith.ledger = {f"{message.job_id}:0": a_row(0)}
    monolith.failures_key = write_failures(buckets.s3, buckets.failures, message, 1, [a_failure(2)])
    if fault == "gone":
        buckets.s3.delete_object(Bucket=message.bucket, Key=message.key)
    else:
        buckets.s3.put_object(Bucket=message.bucket, Key=message.key, Body=b"{}\n")

    assert report_dead(queue, message.encode()) == []

    (report,) = monolith.deads
    assert counts(report) == (1, 0, 3)
    assert outcomes(buckets, report["failures_key"]) == {2: ("rejected", "unique")}
    assert [(p["code"], p["count"]) for p in report["problems"]] == [(DEAD_LETTER, 3), ("unique", 1)]


def test_a_report_has_no_more_problems_than_the_monolith_accepts(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue
) -> None:
    """The monolith refuses a longer report, so the job would never end."""
    errors = [{"field": None, "code": f"code_{number}", "message": "No."} for number in range(MAX_PROBLEMS + 10)]
    failures = [replace(a_failure(2), errors=errors)]
    monolith.failures_key = write_failures(buckets.s3, buckets.failures, message, 1, failures)
    buckets.s3.delete_object(Bucket=message.bucket, Key=message.key)

    assert report_dead(queue, message.encode()) == []

    assert len(monolith.deads[0]["problems"]) <= MAX_PROBLEMS + 1


def test_rows_whose_earlier_failures_cannot_be_read_become_unprocessed(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue
) -> None:
    monolith.ledger = {f"{message.job_id}:0": a_row(0)}
    monolith.failures_key = f"{message.job_id}/gone.jsonl"

    assert report_dead(queue, message.encode()) == []
    assert counts(monolith.deads[0]) == (1, 0, 3)


def test_a_row_whose_answer_was_lost_but_which_was_created_is_not_a_failure(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue
) -> None:
    monolith.failures_key = write_failures(buckets.s3, buckets.failures, message, 1, [a_failure(2)])
    monolith.created_ranges = [[0, 0], [2, 4]]

    assert report_dead(queue, message.encode()) == []
    assert counts(monolith.deads[0]) == (1, 0, 0)
    assert list(outcomes(buckets, monolith.deads[0]["failures_key"])) == [1]


def test_while_s3_is_away_the_chunk_is_not_reported_as_dead(
    monkeypatch: pytest.MonkeyPatch, monolith: Monolith, message: ChunkMessage, queue: Queue
) -> None:
    with serving(lambda _request: Reply(503)) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)

        assert report_dead(queue, message.encode()) == [message.encode()]

    assert monolith.deads == []
    assert len(monolith.releases) == 1  # the next delivery does not have to wait for the lease


@pytest.mark.parametrize("verb", ["claim", "dead"])
@pytest.mark.parametrize("reply", [Reply(cut_at=-1), Reply(502), Reply(500), json_reply(409, {"code": "lease_held"})])
def test_until_the_monolith_accepts_the_report_the_message_stays(
    monolith: Monolith, message: ChunkMessage, queue: Queue, verb: str, reply: Reply
) -> None:
    monolith.replies = {verb: [reply]}

    assert report_dead(queue, message.encode()) == [message.encode()]
    assert (queue.dead, queue.waiting, queue.delayed) == (1, 0, 0)
    assert monolith.deads == []


def test_a_closed_chunk_is_acknowledged(monolith: Monolith, message: ChunkMessage, queue: Queue) -> None:
    monolith.replies = {"claim": [json_reply(410, {"code": "closed"})]}

    assert report_dead(queue, message.encode()) == []
    assert (monolith.calls, queue.dead) == (["claim"], 0)


@pytest.mark.parametrize("body", ["TENT-4", json.dumps({"TENT-3": WORKER_SECRET}), a_message(bucket="TENT-2").encode()])
def test_a_foreign_message_stays_and_its_content_is_not_logged(
    monolith_server: HttpServer, queue: Queue, caplog: pytest.LogCaptureFixture, body: str
) -> None:
    assert report_dead(queue, body) == [body]

    assert monolith_server.requests == []
    assert "stays in the dead-letter queue" in caplog.text
    assert not [word for word in ("TENT", WORKER_SECRET, TOKEN) if word in caplog.text]


def test_without_time_left_the_message_stays(monolith_server: HttpServer, message: ChunkMessage, queue: Queue) -> None:
    assert report_dead(queue, message.encode(), context=Context(milliseconds_left=0)) == [message.encode()]
    assert monolith_server.requests == []


def test_a_message_that_stays_does_not_affect_the_others(
    monolith: Monolith, message: ChunkMessage, buckets: Buckets, queue: Queue
) -> None:
    other = buckets.store([a_row(10)], first_index=10)

    assert report_dead(queue, message.encode(), "no message", other.encode()) == ["no message"]
    assert len(monolith.deads) == 2
