"""Errors that end or interrupt the work on a chunk. The code that catches an error decides what happens to the message.

WorkerError
├── MessageRefused       the message does not belong to this monolith: it ends in the dead-letter queue
├── ChunkClosed          there is nothing left to do: the message is acknowledged
├── ChunkReturned        this delivery failed: SQS delivers the message again, up to maxReceiveCount times
│   ├── ChunkDeferred    the chunk cannot continue now: a copy of the message comes later, with all its deliveries
│   │   └── MonolithAway the worker API does not answer: deferred as well, but not for longer than a day
│   ├── PayloadLost      the rows cannot be read, and no later delivery could read them
│   └── StaleEpoch       another worker has the chunk: this worker stops at once
├── BatchRefused         the monolith takes no batch calls: the rows are sent one by one
└── Unreachable          one call got no response; the monolith may have carried it out all the same

An incomplete configuration is a `ConfigurationError` of `lambda_worker.config`. Nothing catches it: it ends the
invocation, and SQS delivers all of its messages again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulk_import_wire.contract import PauseCode


class WorkerError(Exception):
    """Base class of the errors below."""


class MessageRefused(WorkerError):
    """The message does not belong to this monolith. The worker has read no payload and created no row for it.

    Do not acknowledge the message. Let it run out of deliveries, so that it ends in the dead-letter queue.
    """


class ChunkClosed(WorkerError):
    """The chunk is done or cancelled, or this is a late copy of its message. Acknowledge the message."""


class ChunkReturned(WorkerError):
    """The delivery failed. Report the message as failed, so that SQS delivers it again.

    The next delivery does not repeat the rows that were created, because the ledger records them.
    """


class ChunkDeferred(ChunkReturned):
    """The chunk cannot continue now. Send a copy of the message with a delay of `delay_seconds`, acknowledge this one.

    The receive count of the copy starts at zero, so an outage does not move the message to the dead-letter queue.
    `pause` says why no row of the job can be created now. It is None if only this delivery ends.
    """

    def __init__(self, reason: str, *, delay_seconds: float = 0, pause: PauseCode | None = None) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds
        self.pause = pause


class MonolithAway(ChunkDeferred):
    """The worker API does not answer, or something else answers in its place, such as a maintenance page.

    The message is deferred for at most MAX_AWAY_SECONDS. After that its deliveries count, so that a wrong URL does not
    go unnoticed.
    """


class PayloadLost(ChunkReturned):
    """The payload is missing or is not the one that the message describes. An operator has to look at the object."""


class StaleEpoch(ChunkReturned):
    """Another worker has a newer lease of the chunk. Start no further call for it."""


class Unreachable(WorkerError):
    """There was no response. Retry with the same idempotency key: the ledger knows whether the row was created."""


class BatchRefused(WorkerError):
    """The monolith refused a batch call as a whole and tried none of its rows. Send them in create calls instead."""
