"""`python -m tests.chaos --runs N --seed S`: imports rows while faults are injected, and checks every row afterwards.

It prints one line per run, and JSON as the last line. To replay a seed, use --runs 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.campaign import WAIT_SECONDS, Run, audit_again, run_seed
from tests.chaos.plan import PROFILES
from tests.chaos.shop import Shop

if TYPE_CHECKING:
    from tests.chaos.findings import Findings

SHOWN = 20
"""Maximum number of different findings that we print per run. Each is printed with its number of occurrences."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run; each further run adds 1")
    parser.add_argument("--profile", choices=PROFILES, default="", help="default: the seed selects the profile")
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for jobs to end")
    parser.add_argument("--until-red", action="store_true", help="stop after the first run with findings")
    parser.add_argument("--log", type=Path, help="write the log of all parts to this file")
    given = parser.parse_args()
    runs: list[Run] = []
    with Shop(log=given.log) as shop:
        for seed in range(given.seed, given.seed + given.runs):
            run = run_seed(shop, seed, profile=given.profile, wait_seconds=given.wait_seconds)
            runs.append(run)
            print(run.line(), flush=True)
            if run.findings:
                print(*run.findings.sentences()[:SHOWN], sep="\n", flush=True)
                if given.until_red:
                    break
        findings = audit_again(shop, runs)
        print(*findings.sentences()[:SHOWN], sep="\n", end="\n" if findings else "")
    for run in runs:
        findings += run.findings
    print(json.dumps(summary(runs, findings)))
    return 1 if findings else 0


def summary(runs: list[Run], findings: Findings) -> dict[str, int]:
    return {
        "runs": len(runs),
        "rows": sum(run.rows for run in runs),
        "faults": sum(run.faults.total() for run in runs),
        **findings.counts(),
    }


if __name__ == "__main__":
    sys.exit(main())
