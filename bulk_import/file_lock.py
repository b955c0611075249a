"""A lock that the processes of one machine share.

It is a lock on a file that all of them can read. Nothing is written to the file. The operating system releases the lock
of a process that ends, also after kill -9, so nobody ever waits for a process that is gone.

Some systems cannot lock a file that is open for reading: Windows, NFS, and a file within a zip archive. There, each
process has the lock for itself.
"""

from __future__ import annotations

import os
from contextlib import suppress
from weakref import WeakSet

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """A lock on a file. No method waits, and each takes about a microsecond.

    Two instances are two owners, even within one process. The threads of a process that share an instance must take
    turns in calling it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_usable = fcntl is not None
        _locks.add(self)

    def acquire(self, *, shared: bool = False) -> bool:
        """Try to get the lock, and return whether that worked. Several owners can share it, if all of them want to."""
        if not self._is_usable:
            return True
        try:
            self._lock(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except BlockingIOError:
            return False
        except OSError:
            self._is_usable = False
            self._close()
        return True

    def release(self) -> None:
        """Release the lock, if this instance has it."""
        if self._descriptor is not None:
            with suppress(OSError):  # something may have closed all files of the process
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _lock(self, operation: int) -> None:
        """Lock the file. Raises BlockingIOError if another owner has it, and OSError if it cannot be locked."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY)
            with suppress(BlockingIOError):  # NFS refuses only this lock, and the other one would need the network
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None


_locks: WeakSet[FileLock] = WeakSet()


def _close_all() -> None:
    """Close the files that a new process has inherited. Otherwise it would have the locks of its parent."""
    for lock in _locks:
        lock._close()  # noqa: SLF001 - this module's own class


if fcntl:
    os.register_at_fork(after_in_child=_close_all)
