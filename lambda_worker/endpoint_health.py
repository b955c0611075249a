"""Observes whether the create endpoint responds, so that an outage pauses the job instead of failing its rows."""

from __future__ import annotations

from dataclasses import dataclass

from lambda_worker.retries import backoff_seconds

AWAY_AFTER_CALLS = 5
"""Consecutive unanswered calls after which the endpoint may count as unavailable. A single call can fail by chance."""

AWAY_AFTER_SECONDS = 20.0
"""Shortest time from the first to the last of these calls.

Many calls can fail at the same moment, for example when one server restarts. That alone is no outage.
"""


@dataclass(slots=True)
class EndpointHealth:
    """The health of the create endpoint while one RowDispatch runs. All times are times of `time.monotonic()`.

    A call is *answered* if it gets a verdict and the endpoint is not busy. Otherwise it is *unanswered*: there is no
    response, the response has no verdict, or its status is 429 or 503.

    Unanswered calls have two possible causes. If one row gets no response but other rows do, the row is bad, and it
    fails after MAX_TRIES. If no row gets a response, the endpoint is unavailable, and no row fails. `signs_of_life`
    shows which case it is.
    """

    calls: int = 0
    calls_unanswered: int = 0
    counts_heartbeats: bool = False  # set while only one row is left; see `signs_of_life`
    open_at: float = 0.0  # no call may start before this time
    _answered: int = 0
    _heartbeats: int = 0
    _unanswered: int = 0  # consecutive
    _unanswered_since: float = 0.0  # when the first of these began
    _signs_before: int = 0  # `signs_of_life` when the first of these ended

    @property
    def signs_of_life(self) -> int:
        """The number of events so far that show that the endpoint works.

        If this number does not grow, the endpoint may be the cause of unanswered calls, so no row fails because of
        them. Every answered call counts. While only one row is left, no other row can get a response, so the monolith's
        responses to heartbeats count as well.
        """
        return self._answered + (self._heartbeats if self.counts_heartbeats else 0)

    def record_heartbeat(self) -> None:
        """Record that the monolith responded to a heartbeat."""
        self._heartbeats += 1

    def record_answered(self) -> None:
        """Record that a call got a verdict, and the endpoint is not busy."""
        self.calls += 1
        self._answered += 1
        self._unanswered = 0

    def record_unanswered(self, *, began_at: float, now: float, retry_after_seconds: float) -> None:
        """Record that a call got no verdict or a busy response, and move `open_at` into the future.

        No call starts for the Retry-After of the endpoint or for the backoff, whichever is longer.
        """
        self.calls += 1
        self.calls_unanswered += 1
        if not self._unanswered:
            self._unanswered_since = began_at
            self._signs_before = self.signs_of_life
        self._unanswered += 1
        wait_seconds = max(retry_after_seconds, backoff_seconds(self._unanswered))
        self.open_at = max(self.open_at, now + wait_seconds)

    def is_away(self, *, now: float, stop_at: float) -> bool:
        """Return whether the endpoint counts as unavailable.

        It does if AWAY_AFTER_CALLS consecutive calls are unanswered, if this has lasted for AWAY_AFTER_SECONDS, and if
        there was no sign of life meanwhile. In a short invocation, this has to last only for a third of the time from
        the first of these calls to `stop_at`. Otherwise, the invocation could end before it notices the outage.
        """
        patience = min(AWAY_AFTER_SECONDS, (stop_at - self._unanswered_since) / 3)
        return (
            self._unanswered >= AWAY_AFTER_CALLS
            and now - self._unanswered_since >= patience
            and self.signs_of_life == self._signs_before
        )
