"""Every row is sent, every call settles, and an event that concerns the whole chunk stops further rows."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.contract import (
    MAX_ANSWER_BYTES,
    SUBMITTER_DISABLED,
    VERDICT_HEADER,
    Outcome,
    PauseCode,
    RowVerdict,
)
from lambda_worker import call_gate, row_calls
from lambda_worker.deadlines import CALL_TIMEOUT_SECONDS
from lambda_worker.endpoint_health import AWAY_AFTER_CALLS, AWAY_AFTER_SECONDS
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, StaleEpoch, Unreachable
from lambda_worker.failure_file import RowFailure, group_failures
from lambda_worker.limiter import ConcurrencyLimiter
from lambda_worker.monolith_client import Answer
from lambda_worker.refusals import errors_of
from lambda_worker.retries import (
    BUDGET_SHARE,
    BURST,
    MAX_RETRY_AFTER_SECONDS,
    MAX_TRIES,
    RETRIES_PER_SECOND,
    RetryBudget,
)
from lambda_worker.retry_queue import RetryQueue
from lambda_worker.row_calls import RowCalls
from lambda_worker.row_dispatch import RowDispatch
from lambda_worker.set_aside_rows import MAX_WRONG_STATUS_ROWS
from tests.lambda_worker.conftest import a_row
from tests.lambda_worker.test_limiter import now as simulated_now
from tests.lambda_worker.test_limiter import run as simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("_no_backoff")

CREATED = RowVerdict.CREATED
NOT_CREATED = RowVerdict.NOT_CREATED
NEVER = 3600.0


def an_answer(status: int, verdict: str = "", body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, httpx.Headers({**named, **({VERDICT_HEADER: verdict} if verdict else {})}), body)


def rejection(field: str | None, code: str, message: str, status: int = 400) -> Answer:
    errors = [{"field": field, "code": code, "message": message}]
    return an_answer(status, NOT_CREATED, json.dumps({"errors": errors}).encode())


UNREACHABLE = None
"""Stands for a call that gets no answer."""


class Endpoint:
    """The create endpoint, in place of `MonolithClient.create`.

    `answers` are the answers to the calls for a row, in order. The last one is used for all further calls. A row
    without answers gets `default`. `on_call` is called in the middle of each call.
    """

    def __init__(self, answers: dict[int, list[Answer | None]] | None = None, default: Answer | None = None) -> None:
        self.answers = answers or {}
        self.default = default
        self.on_call: Callable[[int], None] = lambda _index: None
        self.calls: Counter[int] = Counter()
        self.bodies: dict[int, bytes] = {}
        self.timeouts: list[float] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.settled = 0

    async def __call__(self, index: int, row: bytes, timeout_seconds: float) -> Answer:
        self.calls[index] += 1
        self.bodies[index] = row
        self.timeouts.append(timeout_seconds)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.on_call(index)
        for _turn in range(index % 4 + 1):  # so that calls do not end in the order in which they started
            await asyncio.sleep(0)
        self.in_flight -= 1
        self.settled += 1
        given = self.answers.get(index, [self.default])
        answer = given[min(self.calls[index], len(given)) - 1]
        if answer is UNREACHABLE:
            raise Unreachable("ReadError")
        return answer


def accepting(answers: dict[int, list[Answer | None]] | None = None) -> Endpoint:
    return Endpoint(answers, default=an_answer(201, CREATED))


def a_dispatch(endpoint: Endpoint, *, cap: int = 3, stop_in: float = NEVER, settle_in: float = NEVER) -> RowDispatch:
    now = time.monotonic()
    return RowDispatch(RowCalls(endpoint, ConcurrencyLimiter(cap), now + settle_in), now + stop_in)


def with_heartbeats(dispatch: RowDispatch, endpoint: Endpoint) -> RowDispatch:
    """Let the monolith answer a heartbeat during every call."""

    def beat(_index: int) -> None:
        dispatch.calls.health.record_heartbeat()

    endpoint.on_call = beat
    return dispatch


def rows(count: int) -> Iterator[tuple[int, bytes]]:
    return ((index, a_row(index)) for index in range(count))


def run(dispatch: RowDispatch, count: int) -> list[RowFailure]:
    """Dispatch so many rows, and return the failures. The dispatch must not stop."""
    asyncio.run(dispatch.run(rows(count)))
    assert dispatch.stopped_by is None
    return dispatch.failures


def stopped(dispatch: RowDispatch, count: int) -> ChunkReturned | ChunkClosed:
    """Dispatch so many rows, and return the reason why the dispatch stopped."""
    asyncio.run(dispatch.run(rows(count)))
    assert dispatch.stopped_by
    return dispatch.stopped_by


def deferred(dispatch: RowDispatch, count: int) -> ChunkDeferred:
    reason = stopped(dispatch, count)
    assert isinstance(reason, ChunkDeferred)
    return reason


def by_index(failures: list[RowFailure]) -> dict[int, Outcome]:
    return {failure.index: failure.outcome for failure in failures}


def test_each_row_is_sent_once_with_its_own_bytes() -> None:
    endpoint = accepting()

    assert run(a_dispatch(endpoint), 20) == []
    assert endpoint.bodies == {index: a_row(index) for index in range(20)}
    assert set(endpoint.calls.values()) == {1}


def test_without_rows_there_are_no_failures() -> None:
    assert run(a_dispatch(accepting()), 0) == []


@pytest.mark.parametrize(
    "bad",
    [
        an_answer(500, NOT_CREATED),
        UNREACHABLE,
        an_answer(302, "", Location="/login"),
        an_answer(200, "", b"<html>"),
        an_answer(201, "", b'{"id":'),
        an_answer(200, "", b"x" * MAX_ANSWER_BYTES),
    ],
    ids=["500", "no answer", "a redirect", "HTML", "broken JSON", "long"],
)
def test_every_call_settles_although_others_fail_and_only_a_verdict_counts_as_created(
    bad: Answer | None,
) -> None:
    endpoint = accepting({0: [rejection("sku", "unique", "Taken.")], 1: [bad]})

    failures = run(with_heartbeats(a_dispatch(endpoint), endpoint), 12)

    assert by_index(failures) == {0: Outcome.REJECTED, 1: Outcome.FAILED}
    assert endpoint.calls[0] == 1
    assert MAX_TRIES <= endpoint.calls[1] <= MAX_TRIES + 1  # a try without a sign of life does not count
    assert sorted(endpoint.calls) == list(range(12))
    assert endpoint.settled == endpoint.calls.total()


@pytest.mark.parametrize("cap", [1, 2, 7])
def test_never_more_calls_are_in_flight_than_the_cap(cap: int) -> None:
    endpoint = accepting({index: [UNREACHABLE, an_answer(201, CREATED)] for index in range(0, 50, 3)})

    run(a_dispatch(endpoint, cap=cap), 50)

    assert 1 <= endpoint.most_in_flight <= cap


@pytest.mark.usefixtures("_simulated_clock")
def test_a_lower_cap_takes_effect_during_the_dispatch() -> None:
    in_flight: list[int] = []

    def answer(index: int, _tried: int) -> Answer:
        in_flight.append(len(endpoint.started) - len(endpoint.settled_at))
        if index == 50:
            endpoint.dispatch.calls.limit.set_cap(2)
        return an_answer(201, CREATED)

    endpoint = TimedEndpoint(answer)
    endpoint.run(100, cap=4)

    assert max(in_flight) == 4
    assert max(in_flight[54:]) == 2  # by then, the calls that were in flight at the change have ended


def test_a_higher_cap_takes_effect_during_the_dispatch() -> None:
    endpoint = accepting()
    dispatch = a_dispatch(endpoint, cap=1)
    endpoint.on_call = lambda index: dispatch.calls.limit.set_cap(5) if index == 10 else None

    run(dispatch, 200)

    assert endpoint.most_in_flight > 1


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (an_answer(500, NOT_CREATED), 500, "http_500"),
        (an_answer(502), 502, "http_502"),
        (UNREACHABLE, None, "no_answer"),
    ],
)
def test_a_row_without_a_usable_answer_fails_after_all_tries(
    answer: Answer | None, status: int | None, code: str
) -> None:
    endpoint = accepting({4: [answer]})

    (failure,) = run(with_heartbeats(a_dispatch(endpoint), endpoint), 5)

    assert endpoint.calls[4] == failure.attempts == MAX_TRIES
    assert (failure.index, failure.row, failure.outcome) == (4, a_row(4), Outcome.FAILED)
    assert (failure.status, failure.errors[0]["code"]) == (status, code)


def test_a_row_that_the_last_try_creates_is_not_a_failure() -> None:
    endpoint = accepting({0: [*[an_answer(500)] * (MAX_TRIES - 1), an_answer(201, CREATED)]})

    assert run(a_dispatch(endpoint), 1) == []


def test_a_lost_answer_then_replayed_counts_as_created() -> None:
    endpoint = accepting({0: [UNREACHABLE, an_answer(201, RowVerdict.REPLAYED)]})

    assert run(a_dispatch(endpoint), 1) == []
    assert endpoint.calls[0] == 2


@pytest.mark.parametrize("status", [400, 409, 413, 422, 404])
def test_a_row_that_the_endpoint_refuses_is_rejected_once_with_its_reason(status: int) -> None:
    endpoint = accepting({1: [rejection("sku", "unique", "Taken.", status)]})

    (failure,) = run(a_dispatch(endpoint), 3)

    assert (failure.outcome, failure.status, failure.attempts) == (Outcome.REJECTED, status, 1)
    assert failure.errors == [{"field": "sku", "code": "unique", "message": "Taken."}]
    assert endpoint.calls[1] == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["", "0", "-1", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_busy_answer_does_not_count_as_a_try(status: int, retry_after: str) -> None:
    busy = an_answer(status, Retry_After=retry_after)
    unanswered: list[Answer | None] = [an_answer(500)] * (MAX_TRIES - 1)
    endpoint = accepting({0: [*unanswered, *[busy] * (3 * MAX_TRIES), an_answer(201, CREATED)]})

    assert run(a_dispatch(endpoint), 4) == []


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("20", 20),
        ("31536000", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        ("Wed, 21 Oct 2222 07:28:00 GMT", MAX_RETRY_AFTER_SECONDS),
    ],
)
def test_a_retry_after_beyond_the_time_left_pauses_the_job_for_that_long(
    status: int, retry_after: str, seconds: float
) -> None:
    endpoint = accepting({0: [an_answer(status, Retry_After=retry_after)]})

    reason = deferred(a_dispatch(endpoint, stop_in=15), 1)

    assert (reason.pause, reason.delay_seconds) == (PauseCode.ENDPOINT_BUSY, seconds)
    assert endpoint.calls[0] == 1


def test_a_retry_after_of_a_year_is_shortened() -> None:
    """More time is left than the longest Retry-After that the worker obeys, so the row waits instead of pausing."""
    endpoint = accepting({0: [an_answer(429, Retry_After="31536000")]})
    dispatch = a_dispatch(endpoint, stop_in=MAX_RETRY_AFTER_SECONDS + 60)

    async def wait_until_it_sleeps() -> bool:
        running = asyncio.create_task(dispatch.run([(0, a_row(0))]))
        for _turn in range(20):
            await asyncio.sleep(0)
        waits = not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return waits

    assert asyncio.run(wait_until_it_sleeps())


@pytest.mark.usefixtures("_no_patience")
def test_an_endpoint_that_never_answers_is_away_and_the_calls_in_flight_settle() -> None:
    endpoint = Endpoint(default=UNREACHABLE)

    reason = deferred(a_dispatch(endpoint, cap=10), 100)

    assert reason.pause == PauseCode.ENDPOINT_AWAY
    assert endpoint.settled == endpoint.calls.total() < AWAY_AFTER_CALLS + 10
    assert endpoint.in_flight == 0


@pytest.mark.parametrize("answer", [UNREACHABLE, an_answer(502), an_answer(400, body=b"<h1>Bad Request</h1>")])
@pytest.mark.parametrize("count", [1, 4, 100])
@pytest.mark.usefixtures("_no_patience")
def test_as_long_as_no_call_gets_a_verdict_no_row_fails(answer: Answer | None, count: int) -> None:
    """For example, while the monolith behind a load balancer is being deployed."""
    dispatch = a_dispatch(Endpoint(default=answer))

    assert deferred(dispatch, count).pause == PauseCode.ENDPOINT_AWAY
    assert dispatch.failures == []


def test_an_answered_call_in_between_shows_that_the_endpoint_is_not_away() -> None:
    endpoint = accepting({index: [UNREACHABLE, an_answer(201, CREATED)] for index in range(100)})

    assert run(a_dispatch(endpoint, cap=AWAY_AFTER_CALLS - 1), 100) == []


def test_a_stale_worker_starts_no_further_row_and_its_calls_settle() -> None:
    endpoint = accepting({3: [an_answer(409, RowVerdict.STALE)]})
    dispatch = a_dispatch(endpoint, cap=4)

    assert isinstance(stopped(dispatch, 100), StaleEpoch)
    assert endpoint.settled == endpoint.calls.total()
    assert max(endpoint.calls) < 3 + 4 + 4


@pytest.mark.parametrize("status", [401, 403])
def test_when_a_permission_is_revoked_during_the_import_the_job_is_paused_and_no_row_is_rejected(status: int) -> None:
    endpoint = accepting({
        index: [rejection(None, "permission_denied", "You may not.", status)] for index in range(5, 100)
    })  # fmt: skip
    dispatch = a_dispatch(endpoint)

    reason = deferred(dispatch, 100)

    assert reason.pause == PauseCode.FORBIDDEN
    assert str(status) in str(reason)
    assert "You may not." not in str(reason)  # the reason is logged, and the endpoint may answer anything
    assert dispatch.failures == []
    assert set(endpoint.calls.values()) == {1}


def test_when_the_submitter_is_disabled_the_job_is_paused_although_a_call_that_began_later_was_faster() -> None:
    endpoint = accepting({5: [rejection(None, SUBMITTER_DISABLED, "Disabled.", 403)]})
    dispatch = a_dispatch(endpoint)

    assert deferred(dispatch, 100).pause == PauseCode.FORBIDDEN
    assert dispatch.failures == []


def test_when_the_ledger_says_that_staff_paused_the_job_the_worker_stops_as_after_a_heartbeat() -> None:
    endpoint = accepting({index: [an_answer(409, RowVerdict.PAUSED)] for index in range(5, 100)})
    dispatch = a_dispatch(endpoint)

    assert deferred(dispatch, 100).pause == PauseCode.STAFF
    assert dispatch.failures == []
    assert set(endpoint.calls.values()) == {1}


@pytest.mark.parametrize("status", [404, 405])
def test_an_endpoint_that_does_not_exist_pauses_the_job_and_rejects_no_row(status: int) -> None:
    dispatch = a_dispatch(Endpoint(default=an_answer(status, "", b"<h1>Not found</h1>")))

    assert deferred(dispatch, 10).pause == PauseCode.ENDPOINT_AWAY
    assert dispatch.failures == []


def test_after_the_deadline_no_row_is_started() -> None:
    endpoint = accepting()

    assert "time is over" in str(stopped(a_dispatch(endpoint, stop_in=-1), 10))
    assert not endpoint.calls


def test_at_the_deadline_the_calls_in_flight_settle_and_no_further_row_is_started() -> None:
    endpoint = accepting()
    dispatch = a_dispatch(endpoint, cap=3)

    def end(index: int) -> None:
        if index == 10:
            dispatch.gate.stop_at = time.monotonic()

    endpoint.on_call = end

    assert not isinstance(stopped(dispatch, 100), StaleEpoch)
    assert endpoint.settled == endpoint.calls.total() < 10 + 2 * 3


def test_a_row_that_would_have_to_wait_beyond_the_deadline_gets_no_outcome() -> None:
    endpoint = accepting({0: [an_answer(500)]})
    dispatch = a_dispatch(endpoint)
    endpoint.on_call = lambda _index: setattr(dispatch.gate, "stop_at", time.monotonic())

    stopped(dispatch, 1)

    assert endpoint.calls[0] == 1
    assert dispatch.failures == []


@pytest.mark.parametrize(
    ("settle_in", "at_least", "at_most"),
    [(NEVER, CALL_TIMEOUT_SECONDS, CALL_TIMEOUT_SECONDS), (20, 0.1, 20), (-1, 0.1, 0.1)],
)
def test_no_call_lasts_longer_than_the_invocation(settle_in: float, at_least: float, at_most: float) -> None:
    endpoint = accepting()

    run(a_dispatch(endpoint, settle_in=settle_in), 3)

    assert all(at_least <= timeout <= at_most for timeout in endpoint.timeouts)


def test_after_a_cancel_the_other_rows_are_unprocessed_and_the_calls_in_flight_settle() -> None:
    endpoint = accepting({9: [rejection("sku", "unique", "Taken.")]})
    dispatch = a_dispatch(endpoint)

    def cancel(index: int) -> None:
        if index == 10:
            dispatch.cancel()

    endpoint.on_call = cancel
    failures = run(dispatch, 100)

    called, untouched = max(endpoint.calls), [f for f in failures if f.outcome == Outcome.UNPROCESSED]
    assert called < 10 + 2 * 3
    assert endpoint.settled == called + 1
    assert [failure.index for failure in untouched] == list(range(called + 1, 100))
    assert {(f.attempts, f.status, f.errors[0]["code"]) for f in untouched} == {(0, None, "cancelled")}
    assert [failure.index for failure in failures if failure.outcome == Outcome.REJECTED] == [9]


def wake(dispatch: RowDispatch, by: Callable[[], None]) -> None:
    """Dispatch one row that has to wait for minutes, and call `by` meanwhile."""

    async def main() -> None:
        running = asyncio.create_task(dispatch.run(rows(1)))
        for _turn in range(50):
            await asyncio.sleep(0)
        assert not running.done()
        by()
        await asyncio.wait_for(running, 10)

    asyncio.run(main())


def test_a_waiting_row_wakes_up_when_the_chunk_is_lost() -> None:
    endpoint = accepting({0: [an_answer(429, Retry_After="300")]})
    dispatch = a_dispatch(endpoint)

    wake(dispatch, lambda: dispatch.stop(StaleEpoch("lost")))

    assert endpoint.calls[0] == 1
    assert isinstance(dispatch.stopped_by, StaleEpoch)
    assert dispatch.failures == []


def test_a_waiting_row_wakes_up_when_the_job_is_cancelled_and_is_unprocessed() -> None:
    endpoint = accepting({0: [an_answer(429, Retry_After="300")]})
    dispatch = a_dispatch(endpoint)

    wake(dispatch, dispatch.cancel)

    assert endpoint.calls[0] == 1
    assert [(failure.outcome, failure.attempts) for failure in dispatch.failures] == [(Outcome.UNPROCESSED, 1)]
    assert dispatch.stopped_by is None


def test_after_the_verdict_cancelled_the_row_and_all_later_ones_are_unprocessed() -> None:
    endpoint = accepting({2: [an_answer(409, RowVerdict.CANCELLED)]})
    dispatch = a_dispatch(endpoint)

    failures = run(dispatch, 100)

    assert max(endpoint.calls) < 2 + 2 * 3
    assert {failure.outcome for failure in failures} == {Outcome.UNPROCESSED}
    assert dispatch.finished_rows == 100
    assert 2 in {failure.index for failure in failures}


@dataclass
class TimedEndpoint:
    """An endpoint on a simulated clock. Each call takes `seconds`. `answer` maps the row and the try to the answer."""

    answer: Callable[[int, int], Answer | None]
    seconds: float = 0.1
    started: list[float] = field(default_factory=list)
    settled_at: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    calls: Counter[int] = field(default_factory=Counter)
    dispatch: RowDispatch = field(init=False)

    async def __call__(self, index: int, _row: bytes, _timeout_seconds: float) -> Answer:
        self.calls[index] += 1
        self.started.append(simulated_now())
        self.limits.append(self.dispatch.calls.limit.limit)
        answer = self.answer(index, self.calls[index])
        await asyncio.sleep(self.seconds)
        self.settled_at.append(simulated_now())
        if answer is UNREACHABLE:
            raise Unreachable("ReadError")
        return answer

    def run(self, count: int, *, cap: int = 8, stop_in: float = NEVER) -> RowDispatch:
        return self.run_rows(list(rows(count)), [], cap=cap, stop_in=stop_in)

    def run_rows(
        self, left: list[tuple[int, bytes]], unfinished: list[RowFailure], *, cap: int = 8, stop_in: float = NEVER
    ) -> RowDispatch:
        async def main() -> RowDispatch:
            now = simulated_now()
            limit, budget = ConcurrencyLimiter(cap, simulated_now), RetryBudget(simulated_now)
            self.dispatch = RowDispatch(RowCalls(self, limit, now + stop_in + 10, RetryQueue(budget)), now + stop_in)
            await self.dispatch.run(left, unfinished)
            return self.dispatch

        return simulate(main())


@pytest.fixture
def _simulated_clock(_no_backoff: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the real waits, on a simulated clock."""
    monkeypatch.undo()
    for module in (row_calls, call_gate):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=simulated_now))


