"""Divides the runs among several processes, one for each core."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from threading import Thread


def run_in_processes(runs: int, seed: int, processes: int) -> int:
    """Execute the runs in this many processes, and print what they print. Return the exit code.

    The last line is the sum of their last lines; `seconds` is the duration of the longest one.
    """
    firsts = [seed + runs * number // processes for number in range(processes + 1)]
    summaries: list[dict[str, float]] = []
    readers = []
    for first, end in itertools.pairwise(firsts):
        command = [sys.executable, "-m", "tests.simulation", f"--seed={first}", f"--runs={end - first}"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        readers.append(Thread(target=_read, args=(child, first, summaries)))
        readers[-1].start()
    for reader in readers:
        reader.join()
    total = Counter[str]()
    for summary in summaries:
        total.update({name: int(count) for name, count in summary.items() if name != "seconds"})
    seconds = max((summary["seconds"] for summary in summaries), default=0.0)
    print(json.dumps({**total, "seconds": seconds}))
    has_failed = any(total[kind] for kind in ("lost", "duplicated", "misreported", "stuck"))
    return 1 if has_failed or len(summaries) < processes else 0


def _read(child: subprocess.Popen[str], first_seed: int, summaries: list[dict[str, float]]) -> None:
    """Print the lines of a process, except the last one, which is its summary."""
    assert child.stdout
    for line in child.stdout:
        if line.startswith("{"):
            summaries.append(json.loads(line))
        else:
            print(f"[from {first_seed}] {line}", end="", flush=True)
    child.wait()
