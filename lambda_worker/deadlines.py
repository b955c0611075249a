"""What a worker may still begin, by the time that its invocation has left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from lambda_worker.events import LambdaContext

MAX_SETTLE_SECONDS = 30.0
"""Kept at the end of an invocation for the calls in flight to settle and to be reported."""

SETTLE_SHARE = 0.2
"""Of the time left, when that is less."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Times of time.monotonic(), one after the other."""

    stop_at: float  # no row is taken after it
    settle_by: float  # every call has settled; then what was settled is stored and reported
    report_by: float  # it is reported, or the delivery has failed; then the lease is given back
    end_at: float  # nothing waits any longer; then the handler answers

    @classmethod
    def of(cls, context: LambdaContext, now: float) -> Self:
        seconds_left = context.get_remaining_time_in_millis() / 1000
        end = now + seconds_left
        settle_seconds = min(MAX_SETTLE_SECONDS, seconds_left * SETTLE_SHARE)
        return cls(
            stop_at=end - settle_seconds,
            settle_by=end - settle_seconds / 2,
            report_by=end - settle_seconds / 4,
            end_at=end - settle_seconds / 8,
        )