@pytest.mark.usefixtures("_simulated_clock")
@pytest.mark.parametrize("status", [429, 503])
def test_while_one_call_has_to_wait_no_other_call_starts(status: int) -> None:
    busy = an_answer(status, Retry_After="40")
    endpoint = TimedEndpoint(lambda index, tried: busy if (index, tried) == (5, 1) else an_answer(201, CREATED))

    dispatch = endpoint.run(30)

    asked_at = endpoint.started[5] + endpoint.seconds
    after = [at for at in endpoint.started if at > asked_at]
    assert min(after) >= asked_at + 40
    assert dispatch.finished_rows == 30
    assert dispatch.stopped_by is None


@pytest.mark.usefixtures("_simulated_clock")
@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_is_busy_for_long_pauses_the_job(status: int) -> None:
    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(status))

    dispatch = endpoint.run(500)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert dispatch.stopped_by.pause == PauseCode.ENDPOINT_BUSY
    assert endpoint.settled_at[-1] >= AWAY_AFTER_SECONDS
    assert endpoint.calls.total() <= 1 + BURST + RETRIES_PER_SECOND * endpoint.settled_at[-1]
    assert dispatch.failures == []


@pytest.mark.usefixtures("_simulated_clock")
def test_an_endpoint_that_is_busy_for_a_moment_does_not_pause_the_job() -> None:
    endpoint = TimedEndpoint(lambda _i, _t: an_answer(503) if simulated_now() < 10 else an_answer(201, CREATED))

    dispatch = endpoint.run(100)

    assert dispatch.stopped_by is None
    assert dispatch.finished_rows == 100


