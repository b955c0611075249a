"""Runs a command so that it dies with the process that started it: `python -m bulk_import.local.child PARENT COMMAND…`.

`PARENT` is the ID of that process. On Linux, the kernel sends SIGKILL to the child
when the thread that started it ends, even if that was killed and could not stop its children itself. The process ID
stays the same, because `exec` replaces this program. Other systems have no such signal: there, children stay.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Option of Linux's prctl: the signal that this process gets when its parent dies. It survives `exec`."""


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies. Exits at once if the parent is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - our own command
