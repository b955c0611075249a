"""`python -m tests.chaos --runs N --seed S`: a line a run, and one of JSON at the end. A seed replays with --runs 1."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.campaign import SETTLE_SECONDS, Run, audit_again, run_seed
from tests.chaos.plan import PROFILES
from tests.chaos.shop import Shop

if TYPE_CHECKING:
    from tests.chaos.audit import Findings

SHOWN = 20
"""Findings of a run that are printed; each says how often it was made."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the first run; the others count on")
    parser.add_argument("--profile", choices=PROFILES, default="", help="instead of the seed's own choice")
    parser.add_argument("--settle-seconds", type=float, default=SETTLE_SECONDS)
    parser.add_argument("--until-red", action="store_true", help="stop after the first run that is not in order")
    parser.add_argument("--log", type=Path, help="keep the log of all parts there")
    given = parser.parse_args()
    runs: list[Run] = []
    with Shop(log=given.log) as shop:
        for seed in range(given.seed, given.seed + given.runs):
            run = run_seed(shop, seed, profile=given.profile, settle_seconds=given.settle_seconds)
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
        "lost": len(findings.lost),
        "duplicated": len(findings.duplicated),
        "misreported": len(findings.misreported),
    }


if __name__ == "__main__":
    sys.exit(main())
