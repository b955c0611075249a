"""The decision on each answer, the retry budget, and the waits."""

from __future__ import annotations

import random
from email.utils import format_datetime
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulk_import_wire.contract import RowVerdict
from lambda_worker.retries import (
    BUDGET_SHARE,
    BURST,
    COMMITTED,
    MAX_BACKOFF_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    MAX_TRIES,
    RETRIES_PER_SECOND,
    RULES,
    Decision,
    RetryBudget,
    backoff_seconds,
    decide,
    retry_after_seconds,
)

NO_VERDICT = ""
UNKNOWN_VERDICT = "maybe"
VERDICTS = [NO_VERDICT, UNKNOWN_VERDICT, *RowVerdict]
STATUSES = range(100, 600)

OF_VERDICT = {
    RowVerdict.CREATED: Decision.CREATED,
    RowVerdict.UPDATED: Decision.CREATED,
    RowVerdict.UNCHANGED: Decision.CREATED,
    RowVerdict.DELETED: Decision.CREATED,
    RowVerdict.REPLAYED: Decision.CREATED,
    RowVerdict.STALE: Decision.STALE,
    RowVerdict.REFUSED: Decision.REJECTED,
    RowVerdict.CANCELLED: Decision.CANCEL,
    RowVerdict.PAUSED: Decision.PAUSE,
    RowVerdict.WRONG_ENDPOINT: Decision.PAUSE,
}
"""The decisions that depend on the verdict only."""

OF_STATUS = {429: Decision.WAIT, 503: Decision.WAIT}
"""The decisions on a status, with the verdict not-created or without a known verdict."""

OF_STATUS_NOT_CREATED = {401: Decision.FORBIDDEN, 403: Decision.FORBIDDEN, 408: Decision.RETRY, 425: Decision.RETRY} | {
    status: Decision.REJECTED for status in range(400, 500) if status not in {401, 403, 408, 425, 429}
}
OF_STATUS_NOT_CREATED |= dict.fromkeys(range(200, 300), Decision.WRONG_STATUS)
OF_STATUS_WITHOUT_VERDICT = {401: Decision.PAUSE, 403: Decision.PAUSE, 404: Decision.PAUSE, 405: Decision.PAUSE}


def expected(status: int, verdict: str) -> Decision:
    """Return the decision in the tables above. An answer that is in none of them is retried."""
    if verdict in OF_VERDICT:
        return OF_VERDICT[RowVerdict(verdict)]
    if status in OF_STATUS:
        return OF_STATUS[status]
    of_status = OF_STATUS_NOT_CREATED if verdict == RowVerdict.NOT_CREATED else OF_STATUS_WITHOUT_VERDICT
    return of_status.get(status, Decision.RETRY)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_status_leads_to_the_decision_in_the_tables(verdict: str) -> None:
    assert {status: decide(status, verdict) for status in STATUSES} == {
        status: expected(status, verdict) for status in STATUSES
    }


def test_each_rule_decides_some_answer_and_each_decision_is_reached() -> None:
    deciding = {
        next(number for number, rule in enumerate(RULES) if rule.matches(verdict, status))
        for status, verdict in product(STATUSES, [NO_VERDICT, *RowVerdict])
    }
    assert deciding == set(range(len(RULES)))
    assert {rule.decision for rule in RULES} == set(Decision)


@pytest.mark.parametrize(
    ("status", "verdict", "decision"),
    [
        (403, RowVerdict.STALE, Decision.STALE),
        (403, RowVerdict.CREATED, Decision.CREATED),  # the row is committed, so the status was changed on the way
        (403, RowVerdict.NOT_CREATED, Decision.FORBIDDEN),
        (404, RowVerdict.NOT_CREATED, Decision.REJECTED),
        (404, NO_VERDICT, Decision.PAUSE),
        (409, RowVerdict.NOT_CREATED, Decision.REJECTED),
        (409, NO_VERDICT, Decision.RETRY),
        (400, UNKNOWN_VERDICT, Decision.RETRY),
        (503, RowVerdict.NOT_CREATED, Decision.WAIT),
        (201, NO_VERDICT, Decision.RETRY),
        (302, NO_VERDICT, Decision.RETRY),
    ],
)
def test_answers_that_are_easily_confused_lead_to_the_right_decision(
    status: int, verdict: str, decision: Decision
) -> None:
    assert decide(status, verdict) == decision