@pytest.mark.usefixtures("_simulated_clock")
@pytest.mark.parametrize("count", [1, 8, 40, 500])
@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_when_every_call_is_answered_500_each_row_fails_once_the_budget_is_spent(count: int, seconds: float) -> None:
    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(500, NOT_CREATED), seconds)

    dispatch = endpoint.run(count)

    assert dispatch.stopped_by is None
    assert {failure.errors[0]["code"] for failure in dispatch.failures} == {"http_500"}
    assert {failure.index: failure.attempts for failure in dispatch.failures} == endpoint.calls
    assert max(endpoint.calls.values()) == MAX_TRIES, "no row got all its tries"
    ended_at = endpoint.settled_at[-1]
    assert ended_at <= count * seconds / 8 + 30
    assert endpoint.calls.total() <= (1 + BUDGET_SHARE) * count + BURST + RETRIES_PER_SECOND * ended_at


@pytest.mark.usefixtures("_simulated_clock")
def test_a_function_of_a_minute_ends_500_rows_that_are_all_answered_500_in_a_few_deliveries() -> None:
    """At this rate, two functions end the 200 chunks of 100,000 such rows within an hour."""
    failures: dict[int, RowFailure] = {}
    unfinished: list[RowFailure] = []
    seconds, deliveries, calls = 0.0, 0, 0
    while len(failures) < 500:
        endpoint = TimedEndpoint(lambda _index, _tried: an_answer(500, NOT_CREATED), 0.3)
        known = failures.keys() | {row.index for row in unfinished}
        left = [row for row in rows(500) if row[0] not in known]
        dispatch = endpoint.run_rows(left, unfinished, stop_in=48.0)
        assert dispatch.made_progress
        failures |= {failure.index: failure for failure in dispatch.failures}
        unfinished = dispatch.unfinished
        seconds += endpoint.settled_at[-1]
        calls += endpoint.calls.total()
        deliveries += 1

    assert deliveries <= 2
    assert seconds * 200 / 2 <= 3600
    assert calls <= (1 + BUDGET_SHARE) * 500 + deliveries * BURST + RETRIES_PER_SECOND * seconds
    assert {failure.errors[0]["code"] for failure in failures.values()} == {"http_500"}


