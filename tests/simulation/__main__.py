"""`python -m tests.simulation --runs N --seed S`: simulates imports with faults in virtual time, and checks every row.

It prints the progress and the seed of each failure, and JSON as the last line. To replay a failure, use --runs 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter

HASH_SEED = "0"
"""PYTHONHASHSEED of the process. The order of a set must not differ between two executions of a run."""

if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
    os.environ["PYTHONHASHSEED"] = HASH_SEED
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606 - starts itself

from tests.simulation.virtual_time import real_monotonic  # noqa: E402,I001 - before Django
from tests.simulation.run import Plan, Result, Simulator  # noqa: E402

PROGRESS_SECONDS = 10.0
KINDS = ("lost", "duplicated", "misreported", "stuck")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run; each further run adds 1")
    parser.add_argument("--until-red", action="store_true", help="stop after the first run with findings")
    parser.add_argument("--replay", type=int, default=0, metavar="TIMES", help="execute the seed several times")
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    given = parser.parse_args()
    if given.verbose:
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="    %(name)s: %(message)s")
    simulator = Simulator()
    totals, started_at = Counter[str](), real_monotonic()
    printed_at = started_at
    for seed in range(given.seed, given.seed + given.runs):
        result = simulator.run(Plan.of_seed(seed), verbose=given.verbose)
        count(totals, result)
        if result.findings:
            print(f"seed {seed}:", *describe(result), sep="\n  ", flush=True)
            if given.until_red:
                break
        if real_monotonic() - printed_at > PROGRESS_SECONDS:
            printed_at = real_monotonic()
            print(progress(totals, printed_at - started_at), flush=True)
    summary = {name: totals[name] for name in ("runs", "rows", "faults", *KINDS)}
    print(json.dumps({**summary, "seconds": round(real_monotonic() - started_at, 1)}))
    return 1 if any(totals[kind] for kind in KINDS) else 0


def count(totals: Counter[str], result: Result) -> None:
    """Add the result of a run to the totals."""
    totals.update(runs=1, rows=result.rows, faults=result.faults, calls=result.calls)
    totals.update(finding.kind for finding in result.findings)


def describe(result: Result) -> list[str]:
    return [f"{finding.kind}: {finding.text}" for finding in result.findings]


def progress(totals: Counter[str], seconds: float) -> str:
    found = ", ".join(f"{totals[kind]} {kind}" for kind in KINDS)
    return f"{totals['runs']} runs in {seconds:.0f} s, {totals['faults']} faults: {found}"


if __name__ == "__main__":
    sys.exit(main())
