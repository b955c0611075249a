"""What an answer of the create endpoint means, and how long to wait before asking again.

This is the only layer that retries a create call.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from bulk_import_wire.contract import RowVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Container

MAX_TRIES = 5
"""Tries of a row that gets no answer worth having. Busy answers do not count, the deadline bounds them."""

BACKOFF_BASE_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 5.0
MAX_RETRY_AFTER_SECONDS = 300.0
"""What is believed of a Retry-After; it may say a year."""

BUDGET_SHARE = 0.1
"""Retries that a row's first call pays for: the endpoint never gets more than a tenth on top of the work."""

BURST = MAX_TRIES - 1
"""Retries in hand from the start: one bad row of a chunk too small to pay for them gets all its tries."""

RETRIES_PER_SECOND = 1.0
"""Retries that time pays for, up to BURST in hand: the last rows of a chunk have no others after them to pay.
Percentage, start and trickle are as in Finagle's RetryBudget, whose trickle is 10; it serves a whole service."""

ROUNDING = 1e-9
"""Of a retry: ten tenths are one, whatever the sum of their floats."""


class Decision(StrEnum):
    """What to do about the answer to one create call."""

    CREATED = "created"
    REJECTED = "rejected"  # the endpoint said no; asking again would not change it
    RETRY = "retry"  # no answer worth having; counts as a try
    WAIT = "wait"  # busy; the row is not to blame and loses no try
    PAUSE = "pause"  # nobody's row can be created now
    STALE = "stale"  # another worker has the chunk
    CANCEL = "cancel"  # the job was cancelled; the row is unprocessed, as are all that follow


class Rule(NamedTuple):
    """A line of the table: the answers with one of these words of the ledger and one of these statuses."""

    words: Container[str]
    statuses: Container[int]
    decision: Decision

    def matches(self, word: str, status: int) -> bool:
        return word in self.words and status in self.statuses


NO_VERDICT = {""}
COMMITTED = {RowVerdict.CREATED, RowVerdict.REPLAYED}
NOT_CREATED = {RowVerdict.NOT_CREATED}
REFUSED = {RowVerdict.REFUSED}
STALE = {RowVerdict.STALE}
CANCELLED = {RowVerdict.CANCELLED}
ANY_VERDICT = NO_VERDICT | {*RowVerdict}

BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
FORBIDDEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}
REFUSAL = range(400, 500)  # among them 409, a conflict with what the endpoint has already
ANY_STATUS = range(1000)  # three digits

RULES = (
    # the ledger's word, the status, the decision
    Rule(COMMITTED, ANY_STATUS, Decision.CREATED),
    Rule(STALE, ANY_STATUS, Decision.STALE),
    Rule(CANCELLED, ANY_STATUS, Decision.CANCEL),
    Rule(REFUSED, ANY_STATUS, Decision.REJECTED),
    Rule(ANY_VERDICT, BUSY, Decision.WAIT),
    Rule(ANY_VERDICT, FORBIDDEN, Decision.PAUSE),
    Rule(NO_VERDICT, NOT_THERE, Decision.PAUSE),
    Rule(ANY_VERDICT, TRANSIENT, Decision.RETRY),
    Rule(NOT_CREATED, REFUSAL, Decision.REJECTED),
    Rule(ANY_VERDICT, ANY_STATUS, Decision.RETRY),
)
"""The first that matches decides.

Created and rejected need the ledger's word: a 201, an HTML 200 or a 400 without it may come from anywhere,
such as a proxy. Where the ledger says created, the row is committed, whatever became of the status on its way.
"""


def decide(status: int, row_verdict: str) -> Decision:
    """The decision on an answer with this HTTP status and `VERDICT_HEADER`; a word we do not know is none."""
    word = row_verdict if row_verdict in ANY_VERDICT else ""
    return next(rule.decision for rule in RULES if rule.matches(word, status))


class RetryBudget:
    """What may be retried on top of the work itself: BUDGET_SHARE of it, and a little for small chunks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._retries = float(BURST)  # in hand
        self._at = clock()  # until when the trickle is in

    def earn(self) -> None:
        """A row's first call was made."""
        self._retries += BUDGET_SHARE

    def spend(self) -> float:
        """Take a retry and return 0.0; if there is none, the seconds until there is one (ask again then)."""
        now = self._clock()
        trickled = (now - self._at) * RETRIES_PER_SECOND
        self._at = now
        self._retries = max(self._retries, min(self._retries + trickled, BURST))
        missing = 1 - self._retries
        if missing > ROUNDING:
            return missing / RETRIES_PER_SECOND
        self._retries -= 1
        return 0.0


def backoff_seconds(tries: int) -> float:
    """Full jitter: anything up to the exponential bound, so that many callers spread out."""
    return random.uniform(0, min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**tries))  # noqa: S311 - no secret


def retry_after_seconds(header: str | None) -> float:
    """The Retry-After header, in seconds or as a date, within 0 and MAX_RETRY_AFTER_SECONDS; 0 if unreadable."""
    if not header:
        return 0.0
    try:
        seconds: float = int(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return 0.0
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return float(min(max(seconds, 0), MAX_RETRY_AFTER_SECONDS))