@pytest.mark.usefixtures("_simulated_clock")
def test_the_tries_of_an_earlier_delivery_count() -> None:
    """An endpoint so slow that no row gets all its tries within one delivery."""
    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(500, NOT_CREATED), 10.0)
    first = endpoint.run(8, stop_in=15.0)

    assert first.failures == []
    assert first.made_progress
    assert {row.attempts for row in first.unfinished} <= {1, 2}

    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(500, NOT_CREATED), 0.1)
    left = [row for row in rows(8) if row[0] not in {tried.index for tried in first.unfinished}]
    second = endpoint.run_rows(left, first.unfinished)
    assert len(second.failures) == 8
    assert {failure.attempts - endpoint.calls[failure.index] for failure in second.failures} <= {0, 1, 2}


@pytest.mark.usefixtures("_simulated_clock")
def test_a_row_that_was_tried_before_and_is_created_now_is_created() -> None:
    tried = RowFailure(0, a_row(0), Outcome.UNPROCESSED, 500, [], attempts=4, at="")
    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(201, CREATED))

    dispatch = endpoint.run_rows([], [tried])

    assert (dispatch.done.total(), dispatch.failures, dispatch.unfinished) == (1, [], [])


@pytest.mark.usefixtures("_simulated_clock")
@pytest.mark.parametrize("unanswered", [an_answer(503), UNREACHABLE], ids=["503", "no answer"])
def test_a_row_with_all_its_tries_does_not_fail_by_an_answer_that_is_not_a_try(unanswered: Answer | None) -> None:
    """An earlier delivery stopped just when the row had its last try."""
    tried = RowFailure(0, a_row(0), Outcome.UNPROCESSED, 500, [], attempts=MAX_TRIES, at="")
    endpoint = TimedEndpoint(lambda _index, tries: unanswered if tries == 1 else an_answer(201, CREATED))

    dispatch = endpoint.run_rows([], [tried])

    assert (dispatch.done.total(), dispatch.failures, dispatch.unfinished) == (1, [], [])


