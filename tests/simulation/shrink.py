"""Reduces a failing run to the fewest faults that still make it fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.plan import Plan

if TYPE_CHECKING:
    from tests.simulation.run import Result, Simulator


def shrink(simulator: Simulator, failed: Result) -> Result:
    """Return the run of the same seed with the fewest faults that still has a finding of the same kind.

    It leaves out groups of faults, first half of them, then smaller groups, until no single fault can be left out.
    """
    seed, kinds = failed.plan.seed, {finding.kind for finding in failed.findings}
    kept = list(range(len(Plan.of_seed(seed).faults)))
    smallest = failed
    size = max(1, len(kept) // 2)
    while True:
        for first in range(0, len(kept), size):
            tried = kept[:first] + kept[first + size :]
            result = simulator.run(Plan.of_seed(seed), keep=tried)
            if kinds & {finding.kind for finding in result.findings}:
                kept, smallest = tried, result
                break
        else:
            if size == 1:
                return smallest
            size //= 2
