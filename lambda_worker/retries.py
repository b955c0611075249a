"""Decides what a response of the create endpoint means, and how long to wait before the next call.

No other layer retries a create call. A retry inside a retry would multiply the calls to an endpoint in trouble.
"""

from __future__ import annotations

import random
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from bulk_import_wire.contract import BUSY, PauseCode, RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from lambda_worker.monolith_client import Answer

MAX_TRIES = 5
"""Number of tries after which a row without a usable answer has failed. It has fewer if the retry budget is spent.

A busy response (429 or 503) does not count as a try. Only the deadline limits how often the worker waits for a busy
endpoint.
"""

BACKOFF_BASE_SECONDS = 0.2
"""Base of the exponential backoff. The first wait is at most twice this long, and each failure doubles it."""

MAX_BACKOFF_SECONDS = 5.0
"""Longest wait between two calls to the monolith, unless the response has a Retry-After header."""

MAX_RETRY_AFTER_SECONDS = 300.0
"""Longest Retry-After that the worker obeys. The header may contain anything, even a year."""

BUDGET_SHARE = 0.1
"""Retries that the first call of each row adds to the budget: one for ten rows.

So an endpoint in trouble gets about a tenth more calls than there are rows, and not several calls for each row.
"""

BURST = MAX_TRIES - 1
"""Retries in the budget at the start. They are enough for all tries of one bad row in a small chunk."""

RETRIES_PER_SECOND = 1.0
"""Retries that each second adds to the budget, up to BURST.

The last rows of a chunk need this, because no further rows add to the budget. Finagle's RetryBudget has the same three
parameters. Its rate is 10 per second, because it limits the retries of a whole service and not of one chunk.
"""

ROUNDING = 1e-9
"""Tolerance of the budget. In floating point, ten additions of 0.1 give a little less than 1, which must be enough."""


class Decision(StrEnum):
    """What to do after the response to one create call."""

    CREATED = "created"
    REJECTED = "rejected"  # the endpoint refused the row; a retry would get the same response
    RETRY = "retry"  # the response is not usable; it counts as a try of the row
    WAIT = "wait"  # the endpoint is busy; retry, without counting a try
    FORBIDDEN = "forbidden"  # the submitter may not create this row, or none
    PAUSE = "pause"  # no row of the job can be created now
    WRONG_STATUS = "wrong_status"  # the endpoint answered a success that does not count as a creation
    STALE = "stale"  # another worker has the chunk
    CANCEL = "cancel"  # the job was cancelled; this row and all later ones are unprocessed


class Rule(NamedTuple):
    """One line of RULES. It applies to the responses with one of these verdicts and one of these HTTP statuses."""

    verdicts: Container[str]
    statuses: Container[int]
    decision: Decision

    def matches(self, verdict: str, status: int) -> bool:
        return verdict in self.verdicts and status in self.statuses


NO_VERDICT = {""}
COMMITTED = {
    RowVerdict.CREATED,
    RowVerdict.UPDATED,
    RowVerdict.UNCHANGED,
    RowVerdict.DELETED,
    RowVerdict.REPLAYED,
}
NOT_CREATED = {RowVerdict.NOT_CREATED}
REFUSED = {RowVerdict.REFUSED}
WRONG_ENDPOINT = {RowVerdict.WRONG_ENDPOINT}
STALE = {RowVerdict.STALE}
CANCELLED = {RowVerdict.CANCELLED}
PAUSED = {RowVerdict.PAUSED}
ANY_VERDICT = NO_VERDICT | {*RowVerdict}

FORBIDDEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
SUCCESS = range(200, 300)
REFUSAL = range(400, 500)  # includes 409, a conflict with an existing object
ANY_STATUS = range(1000)  # HTTP allows three digits

RULES = (
    # verdict, HTTP status, decision
    Rule(COMMITTED, ANY_STATUS, Decision.CREATED),
    Rule(STALE, ANY_STATUS, Decision.STALE),
    Rule(CANCELLED, ANY_STATUS, Decision.CANCEL),
    Rule(PAUSED, ANY_STATUS, Decision.PAUSE),
    Rule(WRONG_ENDPOINT, ANY_STATUS, Decision.PAUSE),
    Rule(REFUSED, ANY_STATUS, Decision.REJECTED),
    Rule(ANY_VERDICT, BUSY, Decision.WAIT),
    Rule(NOT_CREATED, FORBIDDEN, Decision.FORBIDDEN),
    Rule(ANY_VERDICT, FORBIDDEN, Decision.PAUSE),
    Rule(NO_VERDICT, NOT_THERE, Decision.PAUSE),
    Rule(ANY_VERDICT, TRANSIENT, Decision.RETRY),
    Rule(NOT_CREATED, REFUSAL, Decision.REJECTED),
    Rule(NOT_CREATED, SUCCESS, Decision.WRONG_STATUS),
    Rule(ANY_VERDICT, ANY_STATUS, Decision.RETRY),
)
"""The rules for responses. The first rule that matches decides. In words, from the top:

1. The ledger says that the row is committed: it is created. The HTTP status does not matter, because something between
   the ledger and the worker may have changed it.
2. The ledger says stale, cancelled, paused, wrong endpoint or refused: the decision is the same, and the HTTP status
   does not matter either. With the wrong endpoint, every other row would get the same answer, so pause the job.
3. 429 or 503: the endpoint is busy. Wait and retry.
4. 401 or 403 with a verdict: the submitter may not create this row, or none. The other rows decide which.
5. 401 or 403 without a verdict: something in front of the endpoint refuses every row, so pause the job.
6. 404 or 405 without a verdict: there is no create endpoint at this path, so pause the job. With a verdict, the
   endpoint itself refused this row, for example because it refers to an object that does not exist.
7. 408 or 425: a temporary fault. Retry.
8. Another 4xx with the verdict not-created: the endpoint rejected the row.
9. A success with the verdict not-created: the target's `success_statuses` do not list the status. A retry would get the
   same answer. The other rows decide whether this row fails or the job is paused.
10. Everything else: retry. This includes a 201 or 400 without a verdict, which may come from a proxy. Only a verdict
    can prove that a row was created or rejected.
"""