WRONG_STATUS = an_answer(200, NOT_CREATED)


@pytest.mark.parametrize("wrong", [{0}, {0, 4, 8}, set(range(1, 40, 2))])
def test_a_row_with_a_wrong_status_fails_after_one_call_if_another_row_is_created(wrong: set[int]) -> None:
    endpoint = accepting({index: [WRONG_STATUS] for index in wrong})

    failures = run(a_dispatch(endpoint), 50)

    assert by_index(failures) == dict.fromkeys(sorted(wrong), Outcome.FAILED)
    assert set(endpoint.calls.values()) == {1}


def test_a_few_rows_with_a_wrong_status_at_the_start_do_not_pause_the_job_if_the_control_is_created() -> None:
    wrong = set(range(MAX_WRONG_STATUS_ROWS))
    endpoint = accepting({index: [WRONG_STATUS] for index in wrong})

    dispatch = a_dispatch(endpoint, cap=1)
    failures = run(dispatch, 20)

    assert by_index(failures) == dict.fromkeys(sorted(wrong), Outcome.FAILED)
    assert (dispatch.done.total(), dispatch.stopped_by, set(endpoint.calls.values())) == (15, None, {1})


def test_a_row_with_a_wrong_status_fails_if_an_earlier_delivery_created_a_row() -> None:
    dispatch = a_dispatch(Endpoint(default=WRONG_STATUS))
    dispatch.has_created_before = True

    assert by_index(run(dispatch, 20)) == dict.fromkeys(range(20), Outcome.FAILED)


