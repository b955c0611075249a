"""What can go wrong, and who answers for it.

BulkImportError
├── BadImport               the client's doing: 4xx, nothing is kept
│   ├── MalformedBody       the body is no array of rows; says where
│   ├── BodyTooLarge        over a limit in bytes or rows
│   ├── InvalidRows         rows that the target's serializer refuses
│   ├── BadIdempotencyKey   the key is missing, malformed, or was used for other content
│   ├── QuotaExceeded       too many open jobs or rows: 429 with Retry-After
│   └── Expired             what this needs was deleted when its time was over: 410
├── Unavailable             our own trouble: 503 with Retry-After, nothing is lost
│   ├── StorageUnavailable  S3 does not take or give an object
│   └── QueueUnavailable    SQS does not take a message; the relay sends it later
└── ClaimError              a worker asks for what it may not have
    ├── NotNow              come back later
    │   ├── LeaseHeld       another worker holds a live lease
    │   └── JobPaused       no row of the job can be created now
    ├── ChunkClosed         done or cancelled: acknowledge the message, do nothing
    ├── StaleEpoch          the chunk was claimed by another worker since: stop at once
    └── LedgerDisagrees     the counts do not add up with the ledger: claim again and look
"""

from __future__ import annotations

from typing import Any


class BulkImportError(Exception):
    """Base of all errors of this app."""


class BadImport(BulkImportError):
    """Refuse the request with `status`; tell the client `code`, the message and `errors`."""

    status = 400
    code = "invalid"
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.extra = extra


class MalformedBody(BadImport):
    """Tell the client where the document breaks."""

    code = "malformed_body"


class BodyTooLarge(BadImport):
    """Tell the client the limit; it must send less."""

    status = 413
    code = "body_too_large"


class InvalidRows(BadImport):
    """Tell the client which rows and fields; `errors` is bounded, `error_count` is not."""

    code = "invalid_rows"


class BadIdempotencyKey(BadImport):
    """Tell the client to send a key, or a new one; the code says which."""


class QuotaExceeded(BadImport):
    """Tell the client the quota and when to come back."""

    status = 429
    code = "quota_exceeded"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Expired(BadImport):
    """Tell the client that it asks for what is no longer kept, or needs it; see `retention`."""

    status = 410
    code = "expired"


class Unavailable(BulkImportError):
    """Answer 503 with Retry-After; whatever was promised still holds."""

    retry_after_seconds = 30


class StorageUnavailable(Unavailable):
    """Nothing was stored; the client sends again."""


class QueueUnavailable(Unavailable):
    """The chunks stay pending; the relay sends them when the queue is back."""


class ClaimError(BulkImportError):
    """Answer the worker with the status of its kind."""


class NotNow(ClaimError):
    """Ask again after `retry_after_seconds`."""

    reason = ""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"{self.reason}; ask again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class LeaseHeld(NotNow):
    """Another worker is at it."""

    reason = "another worker holds the lease"


class JobPaused(NotNow):
    """The endpoint is away, or nobody may create; one claim at a time is let through to see."""

    reason = "the job is paused"


class ChunkClosed(ClaimError):
    """There is nothing left to do for this chunk."""


class StaleEpoch(ClaimError):
    """Someone else works on this chunk now."""


class LedgerDisagrees(ClaimError):
    """The worker's outcomes and the ledger's records do not add up to the chunk's rows."""


class DeliveryFailed(Exception):
    """Who was to be told did not take it; the text says why, and nothing confidential."""
