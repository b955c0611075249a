"""Observes whether the create endpoint answers, so that an outage pauses the job instead of failing its rows."""

from __future__ import annotations

from dataclasses import dataclass

from lambda_worker.retries import backoff_seconds

AWAY_AFTER_CALLS = 5
"""Consecutive unanswered calls after which the endpoint may count as away. A single call fails by chance."""

AWAY_AFTER_SECONDS = 20.0
"""Time that these calls must span. Many calls in flight fail together, for example when one server restarts."""


@dataclass(slots=True)
class EndpointHealth:
    """The health of the create endpoint during one dispatch. All times are times of `time.monotonic()`.

    A call is *answered* if it gets a verdict and the endpoint is not busy. Otherwise it is *unanswered*: there is no
    answer, the answer has no verdict, or its status is 429 or 503.

    Unanswered calls have two possible causes. If only one row gets no answer, the row is bad and fails after its tries.
    If no row gets one, the endpoint is away and no row is bad. Signs of life tell the two apart.
    """

    calls: int = 0
    calls_unanswered: int = 0
    counts_heartbeats: bool = False  # set while one row only is left; see `signs_of_life`
    open_at: float = 0.0  # no call may start before: the endpoint asked for a pause, or is in trouble
    _answered: int = 0
    _heartbeats: int = 0
    _unanswered: int = 0  # consecutive
    _unanswered_since: float = 0.0  # when the first of these began
    _signs_before: int = 0  # the signs of life when the first of these ended

    @property
    def signs_of_life(self) -> int:
        """The number of events so far that show that the endpoint works.

        As long as this number does not grow, no row is to blame for its unanswered calls. Answered calls count. While
        the last row is retried, no other row can get an answer, so the monolith's answers to heartbeats count as well.
        """
        return self._answered + (self._heartbeats if self.counts_heartbeats else 0)

    def record_heartbeat(self) -> None:
        """Record that the monolith answered a heartbeat."""
        self._heartbeats += 1

    def record_answered(self) -> None:
        """Record that a call got a verdict, and the endpoint is not busy."""
        self.calls += 1
        self._answered += 1
        self._unanswered = 0

    def record_unanswered(self, *, began_at: float, now: float, retry_after_seconds: float) -> None:
        """Record that a call got no verdict or a busy answer, and let no call start for a while.

        The wait is the Retry-After of the endpoint or the backoff, whichever is longer.
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
        """Return whether the endpoint counts as away.

        That is so after AWAY_AFTER_CALLS consecutive unanswered calls, over AWAY_AFTER_SECONDS or a third of the time
        that was left until `stop_at`, without a sign of life. The third is for short invocations, which would otherwise
        end before they notice the outage.
        """
        patience = min(AWAY_AFTER_SECONDS, (stop_at - self._unanswered_since) / 3)
        return (
            self._unanswered >= AWAY_AFTER_CALLS
            and now - self._unanswered_since >= patience
            and self.signs_of_life == self._signs_before
        )