@pytest.mark.parametrize("count", [1, MAX_WRONG_STATUS_ROWS - 1, 100])
def test_an_endpoint_that_answers_every_row_with_a_wrong_status_pauses_the_job_after_a_few_rows(count: int) -> None:
    endpoint = Endpoint(default=WRONG_STATUS)
    dispatch = a_dispatch(endpoint, cap=3)

    assert deferred(dispatch, count).pause == PauseCode.WRONG_STATUS
    assert endpoint.calls.total() <= MAX_WRONG_STATUS_ROWS + 3
    assert (dispatch.failures, dispatch.unfinished) == ([], [])


@pytest.mark.usefixtures("_simulated_clock")
def test_a_row_with_a_wrong_status_keeps_its_tries_when_the_job_is_paused() -> None:
    tried = RowFailure(0, a_row(0), Outcome.UNPROCESSED, 500, [], attempts=3, at="")

    dispatch = TimedEndpoint(lambda _index, _tried: WRONG_STATUS).run_rows([], [tried])

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert [row.attempts for row in dispatch.unfinished] == [3]


FORBIDDEN = rejection(None, "permission_denied", "Not in this category.", 403)


@pytest.mark.parametrize("forbidden", [{0}, {3}, {0, 1, 2, 3, 4}, set(range(0, 40, 2))])
@pytest.mark.parametrize("status", [401, 403])
def test_a_row_that_is_forbidden_while_others_get_through_is_rejected(forbidden: set[int], status: int) -> None:
    refusal = rejection(None, "permission_denied", "Not in this category.", status)
    endpoint = accepting({index: [refusal] for index in forbidden})

    failures = run(a_dispatch(endpoint), 50)

    assert by_index(failures) == dict.fromkeys(sorted(forbidden), Outcome.REJECTED)
    assert {failure.errors[0]["message"] for failure in failures} == {"Not in this category."}
    assert set(endpoint.calls.values()) == {1}


