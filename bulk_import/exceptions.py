"""The exceptions of this app, and what they lead to.

BadImport                   the client must change something: 4xx, nothing is stored
├── BodyTooLarge            over a limit in bytes or rows: 413
├── QuotaExceeded           too many open jobs or rows: 429 with Retry-After
├── Expired                 the rows or failures were deleted after their retention period: 410
└── SentAgain               another import has the rows of this job: 409
Unavailable                 a service of ours does not answer: 503 with Retry-After
├── Busy                    this process is already validating as many uploads as it may
├── StorageUnavailable      S3 does not store or return an object
├── QueueUnavailable        SQS does not accept a message; the relay sends it later
├── NotConfigured           a check of this app reports an error
└── OuterTransaction        other code of the site has opened a transaction around ours
ClaimError                  a worker asks for a chunk that it cannot have
├── NotNow                  the worker asks again later
│   ├── LeaseHeld           another worker has a valid lease
│   ├── JobPaused           no row of the job can be created now
│   └── CreatesRunning      a create call of the chunk is still running
├── ChunkClosed             done or cancelled: acknowledge the message, do nothing
├── StaleEpoch              another worker has claimed the chunk: stop immediately
└── LedgerDisagrees         the counts do not match the ledger: claim the chunk again
DeliveryFailed              a receiver did not accept an email or a webhook

A class exists only where code catches it, or where several places raise the same status.
"""

from __future__ import annotations

from typing import Any


class BadImport(Exception):
    """The client's request is refused. The response has `status`, and `code`, `message` and `extra` as its body."""

    status = 400
    code = "malformed_body"
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None, status: int | None = None, **extra: Any) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.status = status or self.status
        self.extra = extra


class BodyTooLarge(BadImport):
    """The body, a row or the number of rows is over a limit, which the message names."""

    status = 413
    code = "body_too_large"


class QuotaExceeded(BadImport):
    """The user has reached a quota, which the message names. The client may try again later."""

    status = 429
    code = "quota_exceeded"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Expired(BadImport):
    """The request needs rows or failures that `retention` has deleted."""

    status = 410
    code = "expired"


class SentAgain(BadImport):
    """Another import, which the message names, has the rows of this job, so this job must not carry them out."""

    status = 409
    code = "sent_again"


class Unavailable(Exception):
    """A service that we need is unavailable. The client may try again later."""

    code = "unavailable"
    retry_after_seconds = 30


class Busy(Unavailable):
    """The process, or the user, already has as many uploads in validation as allowed. Nothing was stored."""

    retry_after_seconds = 3


class StorageUnavailable(Unavailable):
    """S3 did not store or return an object. If the payload cannot be stored, no job is created."""


class QueueUnavailable(Unavailable):
    """SQS did not accept the messages. Their chunks stay pending, and the relay sends them later."""


class NotConfigured(Unavailable):
    """A check of this app reports an error. Nothing is imported until the site is configured correctly."""


class OuterTransaction(Unavailable):
    """A middleware or other code of the site has opened a transaction, so ours would not be committed when it ends."""

    code = "outer_transaction"

    def __init__(self) -> None:
        super().__init__(
            "The server is not configured correctly: a middleware has opened a database transaction around this "
            "request. Run manage.py bulk_import_doctor."
        )


class ClaimError(Exception):
    """Base class of the errors of the worker API, whose views map each class to an HTTP status."""


class NotNow(ClaimError):
    """The worker should ask again after `retry_after_seconds`."""

    reason = ""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(f"{self.reason}; ask again in {retry_after_seconds} s")
        self.retry_after_seconds = retry_after_seconds


class LeaseHeld(NotNow):
    """Another worker is processing the chunk."""

    reason = "another worker has the lease"


class RetriedTooSoon(NotNow):
    """The last delivery of the chunk failed a short time ago. This message is not the one that its worker put back."""

    reason = "the last delivery of the chunk failed"


class JobPaused(NotNow):
    """The job is paused. From time to time one claim is let through, to test whether rows can be created again."""

    reason = "the job is paused"


class CreatesRunning(NotNow):
    """A create call of the chunk has not ended yet, so its rows cannot be counted."""

    reason = "a create call is still running"


class ChunkClosed(ClaimError):
    """There is nothing left to do for this chunk."""


class StaleEpoch(ClaimError):
    """Another worker has claimed this chunk in the meantime."""


class LedgerDisagrees(ClaimError):
    """The outcomes that the worker reports and the rows in the ledger do not add up to the chunk's rows."""


class DeliveryFailed(Exception):
    """The receiver did not accept an email or a webhook. The text says why and contains nothing confidential."""
