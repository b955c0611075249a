"""Why a chunk is not finished by this invocation.

WorkerError
├── ConfigurationError   the environment is incomplete; nothing can be done until it is mended
├── MessageRefused       not a message of this monolith: no read, no call, no acknowledgement
├── ChunkClosed          nothing left to do: acknowledge the message
├── ChunkReturned        not now: the message goes back to the queue, the next delivery goes on
│   └── StaleEpoch       another worker has the chunk; stop at once
└── Unreachable          no answer to one call; it may have happened all the same
"""


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


class StaleEpoch(ChunkReturned):
    """Start nothing more on this chunk."""


class Unreachable(WorkerError):
    """Ask again with the same key; the ledger knows whether it happened."""
