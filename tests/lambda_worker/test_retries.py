"""What each answer means, and how long to wait."""

from __future__ import annotations

from email.utils import format_datetime
from http import HTTPStatus
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_worker.contract import RowVerdict
from lambda_worker.retries import (
    BACKOFF_CAP_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    Decision,
    backoff_seconds,
    decide,
    retry_after_seconds,
)

NO_VERDICT = ""
VERDICTS = [NO_VERDICT, *RowVerdict]

OF_VERDICT = {
    RowVerdict.CREATED: Decision.CREATED,
    RowVerdict.REPLAYED: Decision.CREATED,
    RowVerdict.STALE: Decision.STALE,
}
"""The ledger's word counts, whatever the status."""

OF_STATUS_WITHOUT_VERDICT = {404: Decision.RETURN, 405: Decision.RETURN}
OF_STATUS = {
    401: Decision.RETURN,
    403: Decision.RETURN,
    408: Decision.RETRY,
    425: Decision.RETRY,
    429: Decision.WAIT,
    503: Decision.WAIT,
}
OF_STATUS_CLASS = {
    1: Decision.RETRY,
    2: Decision.RETRY,
    3: Decision.RETRY,
    4: Decision.REJECTED,
    5: Decision.RETRY,
}


def expected(status: int, verdict: str) -> Decision:
    """Look the decision up in the tables above, the most particular first."""
    if verdict in OF_VERDICT:
        return OF_VERDICT[RowVerdict(verdict)]
    if not verdict and status in OF_STATUS_WITHOUT_VERDICT:
        return OF_STATUS_WITHOUT_VERDICT[status]
    decision = OF_STATUS.get(status) or OF_STATUS_CLASS[status // 100]
    return Decision.RETRY if decision == Decision.REJECTED and not verdict else decision


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("status", HTTPStatus)
def test_every_status_is_decided_as_the_tables_say(status: HTTPStatus, verdict: str) -> None:
    assert decide(status, verdict) == expected(status, verdict)


def test_every_decision_is_reachable() -> None:
    assert {decide(status, verdict) for status, verdict in product(HTTPStatus, VERDICTS)} == set(Decision)


@given(st.integers(0, 999), st.text().filter(lambda text: text not in {RowVerdict.CREATED, RowVerdict.REPLAYED}))
def test_created_is_only_what_the_ledger_calls_created(status: int, verdict: str) -> None:
    assert decide(status, verdict) != Decision.CREATED


@pytest.mark.parametrize("status", [0, 99, 600, 999])
def test_a_status_that_does_not_exist_is_no_answer_worth_having(status: int) -> None:
    assert decide(status, NO_VERDICT) == Decision.RETRY


@given(st.integers(0, 100))
def test_the_backoff_is_bounded(tries: int) -> None:
    assert 0 <= backoff_seconds(tries) <= BACKOFF_CAP_SECONDS


@given(st.none() | st.text() | st.integers().map(str) | st.datetimes().map(format_datetime))
def test_retry_after_is_within_its_bounds_whatever_the_header_says(header: str | None) -> None:
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
        ("1.5", 0),
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
