"""Turns the answers of the worker API into exceptions."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, MessageRefused, MonolithAway, StaleEpoch
from lambda_worker.retries import retry_after_seconds

if TYPE_CHECKING:
    from lambda_worker.monolith_client import Answer

AWAY_SECONDS = 30
"""Delay of a message if the worker API does not respond, unless the API asks for a longer delay."""


def away(reason: str, answer: Answer | None = None) -> MonolithAway:
    """Return the exception for a worker API that is away. The answer may ask for a longer delay than AWAY_SECONDS."""
    retry_after = retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
    return MonolithAway(f"The worker API is unavailable: {reason}.", delay_seconds=max(retry_after, AWAY_SECONDS))


def refusal(verb: str, answer: Answer) -> Exception:
    """Return the exception for a response of the worker API whose status is below 500 but not 200.

    The exception depends on the code in the body, because a status alone could come from a proxy.
    """
    document = answer.json()
    code = str(document.get("code", ""))[:50] if isinstance(document, dict) else ""
    if code == "closed":
        return ChunkClosed("The chunk is closed.")
    if code == "stale_epoch":
        return StaleEpoch("Another worker has the chunk.")
    if code in {"lease_held", "retried_too_soon", "paused"}:
        seconds = retry_after_seconds(answer.headers.get("Retry-After"))
        return ChunkDeferred(f"The chunk cannot be claimed now: {code}.", delay_seconds=max(seconds, 1))
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return away(f"{verb} returned {answer.status}", answer)
    if code in {"unknown_chunk", "foreign_message"}:
        return MessageRefused(f"The monolith does not know this message: {code}.")
    # A 400 can mean that the worker and the monolith are different releases. The message is kept, because it can be
    # processed after one of them is upgraded.
    reason = str(document.get("message", ""))[:200] if code in {"malformed", "unsupported_contract"} else ""
    if code == "authentication_failed":
        reason = "Set BULK_IMPORT_WORKER_SECRET of the worker to one of the site's WORKER_SECRETS."
    return ChunkReturned(f"The monolith returned {verb} with {answer.status} {code}. {reason}".rstrip())
