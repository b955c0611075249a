"""One chunk from its claim to its finish, with a monolith and S3 over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.contract import (
    VERDICT_HEADER,
    Finish,
    HeartbeatAnswer,
    Outcome,
    PauseCode,
    ReleaseAnswer,
    RowVerdict,
)
from bulk_import_wire.lines import refused_line
from lambda_worker.chunk_rows import created_indexes, sort_rows
from lambda_worker.chunk_session import ChunkSession
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, MessageRefused, StaleEpoch, WorkerError
from lambda_worker.failure_file import RowFailure, write_failures
from lambda_worker.monolith_client import Answer, MonolithClient
from lambda_worker.retries import MAX_RETRY_AFTER_SECONDS, MAX_TRIES
from tests.lambda_worker.conftest import (
    JOB_ID,
    LOST,
    Buckets,
    HttpServer,
    Monolith,
    Reply,
    a_claim,
    a_config,
    a_row,
    json_reply,
    times,
    with_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulk_import_wire.contract import Claim, Heartbeat, Release
    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.deadlines import Deadlines

pytestmark = pytest.mark.usefixtures("_no_backoff")

FIRST_INDEX = 100
ROWS = [a_row(index) for index in range(FIRST_INDEX, FIRST_INDEX + 8)]
INDEXES = list(range(FIRST_INDEX, FIRST_INDEX + 8))

TAKEN = {"field": "sku", "code": "unique", "message": "Taken."}
REJECTED = json_reply(400, {"errors": [TAKEN]}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
BROKEN = json_reply(500, {}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
NOT_CREATED_COUNTS = {"rejected": 0, "failed": 0, "unprocessed": 0, "rows_failed": 0}
ALL_CREATED = {"epoch": 1, **NOT_CREATED_COUNTS, "failures_key": "", "problems": [], "rows_tried": 8}


@pytest.fixture
def message(buckets: Buckets) -> ChunkMessage:
    return buckets.store(ROWS, first_index=FIRST_INDEX, before=b'{"sku":"of another chunk"}\n')


class Session:
    """Runs the chunk of a message."""

    def __init__(self, server: HttpServer, buckets: Buckets) -> None:
        self.server, self.buckets = server, buckets

    def run(self, message: ChunkMessage, *, deadlines: Deadlines | None = None, **buckets: str) -> None:
        names = {"payloads_bucket": self.buckets.payloads, "failures_bucket": self.buckets.failures, **buckets}

        async def use(client: MonolithClient) -> None:
            config = a_config(self.server.url, **names)
            await ChunkSession(message, client, self.buckets.s3, config, deadlines or times()).run()

        with_client(self.server.url, use)


@pytest.fixture
def session(monolith_server: HttpServer, buckets: Buckets) -> Session:
    return Session(monolith_server, buckets)


def ledger_of(indexes: list[int]) -> dict[str, bytes]:
    return {f"{JOB_ID}:{index}": a_row(index) for index in indexes}


def test_when_every_row_is_created_the_chunk_is_finished_without_failures(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    session.run(message)

    assert monolith.ledger == ledger_of(INDEXES)
    assert set(monolith.creates.values()) == {1}
    assert monolith.calls == ["claim", "finish"]
    assert monolith.finishes == [ALL_CREATED]
    assert monolith.reported_calls[0]["answers"] == {"created": 8}
    assert session.buckets.failure_keys() == []


def test_a_row_with_a_wrong_status_fails_if_an_earlier_delivery_created_the_others(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.created_ranges = [[100, 106]]
    monolith.replies = {107: [json_reply(200, {}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})]}

    session.run(message)

    assert monolith.calls == ["claim", "finish"]
    assert [finish["failed"] for finish in monolith.finishes] == [1]


def test_rows_that_are_not_created_are_stored_with_their_reason_and_reported(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {101: [REJECTED], 104: [BROKEN], 106: [REJECTED]}

    session.run(message)

    (key,) = session.buckets.failure_keys()
    no_answer = {"field": None, "code": "http_500", "message": "The endpoint returned 500"}
    assert monolith.finishes == [
        {
            "epoch": 1,
            "rejected": 2,
            "failed": 1,
            "unprocessed": 0,
            "failures_key": key,
            "problems": [
                {**TAKEN, "count": 2, "first_index": 101},
                {**no_answer, "count": 1, "first_index": 104},
            ],
            "rows_tried": 8,
            "rows_failed": 1,
        }
    ]
    assert monolith.reported_calls[0]["answers"] == {"created": 5, "400": 2, "500": MAX_TRIES}
    kept = {"index", "outcome", "status", "attempts", "errors"}
    assert [{name: line[name] for name in kept} for line in session.buckets.failure_lines(key)] == [
        {"index": 101, "outcome": "rejected", "status": 400, "attempts": 1, "errors": [TAKEN]},
        {"index": 104, "outcome": "failed", "status": 500, "attempts": MAX_TRIES, "errors": [no_answer]},
        {"index": 106, "outcome": "rejected", "status": 400, "attempts": 1, "errors": [TAKEN]},
    ]
    assert monolith.ledger == ledger_of([100, 102, 103, 105, 107])


def test_rows_that_the_ledger_records_are_not_sent_again(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.created_ranges = [[100, 102], [105, 105]]

    session.run(message)

    assert sorted(monolith.creates) == [103, 104, 106, 107]
    assert monolith.finishes == [{**ALL_CREATED, "rows_tried": 4}]


def test_when_the_ledger_records_every_row_the_chunk_is_finished_without_a_call(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.created_ranges = [[100, 107]]

    session.run(message)

    assert not monolith.creates
    assert monolith.finishes == [{**ALL_CREATED, "rows_tried": 0}]


def test_when_an_answer_is_lost_after_the_commit_the_row_is_retried_and_counts_as_created(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    created = json_reply(201, {}, **{VERDICT_HEADER: RowVerdict.REPLAYED})
    monolith.replies = {101: [LOST, created], 103: [LOST, LOST, created]}

    session.run(message)

    assert (monolith.creates[101], monolith.creates[103]) == (2, 3)
    assert monolith.ledger == ledger_of(INDEXES)
    assert monolith.finishes == [ALL_CREATED]


def test_when_the_failures_bucket_refuses_the_failures_the_chunk_is_not_finished(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {101: [REJECTED]}

    with pytest.raises(ChunkReturned, match="failures bucket"):
        session.run(message, failures_bucket="no-such-bucket")

    assert monolith.finishes == []


def test_when_the_payload_is_missing_no_row_is_sent_and_the_chunk_is_not_finished(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    session.buckets.s3.delete_object(Bucket=message.bucket, Key=message.key)

    with pytest.raises(ChunkReturned, match="NoSuchKey"):
        session.run(message)

    assert not monolith.creates
    assert monolith.finishes == []


def test_when_the_message_names_a_foreign_bucket_nothing_is_created(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    with pytest.raises(MessageRefused):
        session.run(message, payloads_bucket="another")

    assert not monolith.creates
    assert monolith.finishes == []


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (json_reply(410, {"code": "closed"}), ChunkClosed),
        (json_reply(409, {"code": "lease_held"}), ChunkReturned),
        (json_reply(422, {"code": "foreign_message"}), MessageRefused),
    ],
)
def test_when_the_claim_is_refused_no_row_is_sent_and_the_chunk_is_not_finished(
    session: Session, monolith: Monolith, message: ChunkMessage, refusal: Reply, expected: type[WorkerError]
) -> None:
    monolith.replies = {"claim": [refusal]}

    with pytest.raises(expected):
        session.run(message)

    assert monolith.calls == ["claim"]
    assert not monolith.creates


def test_after_the_verdict_stale_the_chunk_is_not_finished(
    session: Session, monolith: Monolith, message: ChunkMessage
) -> None:
    monolith.replies = {103: [json_reply(409, {}, **{VERDICT_HEADER: RowVerdict.STALE})]}

    with pytest.raises(StaleEpoch):
        session.run(message)

    assert monolith.finishes == []
    assert session.buckets.failure_keys() == []


@pytest.mark.parametrize("reply", [json_reply(409, {"code": "ledger_disagrees"}), Reply(500), LOST])
def test_when_finish_is_not_accepted_the_message_stays(
    session: Session, monolith: Monolith, message: ChunkMessage, reply: Reply
) -> None:
    monolith.replies = {"finish": [reply]}

    with pytest.raises(ChunkReturned):
        session.run(message)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, headers={"Location": "/login"}),
        Reply(200, b"<html>Welcome</html>"),
        Reply(201, b'{"id":'),
        Reply(201, b"x" * 10_000_000),
        json_reply(201, {"id": 1}, **{VERDICT_HEADER: "yes"}),
    ],
    ids=["a redirect", "HTML", "broken JSON", "10 MB", "an unknown verdict"],
)
def test_an_answer_without_a_verdict_does_not_count_as_created(
    session: Session, monolith: Monolith, message: ChunkMessage, reply: Reply
) -> None:
    created = json_reply(201, {"id": 102}, **{VERDICT_HEADER: RowVerdict.CREATED})
    monolith.replies = {102: [reply, reply, created]}

    session.run(message)

    assert monolith.creates[102] == 3  # retried until the answer has a verdict
    (finish,) = monolith.finishes
    assert (finish["failed"], finish["rejected"], finish["unprocessed"]) == (0, 0, 0)


@pytest.mark.parametrize("status", [401, 403])
def test_when_the_submitter_may_no_longer_create_rows_the_job_is_paused_and_no_row_is_rejected(
    session: Session, monolith: Monolith, message: ChunkMessage, status: int
) -> None:
    forbidden = json_reply(status, {"message": "You may not."}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
    monolith.replies = {101: [REJECTED], **{key: [forbidden] for key in range(104, 108)}}

    with pytest.raises(ChunkDeferred) as caught:
        session.run(message)

    assert (caught.value.pause, caught.value.delay_seconds) == (PauseCode.FORBIDDEN, Monolith.pause_seconds)
    (release,) = monolith.releases
    assert release["pause"] == "forbidden"
    assert [line["index"] for line in session.buckets.failure_lines(release["failures_key"])] == [101]
    assert (monolith.indexes, monolith.finishes) == ([100, 102, 103], [])
    assert all(monolith.creates[index] <= 1 for index in INDEXES)


@pytest.mark.parametrize(("asked", "seconds"), [("120", 120), ("31536000", MAX_RETRY_AFTER_SECONDS)])
def test_a_retry_after_beyond_the_time_left_is_reported_to_the_monolith_and_delays_the_message(
    session: Session, monolith: Monolith, message: ChunkMessage, asked: str, seconds: float
) -> None:
    monolith.replies = {key: [Reply(429, headers={"Retry-After": asked})] for key in INDEXES}

    with pytest.raises(ChunkDeferred) as caught:
        session.run(message)

    assert (caught.value.pause, caught.value.delay_seconds) == (PauseCode.ENDPOINT_BUSY, seconds)
    assert [(r["pause"], r["retry_after_seconds"]) for r in monolith.releases] == [("endpoint_busy", seconds)]
    assert max(monolith.creates.values()) == 1


def test_the_tries_of_earlier_deliveries_count(session: Session, monolith: Monolith, message: ChunkMessage) -> None:
    tried = [
        RowFailure(index, a_row(index), Outcome.UNPROCESSED, 500, [], attempts=MAX_TRIES - 1, at="")
        for index in (101, 103, 104)
    ]
    buckets = session.buckets
    monolith.failures_key = write_failures(buckets.s3, buckets.failures, message, 1, tried)
    monolith.replies = {101: [BROKEN], 104: [BROKEN]}

    session.run(message)

    (finish,) = monolith.finishes
    lines = buckets.failure_lines(finish["failures_key"])
    assert [(line["index"], line["outcome"], line["status"], line["attempts"]) for line in lines] == [
        (101, "failed", 500, MAX_TRIES),
        (104, "failed", 500, MAX_TRIES),
    ]
    assert set(monolith.creates.values()) == {1}


def test_a_release_that_fails_loses_nothing(session: Session, monolith: Monolith, message: ChunkMessage) -> None:
    monolith.replies = {104: [Reply(429, headers={"Retry-After": "120"})], "release": [Reply(502)]}

    with pytest.raises(ChunkDeferred, match="unavailable"):
        session.run(message)

    monolith.replies = {}
    session.run(message)
    assert monolith.indexes == INDEXES


class Scripted(MonolithClient):
    """A monolith without HTTP, to which heartbeats are sent without a pause in between.

    It creates each row, except that it is busy for the rows from `busy_from` on until it has answered a heartbeat.
    """

    def __init__(self, beat: Callable[[], HeartbeatAnswer], busy_from: int = FIRST_INDEX + 4) -> None:
        super().__init__(a_config("http://127.0.0.1:1"), "the-invocation")
        self.beat, self.busy_from = beat, busy_from
        self.beats = 0
        self.created: list[int] = []
        self.finishes: list[Finish] = []
        self.releases: list[Release] = []

    async def claim(self, message: ChunkMessage, claimant: str, *, creates: bool = True) -> Claim:  # noqa: ARG002 - the signature of the base class
        return a_claim(heartbeat_seconds=0, concurrency=2)

    async def release(self, message: ChunkMessage, release: Release) -> ReleaseAnswer:  # noqa: ARG002 - the signature of the base class
        self.releases.append(release)
        return ReleaseAnswer(retry_after_seconds=0)

    async def heartbeat(self, message: ChunkMessage, heartbeat: Heartbeat) -> HeartbeatAnswer:  # noqa: ARG002 - the signature of the base class
        await asyncio.sleep(0)
        if self.created and self.created[-1] >= self.busy_from - 1:
            self.beats += 1
            return self.beat()
        return HeartbeatAnswer(lease_seconds=60, cancelled=False, paused=False, concurrency=2)

    async def create(self, claim: Claim, key: str, row: bytes, timeout_seconds: float) -> Answer:  # noqa: ARG002 - the signature of the base class
        await asyncio.sleep(0)
        index = int(key.rpartition(":")[2])
        if index >= self.busy_from and not self.beats:
            return Answer(503, {}, b"")
        self.created.append(index)
        return Answer(201, {VERDICT_HEADER: RowVerdict.CREATED}, b"")

    async def finish(self, message: ChunkMessage, finish: Finish, *, is_dead: bool = False) -> None:  # noqa: ARG002 - the signature of the base class
        self.finishes.append(finish)


def run_scripted(client: Scripted, message: ChunkMessage, buckets: Buckets, **seconds: float) -> None:
    """Process the chunk, and check that no task is left over."""
    config = a_config("http://127.0.0.1:1", payloads_bucket=buckets.payloads, failures_bucket=buckets.failures)

    async def use() -> None:
        deadlines = times(**seconds)
        async with client:
            try:
                await ChunkSession(message, client, buckets.s3, config, deadlines).run()
            finally:
                assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(use())


def test_heartbeats_are_sent_during_the_dispatch_and_stop_after_it(message: ChunkMessage, buckets: Buckets) -> None:
    client = Scripted(lambda: HeartbeatAnswer(lease_seconds=60, cancelled=False, paused=False, concurrency=2))

    run_scripted(client, message, buckets)

    assert client.beats
    assert sorted(client.created) == INDEXES
    assert [finish.to_dict() | {"calls": {}} for finish in client.finishes] == [ALL_CREATED | {"calls": {}}]


def test_when_a_heartbeat_says_cancelled_the_other_rows_are_unprocessed_and_reported(
    message: ChunkMessage, buckets: Buckets
) -> None:
    client = Scripted(lambda: HeartbeatAnswer(lease_seconds=60, cancelled=True, paused=False, concurrency=2))

    run_scripted(client, message, buckets)

    (finish,) = client.finishes
    untouched = [line["index"] for line in buckets.failure_lines(finish.failures_key)]
    assert finish.unprocessed == len(untouched) > 0
    assert sorted(client.created + untouched) == INDEXES
    assert [problem["code"] for problem in finish.problems] == ["cancelled"]


def test_a_claim_on_a_cancelled_job_is_reported_without_a_call(message: ChunkMessage, buckets: Buckets) -> None:
    class Cancelled(Scripted):
        async def claim(self, message: ChunkMessage, claimant: str, *, creates: bool = True) -> Claim:
            return replace(await super().claim(message, claimant, creates=creates), cancelled=True)

    client = Cancelled(lambda: HeartbeatAnswer(60, cancelled=True, paused=False, concurrency=2))

    run_scripted(client, message, buckets)

    (finish,) = client.finishes
    assert client.created == []
    assert finish.unprocessed == len(INDEXES)
    assert [line["index"] for line in buckets.failure_lines(finish.failures_key)] == INDEXES


def test_when_a_heartbeat_says_paused_the_chunk_is_released_with_its_failures(
    message: ChunkMessage, buckets: Buckets
) -> None:
    releases: list[Release] = []

    class PausedByStaff(Scripted):
        async def release(self, message: ChunkMessage, release: Release) -> ReleaseAnswer:  # noqa: ARG002 - the signature of the base class
            releases.append(release)
            return ReleaseAnswer(retry_after_seconds=300)

    client = PausedByStaff(lambda: HeartbeatAnswer(60, cancelled=False, paused=True, concurrency=2))

    with pytest.raises(ChunkDeferred) as caught:
        run_scripted(client, message, buckets)

    assert caught.value.delay_seconds == 300
    assert [(release.pause, release.rows_tried) for release in releases] == [(PauseCode.STAFF, len(client.created))]
    assert sorted(client.created) != INDEXES
    assert client.finishes == []


@pytest.mark.parametrize("news", [StaleEpoch("stale"), ChunkClosed("closed")])
def test_when_a_heartbeat_says_that_the_chunk_is_lost_no_further_row_is_started_and_nothing_is_reported(
    message: ChunkMessage, buckets: Buckets, news: WorkerError
) -> None:
    def beat() -> HeartbeatAnswer:
        raise news

    client = Scripted(beat)

    with pytest.raises(type(news)) as caught:
        run_scripted(client, message, buckets)

    assert caught.value is news
    assert sorted(client.created) != INDEXES
    assert client.finishes == []


@pytest.mark.parametrize("error", [ChunkReturned("away"), MessageRefused("unknown_chunk")])
def test_a_heartbeat_that_fails_does_not_stop_the_dispatch(
    message: ChunkMessage, buckets: Buckets, error: WorkerError
) -> None:
    def beat() -> HeartbeatAnswer:
        raise error

    client = Scripted(beat)

    run_scripted(client, message, buckets)

    assert sorted(client.created) == INDEXES
    assert len(client.finishes) == 1


def test_when_the_time_is_over_before_the_claim_nothing_is_claimed(message: ChunkMessage, buckets: Buckets) -> None:
    class NotToBeClaimed(Scripted):
        async def claim(self, message: ChunkMessage, claimant: str, *, creates: bool = True) -> Claim:  # noqa: ARG002 - the signature of the base class
            raise AssertionError(message)

    client = NotToBeClaimed(lambda: HeartbeatAnswer(60, cancelled=False, paused=False, concurrency=2))

    with pytest.raises(ChunkDeferred, match="time was over"):
        run_scripted(client, message, buckets, stop_at=0)


async def hang(*_args: object, **_options: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("step", ["create", "finish"])
def test_when_a_step_hangs_the_delivery_fails_and_releases_its_lease_before_the_invocation_ends(
    message: ChunkMessage, buckets: Buckets, step: str
) -> None:
    client = Scripted(lambda: HeartbeatAnswer(60, cancelled=False, paused=False, concurrency=2))
    setattr(client, step, hang)

    with pytest.raises(ChunkReturned, match="time was over") as caught:
        run_scripted(client, message, buckets, stop_at=0.2, settle_by=0.2, report_by=0.3)

    assert type(caught.value) is ChunkReturned
    assert client.finishes == []
    assert len(client.releases) == 1


def test_when_even_the_release_hangs_the_invocation_ends_in_time(message: ChunkMessage, buckets: Buckets) -> None:
    client = Scripted(lambda: HeartbeatAnswer(60, cancelled=False, paused=False, concurrency=2))
    client.finish = client.release = hang  # type: ignore[method-assign, assignment] # neither answers

    with pytest.raises(ChunkReturned, match="time was over"):
        run_scripted(client, message, buckets, report_by=0.3, end_at=0.4)


def test_when_a_claim_gets_no_answer_in_time_the_message_is_deferred(message: ChunkMessage, buckets: Buckets) -> None:
    client = Scripted(lambda: HeartbeatAnswer(60, cancelled=False, paused=False, concurrency=2))
    client.claim = hang  # type: ignore[method-assign, assignment] # never answers

    with pytest.raises(ChunkDeferred, match="unavailable"):
        run_scripted(client, message, buckets, stop_at=0.1)

    assert client.releases == []


def test_a_row_that_validation_refused_is_not_sent_and_is_reported_as_rejected(
    session: Session, monolith: Monolith, buckets: Buckets
) -> None:
    lines = [a_row(100), refused_line(b'{"sku":12.50}', [TAKEN]), a_row(102)]

    session.run(buckets.store(lines, first_index=100))

    (finish,) = monolith.finishes
    (line,) = buckets.failure_lines(finish["failures_key"])
    assert monolith.ledger == ledger_of([100, 102])
    assert (finish["rejected"], finish["problems"]) == (1, [{**TAKEN, "count": 1, "first_index": 101}])
    assert (line["index"], line["outcome"], line["errors"], line["row"]) == (101, "rejected", [TAKEN], {"sku": 12.5})


def test_a_refused_row_that_an_earlier_delivery_reported_is_counted_once() -> None:
    """After a redrive, the failures of the dead delivery include the refused rows."""
    to_create, failures = sort_rows([refused_line(a_row(0), [TAKEN]), a_row(1)], 0, done={0})

    assert to_create == [(1, a_row(1))]
    assert failures == []


ranges_in_the_ledger = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 9)), max_size=5)


@given(st.integers(0, 50), st.lists(st.booleans(), max_size=30), ranges_in_the_ledger)
def test_the_rows_to_create_are_all_rows_except_the_refused_and_the_created_ones(
    first_index: int, refused: list[bool], ranges: list[tuple[int, int]]
) -> None:
    indexes = range(first_index, first_index + len(refused))
    rows = [refused_line(a_row(i), [TAKEN]) if no else a_row(i) for i, no in zip(indexes, refused, strict=True)]

    created = created_indexes(a_claim(created=[[first, first + more] for first, more in ranges]))
    to_create, failures = sort_rows(rows, first_index, created)

    in_ledger = {i for i in indexes if any(first <= i <= first + more for first, more in ranges)}
    not_refused = [i for i, no in zip(indexes, refused, strict=True) if not no]
    assert to_create == [(i, a_row(i)) for i in not_refused if i not in in_ledger]
    assert [(f.index, f.row) for f in failures] == [
        (i, a_row(i)) for i in indexes if i not in not_refused and i not in in_ledger
    ]
