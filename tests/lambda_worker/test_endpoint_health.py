"""An endpoint counts as away after several unanswered calls, over some time, without any sign of life."""

from __future__ import annotations

import pytest

from lambda_worker import endpoint_health
from lambda_worker.endpoint_health import AWAY_AFTER_CALLS, AWAY_AFTER_SECONDS, EndpointHealth

STOP_AT = 1000.0
LATER = AWAY_AFTER_SECONDS + 1


@pytest.fixture(autouse=True)
def _longest_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backoff predictable: 2 s after the first failure, 4 s after the second, and so on."""
    monkeypatch.setattr(endpoint_health, "backoff_seconds", lambda failures: 2.0 * failures)


def fail(health: EndpointHealth, calls: int, *, at: float = 0.0, retry_after_seconds: float = 0.0) -> None:
    """Record so many unanswered calls that begin and end at this time."""
    for _call in range(calls):
        health.record_unanswered(began_at=at, now=at, retry_after_seconds=retry_after_seconds)


def is_away(health: EndpointHealth, now: float = LATER, stop_at: float = STOP_AT) -> bool:
    return health.is_away(now=now, stop_at=stop_at)


def test_a_new_endpoint_is_not_away() -> None:
    assert not is_away(EndpointHealth())


def test_after_enough_unanswered_calls_and_enough_time_the_endpoint_is_away() -> None:
    health = EndpointHealth()
    fail(health, AWAY_AFTER_CALLS)

    assert is_away(health)


def test_fewer_unanswered_calls_are_not_enough_however_long_they_take() -> None:
    health = EndpointHealth()
    fail(health, AWAY_AFTER_CALLS - 1)

    assert not is_away(health, now=STOP_AT - 1)


def test_unanswered_calls_within_a_short_time_are_not_enough_however_many_they_are() -> None:
    health = EndpointHealth()
    fail(health, 10 * AWAY_AFTER_CALLS)

    assert not is_away(health, now=AWAY_AFTER_SECONDS - 0.1)


def test_in_a_short_invocation_a_third_of_its_time_is_enough() -> None:
    health = EndpointHealth()
    fail(health, AWAY_AFTER_CALLS)

    assert not is_away(health, now=2.9, stop_at=9.0)
    assert is_away(health, now=3.0, stop_at=9.0)


def test_the_time_counts_from_the_beginning_of_the_first_unanswered_call() -> None:
    health = EndpointHealth()
    for _call in range(AWAY_AFTER_CALLS):
        health.record_unanswered(began_at=100.0, now=115.0, retry_after_seconds=0)

    assert not is_away(health, now=100.0 + AWAY_AFTER_SECONDS - 0.1)
    assert is_away(health, now=100.0 + AWAY_AFTER_SECONDS)


def test_an_answered_call_starts_the_count_again() -> None:
    health = EndpointHealth()
    fail(health, AWAY_AFTER_CALLS - 1)
    health.record_answered()
    fail(health, AWAY_AFTER_CALLS - 1, at=1.0)

    assert not is_away(health)


def test_while_many_rows_are_left_a_heartbeat_is_not_a_sign_of_life() -> None:
    """The monolith may answer heartbeats while its create endpoint is away, as behind another load balancer."""
    health = EndpointHealth()
    fail(health, AWAY_AFTER_CALLS)
    health.record_heartbeat()

    assert health.signs_of_life == 0
    assert is_away(health)


def test_while_one_row_is_left_a_heartbeat_is_a_sign_of_life() -> None:
    health = EndpointHealth(counts_heartbeats=True)
    fail(health, AWAY_AFTER_CALLS)
    health.record_heartbeat()

    assert health.signs_of_life == 1
    assert not is_away(health)


def test_a_heartbeat_before_the_first_unanswered_call_is_not_a_sign_of_life_for_it() -> None:
    health = EndpointHealth(counts_heartbeats=True)
    health.record_heartbeat()
    fail(health, AWAY_AFTER_CALLS)

    assert is_away(health)


def test_each_answered_call_is_a_sign_of_life() -> None:
    health = EndpointHealth()
    health.record_answered()
    health.record_answered()

    assert health.signs_of_life == 2


def test_after_an_unanswered_call_no_call_may_start_before_the_backoff_is_over() -> None:
    health = EndpointHealth()
    fail(health, 1, at=100.0)
    assert health.open_at == 102.0

    fail(health, 1, at=101.0)
    assert health.open_at == 105.0


@pytest.mark.parametrize(("retry_after", "open_at"), [(40.0, 140.0), (0.5, 102.0)])
def test_the_longer_of_retry_after_and_backoff_counts(retry_after: float, open_at: float) -> None:
    health = EndpointHealth()
    fail(health, 1, at=100.0, retry_after_seconds=retry_after)

    assert health.open_at == open_at


def test_a_later_call_never_shortens_the_wait() -> None:
    health = EndpointHealth()
    fail(health, 1, at=100.0, retry_after_seconds=300.0)
    fail(health, 1, at=101.0)

    assert health.open_at == 400.0


def test_after_an_answered_call_the_backoff_starts_again_with_the_shortest_wait() -> None:
    health = EndpointHealth()
    fail(health, 3, at=100.0)
    health.record_answered()
    fail(health, 1, at=200.0)

    assert health.open_at == 202.0


def test_the_calls_are_counted_for_the_metrics() -> None:
    health = EndpointHealth()
    fail(health, 2)
    health.record_answered()

    assert (health.calls, health.calls_unanswered) == (3, 2)