def test_a_row_that_the_endpoint_rejects_shows_that_the_submitter_has_the_permission() -> None:
    endpoint = Endpoint({0: [FORBIDDEN]}, default=rejection("sku", "unique", "Taken."))

    assert by_index(run(a_dispatch(endpoint), 20)) == dict.fromkeys(range(20), Outcome.REJECTED)


def test_a_replayed_row_does_not_show_that_the_submitter_still_has_the_permission() -> None:
    endpoint = Endpoint({0: [FORBIDDEN]}, default=an_answer(201, RowVerdict.REPLAYED))

    assert deferred(a_dispatch(endpoint), 20).pause == PauseCode.FORBIDDEN


@pytest.mark.usefixtures("_simulated_clock")
def test_when_the_endpoint_becomes_ten_times_as_slow_fewer_calls_are_in_flight() -> None:
    def answer(index: int, _tried: int) -> Answer:
        endpoint.seconds = 0.1 if index < 300 else 1.0
        return an_answer(201, CREATED)

    endpoint = TimedEndpoint(answer)
    endpoint.run(600, cap=16)

    assert max(endpoint.limits[:300]) == 16
    assert min(endpoint.limits[300:]) <= 8


@pytest.mark.usefixtures("_simulated_clock")
def test_when_the_time_is_over_the_chunk_is_deferred_without_a_pause_and_every_call_has_settled() -> None:
    endpoint = TimedEndpoint(lambda _index, _tried: an_answer(201, CREATED), seconds=1)

    dispatch = endpoint.run(500, stop_in=5.5)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert (dispatch.stopped_by.pause, dispatch.stopped_by.delay_seconds) == (None, 0)
    assert max(endpoint.started) < 5.5
    assert dispatch.finished_rows == len(endpoint.settled_at) == endpoint.calls.total() > 0


