"""What an answer of the create endpoint means, and how long to wait before asking again.

This is the only layer that retries a create call.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from lambda_worker.contract import RowVerdict

MAX_TRIES = 5
"""Tries of a row that gets no answer worth having. Busy answers do not count, the deadline bounds them."""

BACKOFF_BASE_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 5.0
MAX_RETRY_AFTER_SECONDS = 30.0
"""What is believed of a Retry-After; it may say a year."""


class Decision(StrEnum):
    """What to do about the answer to one create call."""

    CREATED = "created"
    REJECTED = "rejected"  # the endpoint said no; asking again would not change it
    RETRY = "retry"  # no answer worth having; counts as a try
    WAIT = "wait"  # busy; the row is not to blame and loses no try
    RETURN = "return"  # no row of this chunk can be created now: hand the chunk back
    STALE = "stale"  # another worker has the chunk


BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
FORBIDDEN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
NOT_THERE = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}


def decide(status: int, row_verdict: str) -> Decision:
    """The decision on an answer with this HTTP status and `ROW_HEADER`.

    Created and rejected need the ledger's word: a 201, an HTML 200 or a 400 without it may come from
    anywhere, such as a proxy.
    """
    if row_verdict in {RowVerdict.CREATED, RowVerdict.REPLAYED}:
        return Decision.CREATED
    if row_verdict == RowVerdict.STALE:
        return Decision.STALE
    if status in BUSY:
        return Decision.WAIT
    if status in FORBIDDEN or (status in NOT_THERE and not row_verdict):
        return Decision.RETURN
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in TRANSIENT
    return Decision.REJECTED if is_refusal and row_verdict else Decision.RETRY


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
