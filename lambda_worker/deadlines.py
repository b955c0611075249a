"""Divides the time that an invocation has left between creating rows and reporting the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from lambda_worker.events import LambdaContext

MAX_RESERVE_SECONDS = 30.0
"""Longest time that is reserved at the end of an invocation.

Half of the reserve is for the calls in flight to end. The other half is for storing the failures and for the report.
"""

RESERVE_SHARE = 0.2
"""Share of the remaining time that is reserved if it is less than MAX_RESERVE_SECONDS.

A short invocation must still create some rows.
"""

CALL_TIMEOUT_SECONDS = 30.0
"""Timeout of one create call, unless the invocation ends sooner."""

MIN_CALL_TIMEOUT_SECONDS = 0.1
"""Timeout of a call that starts when the time is already over. It must be positive."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Four points in time on the clock of `time.monotonic()`, in ascending order.

    Lambda kills a function whose time is over, and then the chunk is not reported. So each stage ends before the next
    one has to begin. Example: with 300 s left, the reserve is 30 s and the deadlines are 270, 285, 292.5 and 296.25 s
    from now.
    """

    stop_at: float  # from now on no row and no call is started; calls in flight continue
    settle_by: float  # every call has ended or timed out; then the worker stores the failures and reports the chunk
    report_by: float  # the report has been accepted, or the delivery has failed; then the worker ends its lease
    end_at: float  # the handler returns, even if the request that ends the lease has got no response yet

    @classmethod
    def of(cls, context: LambdaContext, now: float) -> Self:
        """Return the deadlines of an invocation. `now` is the current `time.monotonic()`."""
        seconds_left = context.get_remaining_time_in_millis() / 1000
        end = now + seconds_left
        reserve = min(MAX_RESERVE_SECONDS, seconds_left * RESERVE_SHARE)
        return cls(
            stop_at=end - reserve,
            settle_by=end - reserve / 2,
            report_by=end - reserve / 4,
            end_at=end - reserve / 8,
        )


def call_timeout_seconds(seconds_left: float) -> float:
    """Return the timeout of a create call that may take this long."""
    return min(CALL_TIMEOUT_SECONDS, max(seconds_left, MIN_CALL_TIMEOUT_SECONDS))
