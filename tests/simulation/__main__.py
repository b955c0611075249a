"""`python -m tests.simulation --runs N --seed S`: simulates imports with faults in virtual time, and checks every row.

It prints the progress, each failure with its seed and the fewest faults that cause it, and JSON as the last line.
`--replay 100` executes the runs 100 times and checks that every time the same happens.
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

from tests.simulation.virtual_time import real_monotonic  # isort: skip # before Django
from tests.simulation import prepared_queries
from tests.simulation.plan import Plan
from tests.simulation.processes import run_in_processes
from tests.simulation.run import Result, Simulator
from tests.simulation.shrink import shrink

PROGRESS_SECONDS = 10.0
KINDS = ("lost", "duplicated", "misreported", "stuck")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run; each further run adds 1")
    parser.add_argument("--until-red", action="store_true", help="stop after the first failure")
    parser.add_argument("--no-shrink", action="store_true", help="print all faults of a failure, which is faster")
    parser.add_argument("--replay", type=int, default=0, metavar="TIMES", help="execute each run several times")
    parser.add_argument("--processes", type=int, default=1, help="divide the runs among several processes")
    parser.add_argument("--check-sql", action="store_true", help="compare each prepared statement with Django's own")
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    given = parser.parse_args()
    if given.processes > 1:
        return run_in_processes(given.runs, given.seed, given.processes)
    if given.verbose:
        logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="    %(name)s: %(message)s")
    prepared_queries.check = given.check_sql
    simulator = Simulator()
    seeds = range(given.seed, given.seed + given.runs)
    if given.replay:
        return replay(simulator, seeds, given.replay)
    return simulate(simulator, seeds, given)


def simulate(simulator: Simulator, seeds: range, given: argparse.Namespace) -> int:
    """Execute the runs, with these options. Return the exit code: 1 if there are findings."""
    totals, started_at = Counter[str](), real_monotonic()
    printed_at = started_at
    for seed in seeds:
        result = simulator.run(Plan.of_seed(seed), verbose=given.verbose)
        totals.update(runs=1, rows=result.rows, faults=result.faults)
        totals.update(finding.kind for finding in result.findings)
        if result.findings:
            report(result if given.no_shrink else shrink(simulator, result))
            if given.until_red:
                break
        if real_monotonic() - printed_at > PROGRESS_SECONDS:
            printed_at = real_monotonic()
            found = ", ".join(f"{totals[kind]} {kind}" for kind in KINDS)
            seconds = printed_at - started_at
            print(f"{totals['runs']} runs in {seconds:.0f} s, {totals['faults']} faults: {found}", flush=True)
    summary = {name: totals[name] for name in ("runs", "rows", "faults", *KINDS)}
    print(json.dumps({**summary, "seconds": round(real_monotonic() - started_at, 1)}))
    for difference in prepared_queries.differences[:1]:
        print(difference, file=sys.stderr)
    return 1 if any(totals[kind] for kind in KINDS) or prepared_queries.differences else 0


def report(result: Result) -> None:
    """Print the findings of a run, and the faults that had an effect."""
    print(f"seed {result.plan.seed}:", flush=True)
    for finding in result.findings:
        print(f"  {finding.kind}: {finding.text}", flush=True)
    for fault in result.plan.faults:
        if fault.hits:
            print(f"    {fault}", flush=True)


def replay(simulator: Simulator, seeds: range, times: int) -> int:
    """Execute each run several times. Return the exit code: 1 unless the same happened every time."""
    identical = 0
    for seed in seeds:
        hashes = {simulator.run(Plan.of_seed(seed)).trace_hash for _ in range(times)}
        identical += len(hashes) == 1
        print(f"seed {seed}: {' '.join(sorted(hashes))}", flush=True)
    print(json.dumps({"runs": len(seeds), "times": times, "identical": identical}))
    return 0 if identical == len(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
