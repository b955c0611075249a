"""Several rows share their first call. Whatever happens to a batch, each row gets its own outcome."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.batch import BATCH_END, MAX_BATCH_BYTES, MAX_BATCH_ROWS, BatchHead, BatchLine
from bulk_import_wire.contract import Outcome, PauseCode, RowVerdict
from lambda_worker import call_gate, row_calls
from lambda_worker.batches import FEW_ROWS, MAX_LINE_BYTES, BatchReader, BatchSize, batch_body
from lambda_worker.exceptions import BatchRefused, ChunkDeferred, StaleEpoch, Unreachable
from lambda_worker.limiter import ConcurrencyLimiter
from lambda_worker.retries import BUDGET_SHARE, BURST, MAX_TRIES, RETRIES_PER_SECOND, RetryBudget
from lambda_worker.retry_queue import RetryQueue
from lambda_worker.row import Row
from lambda_worker.row_calls import RowCalls
from lambda_worker.row_dispatch import RowDispatch
from tests.lambda_worker.conftest import a_row
from tests.lambda_worker.test_limiter import now as simulated_now
from tests.lambda_worker.test_limiter import run as simulate
from tests.lambda_worker.test_row_dispatch import CREATED, FORBIDDEN, NOT_CREATED, an_answer, by_index, rejection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from lambda_worker.failure_file import RowFailure
    from lambda_worker.monolith_client import Answer

pytestmark = pytest.mark.timeout(60)

NEVER = 3600.0
DIES, HANGS_UP = "dies", "hangs up"
"""What a row may do to the process that creates it, and what the connection may do after a row."""


@pytest.fixture(autouse=True)
def _simulated_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (row_calls, call_gate):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=simulated_now))


def creates(_index: int, _tried: int) -> Answer:
    return an_answer(201, CREATED)


@dataclass
class Endpoint:
    """The monolith on a simulated clock. Each row takes `seconds`, and a batch ends after `batch_seconds`.

    `answer` maps the row and the number of its call to the answer, or to DIES or HANGS_UP. `lines_at_once` is how many
    lines of a batch arrive together.
    """

    answer: Callable[[int, int], Answer | str] = creates
    seconds: float = 0.01
    batch_seconds: float = 1.0
    lines_at_once: int = 1
    refused_by: Exception | None = None
    has_heartbeats: bool = False  # whether the monolith answers a heartbeat during each call
    calls: Counter[int] = field(default_factory=Counter)
    created: set[int] = field(default_factory=set)
    batches: list[list[int]] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)
    started_at: list[float] = field(default_factory=list)  # of every call
    in_flight: int = 0
    most_in_flight: int = 0
    dispatch: RowDispatch = field(init=False)

    async def _create(self, index: int) -> Answer | str:
        self.calls[index] += 1
        await asyncio.sleep(self.seconds)
        if self.has_heartbeats:
            self.dispatch.calls.health.record_heartbeat()
        answer = self.answer(index, self.calls[index])
        if not isinstance(answer, str) and answer.row_verdict == CREATED:
            if index in self.created:
                return an_answer(201, RowVerdict.REPLAYED)
            self.created.add(index)
        elif answer == HANGS_UP:
            self.created.add(index)
        return answer

    async def create(self, index: int, _row: bytes, _timeout_seconds: float) -> Answer:
        self._start()
        self.alone.append(index)
        answer = await self._create(index)
        self.in_flight -= 1
        if isinstance(answer, str):
            raise Unreachable("ReadError")
        return answer

    async def create_batch(self, rows: Sequence[Row], _settle_by: float) -> AsyncGenerator[list[Answer]]:
        self._start()
        try:
            if self.refused_by:
                raise self.refused_by
            self.batches.append([row.index for row in rows])
            ends_at, lines = simulated_now() + self.batch_seconds, []
            for row in rows:
                answer = await self._create(row.index)
                if isinstance(answer, str):
                    raise Unreachable("ReadError")
                lines.append(answer)
                if len(lines) == self.lines_at_once:
                    yield lines
                    lines = []
                stops = answer.row_verdict in {RowVerdict.STALE, RowVerdict.CANCELLED, RowVerdict.PAUSED}
                if stops or answer.status in {429, 503} or simulated_now() >= ends_at:
                    break
            if lines:
                yield lines
        finally:
            self.in_flight -= 1

    def _start(self) -> None:
        self.started_at.append(simulated_now())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def run(
        self,
        count: int,
        *,
        cap: int = 1,
        most: int = MAX_BATCH_ROWS,
        stop_in: float = NEVER,
        unfinished: Sequence[RowFailure] = (),
    ) -> RowDispatch:
        """Dispatch so many rows, and those that an earlier delivery has tried."""

        async def main() -> RowDispatch:
            now = simulated_now()
            limit, retries = ConcurrencyLimiter(cap, simulated_now), RetryQueue(RetryBudget(simulated_now))
            calls = RowCalls(self.create, limit, now + stop_in + 10, retries, self.create_batch, BatchSize(most))
            self.dispatch = RowDispatch(calls, now + stop_in)
            await self.dispatch.run(((index, a_row(index)) for index in range(count)), unfinished)
            return self.dispatch

        return simulate(main())


@pytest.mark.parametrize("lines_at_once", [1, 3, 1000])
@pytest.mark.parametrize("cap", [1, 4])
def test_all_rows_are_created_in_order_with_one_call_each_in_few_batches(cap: int, lines_at_once: int) -> None:
    endpoint = Endpoint(lines_at_once=lines_at_once)

    dispatch = endpoint.run(400, cap=cap)

    assert (dispatch.done.total(), dispatch.failures, dispatch.stopped_by) == (400, [], None)
    assert set(endpoint.calls.values()) == {1}
    assert sum(endpoint.batches, endpoint.alone) == sorted(endpoint.calls) or cap > 1
    assert len(endpoint.started_at) <= 40
    assert endpoint.most_in_flight <= cap


def test_with_one_row_per_batch_each_row_has_a_create_call() -> None:
    endpoint = Endpoint()

    assert endpoint.run(20, most=1).done.total() == 20
    assert (endpoint.batches, endpoint.alone) == ([], list(range(20)))


def test_batches_grow_to_a_second_of_work_and_rows_that_had_no_turn_are_sent_in_the_next_one() -> None:
    endpoint = Endpoint(seconds=0.05, batch_seconds=0.3)

    dispatch = endpoint.run(100)

    assert dispatch.done.total() == 100
    assert set(endpoint.calls.values()) == {1}
    assert max(map(len, endpoint.batches)) in {19, 20}
    assert [batch[0] for batch in endpoint.batches[:3]] == [0, 6, 12]
    assert endpoint.batches[-1] == list(range(96, 100))


def test_a_batch_has_a_quarter_of_a_second_of_work_if_so_much_is_left() -> None:
    endpoint = Endpoint(seconds=0.01)
    endpoint.run(200)

    first, *others, _last = map(len, endpoint.batches)
    assert first == FEW_ROWS
    assert min(others) >= 24


def test_a_slow_endpoint_gets_single_calls() -> None:
    endpoint = Endpoint(seconds=2)

    endpoint.run(40)

    assert [len(batch) for batch in endpoint.batches] == [FEW_ROWS] * FEW_ROWS  # each creates one row in its time
    assert endpoint.alone == list(range(FEW_ROWS, 40))


def test_a_loaded_shop_gets_single_calls() -> None:
    endpoint = Endpoint(lambda _index, _tried: an_answer(201, CREATED, Bulk_Import_Load="1.00"))

    assert endpoint.run(40).done.total() == 40
    assert [len(batch) for batch in endpoint.batches] == [FEW_ROWS]
    assert endpoint.alone == list(range(FEW_ROWS, 40))


def test_a_row_that_kills_its_process_is_found_and_the_others_are_created() -> None:
    endpoint = Endpoint(lambda index, _tried: DIES if index == 30 else an_answer(201, CREATED), has_heartbeats=True)

    dispatch = endpoint.run(100)

    assert by_index(dispatch.failures) == {30: Outcome.FAILED}
    assert dispatch.failures[0].attempts >= MAX_TRIES
    assert (dispatch.done.total(), dispatch.stopped_by) == (99, None)
    assert {index: calls for index, calls in endpoint.calls.items() if calls > 1} == {30: dispatch.failures[0].attempts}
    (broken,) = (batch for batch in endpoint.batches if 30 in batch)
    assert set(broken[broken.index(30) :]) <= set(endpoint.alone)
    assert max(map(len, endpoint.batches[endpoint.batches.index(broken) + 1 :])) <= len(broken) // 2


@pytest.mark.parametrize("most", [1, MAX_BATCH_ROWS])
def test_several_rows_that_kill_their_process_are_found_although_nothing_else_is_left(most: int) -> None:
    deadly = {30, 31, 60}
    endpoint = Endpoint(lambda index, _tried: DIES if index in deadly else an_answer(201, CREATED), has_heartbeats=True)

    first = endpoint.run(100, most=most)
    second = endpoint.run(0, most=most, unfinished=first.unfinished)

    assert (first.done.total(), first.failures, {row.index for row in first.unfinished}) == (97, [], deadly)
    assert (by_index(second.failures), second.stopped_by) == (dict.fromkeys(deadly, Outcome.FAILED), None)


def test_a_row_whose_answer_is_lost_is_not_created_twice() -> None:
    endpoint = Endpoint(lambda index, tried: HANGS_UP if (index, tried) == (30, 1) else an_answer(201, CREATED))

    dispatch = endpoint.run(100)

    assert (dispatch.done.total(), dispatch.failures) == (100, [])
    assert endpoint.calls[30] == 2
    assert dispatch.calls.retries.budget.available == BURST + BUDGET_SHARE * 100 - 1


def test_when_every_batch_breaks_off_the_rows_are_sent_one_by_one_within_the_retry_budget() -> None:
    """For example, a proxy does not let the answers through."""
    endpoint = Endpoint()
    endpoint.refused_by = Unreachable("ReadError")

    dispatch = endpoint.run(200)

    assert dispatch.done.total() == 200
    assert len(endpoint.started_at) - 200 <= 4
    assert endpoint.started_at[-1] < 60


def test_when_batches_are_refused_the_rest_of_the_chunk_is_sent_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = Endpoint(refused_by=BatchRefused("The batch call was refused with status 404."))

    dispatch = endpoint.run(50)

    assert (dispatch.done.total(), endpoint.alone, len(endpoint.started_at)) == (50, list(range(50)), 51)
    (line,) = caplog.messages
    assert line == "The rows of the chunk are sent one by one: The batch call was refused with status 404."


def test_rows_of_a_batch_are_rejected_and_retried_like_all_others() -> None:
    def answer(index: int, tried: int) -> Answer:
        if index == 3:
            return rejection("sku", "unique", "Taken.")
        if index == 5:
            return an_answer(500, NOT_CREATED)
        return an_answer(502) if (index, tried) == (6, 1) else an_answer(201, CREATED)

    endpoint = Endpoint(answer)
    dispatch = endpoint.run(100)

    assert by_index(dispatch.failures) == {3: Outcome.REJECTED, 5: Outcome.FAILED}
    assert (dispatch.done.total(), endpoint.calls[5], endpoint.calls[6]) == (98, MAX_TRIES, 2)
    assert set(endpoint.alone) >= {5, 6}


def test_when_every_row_is_answered_500_the_retries_stay_within_the_budget() -> None:
    endpoint = Endpoint(lambda _index, _tried: an_answer(500, NOT_CREATED))

    dispatch = endpoint.run(200, cap=4)

    assert len(dispatch.failures) == 200
    assert {failure.index: failure.attempts for failure in dispatch.failures} == endpoint.calls
    seconds = endpoint.started_at[-1]
    assert endpoint.calls.total() <= (1 + BUDGET_SHARE) * 200 + BURST + RETRIES_PER_SECOND * seconds


@pytest.mark.parametrize("status", [429, 503])
def test_while_the_endpoint_wants_to_wait_no_batch_starts(status: int) -> None:
    busy = an_answer(status, Retry_After="40")
    endpoint = Endpoint(lambda index, tried: busy if (index, tried) == (50, 1) else an_answer(201, CREATED))

    dispatch = endpoint.run(100, cap=2)

    assert dispatch.done.total() == 100
    assert endpoint.calls[50] == 2
    answered_at = max(at for at in endpoint.started_at if at < 30) + 1
    assert min(at for at in endpoint.started_at if at > answered_at) >= 40


def test_after_a_cancel_the_rows_that_had_no_turn_are_unprocessed() -> None:
    endpoint = Endpoint(lambda index, _tried: an_answer(409, RowVerdict.CANCELLED if index >= 50 else CREATED))

    dispatch = endpoint.run(100)

    assert dispatch.done.total() == 50
    assert by_index(dispatch.failures) == dict.fromkeys(range(50, 100), Outcome.UNPROCESSED)
    assert max(endpoint.calls) == 50


def test_a_stale_worker_starts_no_further_batch() -> None:
    endpoint = Endpoint(lambda index, _tried: an_answer(409, RowVerdict.STALE if index == 50 else CREATED))

    dispatch = endpoint.run(100)

    assert isinstance(dispatch.stopped_by, StaleEpoch)
    assert (max(endpoint.calls), dispatch.failures) == (50, [])


def test_a_stop_takes_effect_between_batches() -> None:
    def answer(index: int, _tried: int) -> Answer:
        if index == 50:
            endpoint.dispatch.stop(ChunkDeferred("paused", pause=PauseCode.STAFF))
        return an_answer(201, CREATED)

    endpoint = Endpoint(answer)
    dispatch = endpoint.run(1000)

    (last,) = (batch for batch in endpoint.batches if 50 in batch)
    assert endpoint.batches[-1] == last
    assert (dispatch.done.total(), dispatch.failures) == (last[-1] + 1, [])


def test_when_the_time_is_over_the_chunk_is_deferred() -> None:
    endpoint = Endpoint()

    dispatch = endpoint.run(2000, stop_in=5.5)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert (dispatch.stopped_by.pause, dispatch.failures) == (None, [])
    assert max(endpoint.started_at) < 5.5
    assert dispatch.done.total() == endpoint.calls.total() > 0


@pytest.mark.parametrize("cap", [1, 3])
@pytest.mark.parametrize("count", [9, 60])
def test_a_forbidden_row_is_rejected_if_other_rows_of_its_batch_are_created(count: int, cap: int) -> None:
    endpoint = Endpoint(lambda index, _tried: FORBIDDEN if index == 4 else an_answer(201, CREATED))

    assert by_index(endpoint.run(count, cap=cap).failures) == {4: Outcome.REJECTED}


@pytest.mark.parametrize("cap", [1, 3])
def test_when_the_permission_is_withdrawn_no_row_is_rejected(cap: int) -> None:
    """The rows of a batch share the permission with which it began."""
    withdrawn = False

    def answer(index: int, _tried: int) -> Answer:
        nonlocal withdrawn
        withdrawn |= index == 50
        (batch,) = (number for number, batch in enumerate(endpoint.batches) if index in batch)
        may_create.setdefault(batch, not withdrawn)
        return an_answer(201, CREATED) if may_create[batch] else FORBIDDEN

    may_create: dict[int, bool] = {}
    endpoint = Endpoint(answer)
    dispatch = endpoint.run(200, cap=cap)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert (dispatch.stopped_by.pause, dispatch.failures) == (PauseCode.FORBIDDEN, [])


def test_a_monolith_that_is_away_pauses_the_job() -> None:
    endpoint = Endpoint(lambda _index, _tried: DIES)

    dispatch = endpoint.run(100)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert (dispatch.stopped_by.pause, dispatch.failures) == (PauseCode.ENDPOINT_AWAY, [])


outcomes = st.sampled_from(["created", "rejected", "500", "dies once", "dies", "hangs up", "503"])


@given(
    st.lists(outcomes | st.just("created"), max_size=40),
    st.integers(1, 3),
    st.sampled_from([0.01, 0.3]),
    st.integers(1, 5),
)
def test_every_row_gets_one_outcome_whatever_happens_to_the_batches(
    plan: list[str], cap: int, seconds: float, lines_at_once: int
) -> None:
    def answer(index: int, tried: int) -> Answer | str:
        kind = plan[index]
        if kind in {"dies", "hangs up"} or (kind == "dies once" and tried == 1):
            return HANGS_UP if kind == "hangs up" and tried == 1 else DIES if kind != "hangs up" else creates(0, 0)
        if kind == "503" and tried == 1:
            return an_answer(503, NOT_CREATED, Retry_After="1")
        return {"rejected": rejection(None, "", "No."), "500": an_answer(500, NOT_CREATED)}.get(kind, creates(0, 0))

    endpoint = Endpoint(answer, seconds=seconds, lines_at_once=lines_at_once)
    dispatch = endpoint.run(len(plan), cap=cap)

    found = Counter(failure.index for failure in dispatch.failures)
    assert set(found.values()) <= {1}
    # A row whose answer was lost fails if the retry budget is spent. The monolith then refuses the report of the chunk.
    unseen = {index for index in endpoint.created if plan[index] == "hangs up" and endpoint.calls[index] == 1}
    assert found.keys() & endpoint.created <= unseen
    assert len(endpoint.created) - len(unseen) <= dispatch.done.total() <= len(endpoint.created)
    assert dispatch.stopped_by or found.keys() | endpoint.created == set(range(len(plan)))
    wrong = {index for index, kind in enumerate(plan) if kind in {"rejected", "500", "dies", "dies once", "hangs up"}}
    assert found.keys() <= wrong
    assert endpoint.most_in_flight <= cap


some_rows = st.lists(st.integers(1, 64 * 1024), min_size=1, max_size=150)


@given(some_rows, st.integers(1, MAX_BATCH_ROWS), st.sampled_from([0.0, 0.001, 0.1, 3.0]), st.sets(st.integers(0, 99)))
def test_a_batch_has_the_first_rows_and_keeps_its_limits(
    sizes: list[int], most: int, seconds: float, alone: set[int]
) -> None:
    rows = [Row(index, b"x" * size, is_alone=index in alone) for index, size in enumerate(sizes)]
    left, limit, size = deque(rows), ConcurrencyLimiter(4), BatchSize(most)
    limit._call_seconds = seconds

    batches = []
    while left:
        batches.append(size.take(left, limit))

    assert [row for batch in batches for row in batch] == rows
    assert max(map(len, batches)) <= most
    assert max(len(batch_body(2**31, batch)) for batch in batches) <= MAX_BATCH_BYTES
    assert all(len(batch) == 1 for batch in batches if any(row.is_alone for row in batch))
    assert seconds < 3 or len(batches) == len(rows)


def test_the_body_of_a_batch_has_its_head_and_the_unchanged_rows() -> None:
    head, *rows, end = batch_body(7, [Row(3, a_row(3)), Row(4, a_row(4))]).split(b"\n")

    assert BatchHead.from_dict(json.loads(head)) == BatchHead(7, [3, 4])
    assert (rows, end) == ([a_row(3), a_row(4)], b"")


def lines_of(answers: list[BatchLine]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in [*(a.to_dict() for a in answers), BATCH_END])


@given(st.data(), st.lists(st.text(max_size=5), max_size=4))
def test_an_answer_is_read_however_it_is_cut_into_pieces(data: st.DataObject, bodies: list[str]) -> None:
    answers = [BatchLine(index, 201, {}, body) for index, body in enumerate(bodies)]
    text = lines_of(answers)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    reader = BatchReader([Row(index, b"") for index in range(len(bodies) + 1)])

    found = [line for start, end in pairwise([0, *cuts, len(text)]) for line in reader.read(text[start:end])]

    assert (found, reader.has_ended) == (answers, True)


@pytest.mark.parametrize(
    "text",
    [
        b"\n",
        b"<html>\n",
        b"[]\n",
        b'{"index": 0}\n',
        b'{"index": 1, "status": 201, "headers": {}}\n',
        b'{"index": 0, "status": 201, "headers": {}}\n' * 2,
        b'{"end": true}\n{"index": 0, "status": 201, "headers": {}}\n',
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_an_answer_that_does_not_follow_the_contract_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of several classes
        BatchReader([Row(0, b"")]).read(text)