@pytest.mark.usefixtures("_simulated_clock")
def test_an_unanswered_call_just_before_the_end_does_not_pause_the_job() -> None:
    busy = an_answer(503)
    endpoint = TimedEndpoint(lambda index, _tried: busy if index == 29 else an_answer(201, CREATED), seconds=1)

    dispatch = endpoint.run(500, cap=4, stop_in=15.5)

    assert endpoint.calls[29]
    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert dispatch.stopped_by.pause is None


@pytest.mark.usefixtures("_simulated_clock")
def test_a_row_that_ran_out_of_time_before_a_cancel_keeps_its_tries_for_the_next_delivery() -> None:
    """The first rows let the limit grow to two, so that rows 8 and 9 are called at the same time."""

    def answer(index: int, _tried: int) -> Answer:
        endpoint.seconds = 5 if index == 9 else 0.1
        if index == 9:
            asyncio.get_running_loop().call_later(3, endpoint.dispatch.cancel)
        return an_answer(500, NOT_CREATED) if index == 8 else an_answer(201, CREATED)

    endpoint = TimedEndpoint(answer)
    dispatch = endpoint.run(10, stop_in=1.5)

    assert isinstance(dispatch.stopped_by, ChunkDeferred)
    assert ([row.index for row in dispatch.unfinished], dispatch.failures, dispatch.done.total()) == ([8], [], 9)


def test_the_first_reason_to_stop_is_kept() -> None:
    dispatch = a_dispatch(accepting())
    first = StaleEpoch("first")
    dispatch.stop(first)
    dispatch.stop(ChunkReturned("second"))

    assert stopped(dispatch, 3) is first


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        ({"errors": [{"field": "a", "code": "b", "message": "c"}]}, [{"field": "a", "code": "b", "message": "c"}]),
        ({"code": "key_reused", "message": "Used."}, [{"field": None, "code": "key_reused", "message": "Used."}]),
        ({"message": "Just so."}, [{"field": None, "code": "", "message": "Just so."}]),
        ({"errors": [{"message": "a\ud800b\0c"}]}, [{"field": None, "code": "", "message": "a?b?c"}]),
        ({"errors": [{"field": 3, "code": 4, "message": "c"}]}, [{"field": "3", "code": "4", "message": "c"}]),
    ],
)
def test_the_reasons_are_read_in_the_format_of_the_ledger(document: object, errors: list[dict[str, Any]]) -> None:
    assert errors_of(an_answer(400, NOT_CREATED, json.dumps(document).encode())) == errors


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b"[" * MAX_ANSWER_BYTES,
        b"9" * 5000,
        b"[]",
        b"{}",
        b'{"errors": []}',
        b'{"errors": "no"}',
        b'{"errors": ["no"]}',
        b'{"errors": [{"detail": "no"}]}',
        b'{"message": 5}',
    ],
)
def test_the_code_of_an_answer_without_a_readable_reason_is_its_status(body: bytes) -> None:
    assert [error["code"] for error in errors_of(an_answer(400, NOT_CREATED, body))] == ["http_400"]


def test_the_error_of_a_201_without_a_verdict_mentions_the_middleware() -> None:
    assert "ImportedRowMiddleware" in errors_of(an_answer(201))[0]["message"]


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just("\0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
any_error = any_json | st.fixed_dictionaries({}, optional={"field": any_json, "code": any_json, "message": any_json})
any_answer = st.fixed_dictionaries({}, optional={"errors": st.lists(any_error, max_size=4), "message": any_json})


@given(any_answer | any_json)
def test_whatever_the_endpoint_answers_a_rejected_row_can_be_stored_and_grouped(document: object) -> None:
    """An endpoint without DRF may answer anything. Its chunk must still come to an end."""
    endpoint = accepting({0: [an_answer(400, NOT_CREATED, json.dumps(document).encode())]})

    failures = run(a_dispatch(endpoint), 1)

    line = json.loads(failures[0].line().decode())
    assert line["errors"]
    assert group_failures(failures)
    assert "\\u0000" not in json.dumps([line["errors"], group_failures(failures)])
