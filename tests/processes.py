"""Finds processes in /proc."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the IDs of all child processes of a process, recursively."""
    children: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        parent = read_stat(status)
        if parent and int(parent[1]) == pid:
            children += [int(status.parent.name), *descendants(int(status.parent.name))]
    return children


def is_running(pid: int) -> bool:
    """Tell whether the process runs. A zombie does not: it has ended, but its parent has not read its exit status."""
    fields = read_stat(Path(f"/proc/{pid}/stat"))
    return bool(fields) and fields[0] != "Z"


def read_stat(path: Path) -> list[str]:
    """Return the fields of a process after its name: its state, the ID of its parent and so on. Empty if it ended."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