def decide(status: int, row_verdict: str) -> Decision:
    """Return the decision on a response with this HTTP status and VERDICT_HEADER. An unknown verdict counts as none."""
    verdict = row_verdict if row_verdict in ANY_VERDICT else ""
    return next(rule.decision for rule in RULES if rule.matches(verdict, status))


def is_busy(answer: Answer | None) -> bool:
    """Return whether the endpoint has too much to do: it answers 429 or 503, or not at all."""
    return answer is None or answer.status in BUSY


def is_usable(answer: Answer | None) -> bool:
    """Return whether the answer has a verdict, and the endpoint is not busy."""
    return answer is not None and bool(answer.row_verdict) and not is_busy(answer)


def pause_code(response: Answer | None) -> PauseCode:
    """Return the reason for a pause after this response; None means that there was no response."""
    if response and response.row_verdict == RowVerdict.PAUSED:
        return PauseCode.STAFF
    if response and response.row_verdict == RowVerdict.WRONG_ENDPOINT:
        return PauseCode.WRONG_ENDPOINT
    if response and response.status in FORBIDDEN:
        # Only the middleware knows the submitter. Without its verdict, something in front of it rejected the token.
        return PauseCode.FORBIDDEN if response.row_verdict else PauseCode.TOKEN_REJECTED
    if response and response.status in SUCCESS and response.row_verdict:
        return PauseCode.WRONG_STATUS
    if response and response.status in BUSY:
        return PauseCode.ENDPOINT_BUSY
    return PauseCode.ENDPOINT_AWAY


class RetryBudget:
    """Limits the retries of a chunk: BUDGET_SHARE of its rows, plus BURST, plus RETRIES_PER_SECOND."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._retries = float(BURST)  # the retries that are left
        self._updated_at = clock()  # the time up to which RETRIES_PER_SECOND is included

    def earn(self) -> None:
        """Add to the budget. Call this for the first call of each row."""
        self._retries += BUDGET_SHARE

    @property
    def available(self) -> int:
        """The retries that can be spent now, without those that time has added since the last `spend`."""
        return int(self._retries + ROUNDING)

    def give_back(self, retries: int) -> None:
        """Put retries back that were not used."""
        self._retries += retries

    def spend(self, retries: int = 1) -> float:
        """Take so many retries, at most BURST, out of the budget and return 0.0.

        If there are not enough, return the seconds until there will be, at the latest. Call again then.
        """
        now = self._clock()
        elapsed = now - self._updated_at
        self._updated_at = now
        # Time adds retries up to BURST. If rows have already added more than BURST, the budget stays as it is.
        self._retries = max(self._retries, min(self._retries + elapsed * RETRIES_PER_SECOND, BURST))
        missing = retries - self._retries
        if missing > ROUNDING:
            return missing / RETRIES_PER_SECOND
        self._retries -= retries
        return 0.0


def backoff_seconds(failures: int, max_seconds: float | None = None) -> float:
    """Return the seconds to wait after this many consecutive failures. `max_seconds`: MAX_BACKOFF_SECONDS by default.

    Exponential backoff with full jitter: a random time between 0 and a bound that doubles with each failure. The random
    part spreads the retries of many callers that failed at the same moment.
    """
    bound = BACKOFF_BASE_SECONDS * 2.0 ** min(failures, 20)  # the exponent is limited because a float overflows
    return random.uniform(0, min(bound, max_seconds or MAX_BACKOFF_SECONDS))  # noqa: S311 - not a secret


def retry_after_seconds(header: str | None) -> float:
    """Return the seconds of a Retry-After header, which may be a number or a date.

    The result is between 0 and MAX_RETRY_AFTER_SECONDS. It is 0 if there is no header or it cannot be read.
    """
    if not header:
        return 0.0
    try:
        seconds: float = int(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        seconds = at.replace(tzinfo=at.tzinfo or UTC).timestamp() - time.time()
    return float(min(max(seconds, 0), MAX_RETRY_AFTER_SECONDS))


def retry_after_of(answer: Answer | None) -> float:
    """Return the seconds of the answer's Retry-After header; 0 if there is none."""
    return retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