@given(st.integers(0, 999), st.text())
def test_only_the_verdict_of_a_committed_row_means_created(status: int, verdict: str) -> None:
    assert (decide(status, verdict) == Decision.CREATED) == (verdict in COMMITTED)


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_an_unknown_status_is_retried(status: int) -> None:
    assert decide(status, NO_VERDICT) == Decision.RETRY


class Clock:
    """A clock that a test sets."""

    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def spend_all(budget: RetryBudget) -> int:
    """Spend all retries that are available now, and return their number."""
    spent = 0
    while not budget.spend():
        spent += 1
    return spent


def test_one_bad_row_of_a_small_chunk_gets_all_its_tries() -> None:
    assert spend_all(RetryBudget(Clock())) == MAX_TRIES - 1


@pytest.mark.parametrize("rows", [10, 40, 5000])
def test_every_ten_rows_add_a_retry_to_the_budget(rows: int) -> None:
    budget = RetryBudget(Clock())
    spend_all(budget)
    for _row in range(rows):
        budget.earn()
    assert spend_all(budget) == rows / 10


def test_after_the_wait_that_spend_returns_there_is_a_retry() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    spend_all(budget)
    waited = []
    for _retry in range(20):
        clock.seconds += 0.3
        waited.append(budget.spend())
        clock.seconds += waited[-1]
        assert budget.spend() == 0
    assert waited == pytest.approx([0.7] * 20)


def test_rows_shorten_the_wait() -> None:
    budget = RetryBudget(Clock())
    spend_all(budget)
    for _row in range(4):
        budget.earn()
    assert budget.spend() == pytest.approx(0.6)


def test_a_long_time_without_retries_adds_no_more_than_the_burst() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    clock.seconds += 86400
    assert spend_all(budget) == BURST


def test_time_never_reduces_the_retries_that_the_rows_earned() -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    for _row in range(100):
        budget.earn()
    clock.seconds += 86400
    assert spend_all(budget) == BURST + 10


@given(st.lists(st.sampled_from(["earn", "spend"]) | st.floats(0, 100), max_size=300))
def test_the_retries_never_exceed_the_share_the_burst_and_the_rate(happenings: list[str | float]) -> None:
    clock = Clock()
    budget = RetryBudget(clock)
    earned = spent = 0
    elapsed = 0.0
    for happening in happenings:
        if happening == "earn":
            budget.earn()
            earned += 1
        elif happening == "spend":
            wait = budget.spend()
            assert 0 <= wait <= 1 / RETRIES_PER_SECOND
            spent += wait == 0
        elif isinstance(happening, float):
            clock.seconds += happening
            elapsed += happening
        assert spent <= BURST + BUDGET_SHARE * earned + RETRIES_PER_SECOND * elapsed + 1e-6


@given(st.integers(0, 10_000))
def test_the_backoff_is_bounded(failures: int) -> None:
    assert 0 <= backoff_seconds(failures) <= MAX_BACKOFF_SECONDS
    assert 0 <= backoff_seconds(failures, 30) <= 30


def test_the_bound_of_the_backoff_doubles_with_each_failure_up_to_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)

    assert [backoff_seconds(failures) for failures in range(1, 7)] == [0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [backoff_seconds(failures, 30) for failures in (5, 6, 7, 8)] == [6.4, 12.8, 25.6, 30.0]


@given(st.none() | st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_retry_after_is_within_its_bounds_whatever_the_header_contains(header: str | None) -> None:
    assert 0 <= retry_after_seconds(header) <= MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0", 0),
        ("-5", 0),
        ("31536000", MAX_RETRY_AFTER_SECONDS),
        ("9" * 400, MAX_RETRY_AFTER_SECONDS),
        ("9" * 5000, 0),
        ("-" + "9" * 5000, 0),
        ("\u0667", 7),  # ARABIC-INDIC DIGIT SEVEN
        ("\u00b2", 0),  # SUPERSCRIPT TWO
        ("1.5", 0),
        ("1e400", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        (None, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0),
        ("Wed, 21 Oct 2222 07:28:00 GMT", MAX_RETRY_AFTER_SECONDS),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float) -> None:
    assert retry_after_seconds(header) == seconds
