"""Why a chunk is not finished by this invocation.

WorkerError
├── ConfigurationError   the environment is incomplete; nothing can be done until it is mended
├── MessageRefused       not a message of this monolith: no read, no call, no acknowledgement
├── ChunkClosed          nothing left to do: acknowledge the message
├── ChunkReturned        this delivery failed; SQS delivers again, up to maxReceiveCount times
│   ├── ChunkDeferred    nobody's fault: the chunk comes again later, and this delivery does not count
│   ├── PayloadLost      its rows cannot be read, and no later delivery could
│   └── StaleEpoch       another worker has the chunk; stop at once
└── Unreachable          no answer to one call; it may have happened all the same
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulk_import_wire.contract import PauseCode


class WorkerError(Exception):
    """Base of all errors of the worker."""


class ConfigurationError(WorkerError):
    """Set what the message names."""


class MessageRefused(WorkerError):
    """Let the message run out of deliveries, so that it ends in the dead-letter queue."""


class ChunkClosed(WorkerError):
    """The chunk is done or cancelled, or this is a late copy of its message."""


class ChunkReturned(WorkerError):
    """Report the message as failed; what was created is in the ledger and is not done again."""


class ChunkDeferred(ChunkReturned):
    """Send the message again after `delay_seconds`, and acknowledge this one.

    `pause` says why no row of the job can be created now; None when it is only this delivery that ends.
    """

    def __init__(self, reason: str, *, delay_seconds: float = 0, pause: PauseCode | None = None) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds
        self.pause = pause


class PayloadLost(ChunkReturned):
    """Say so; a person has to find out what became of the object."""


class StaleEpoch(ChunkReturned):
    """Start nothing more on this chunk."""


class Unreachable(WorkerError):
    """Ask again with the same key; the ledger knows whether it happened."""
