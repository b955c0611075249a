"""Starts the parts of a local installation as processes, restarts those that end, and stops all of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import IO

    Process = subprocess.Popen[bytes]

START_SECONDS = 60
STOP_SECONDS = 15
"""How long the parts may take to stop before we kill them. A poller lets its running invocation finish."""


def start_part(
    command: Sequence[str],
    log: IO[str] | int | None,
    environment: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start a command. On Linux it is killed when the current thread ends; see `bulk_import.local.child`."""
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "bulk_import.local.child", str(os.getpid()), *command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # Ctrl-C reaches only this process, which then stops the others
    )


def exit_on_signals() -> None:
    """Let SIGTERM and Ctrl-C raise SystemExit, so that an ExitStack stops every part.

    We cannot rely on KeyboardInterrupt: a shell starts background jobs with SIGINT ignored, and Python then installs no
    handler for it.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


def restart_ended(
    starts: dict[str, Callable[[], Process]], running: dict[str, Process], say: Callable[[str], None]
) -> None:
    """Start each part again that has ended, and say so. `starts` has the parts that are restarted."""
    for name, start in starts.items():
        process = running[name]
        if process.poll() is not None:
            stop_process(process)
            running[name] = start()
            say(f"The {name} ended with {process.returncode} and was restarted as process {running[name].pid}.")


def await_answer(url: str, process: Process) -> None:
    """Wait until the process answers at the URL. Raises RuntimeError if it ends or does not answer in time."""
    give_up_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{url} does not answer.")


def stop_process(*processes: Process) -> None:
    """Stop the processes with SIGTERM, all at once. After STOP_SECONDS, kill what is left of their process groups."""
    for process in processes:
        process.terminate()
    give_up_at = time.monotonic() + STOP_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, give_up_at - time.monotonic()))
        with suppress(ProcessLookupError):  # the group is empty, as it should be
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
