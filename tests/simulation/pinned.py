"""`python -m tests.simulation.pinned`: repeats the runs that once showed a bug, each with the fewest faults.

A new fault changes what a seed means, so each run is a `Plan` of its own. The command prints what is wrong with each
run: its findings, and the faults that have no effect any more. It exits with 1 if anything is wrong.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tests.simulation.run import Simulator  # isort: skip # replaces the clocks, before Django

from tests.simulation.endpoint import EndpointFault
from tests.simulation.faults_of_requests import MonolithAway
from tests.simulation.faults_of_services import LossIsHidden, MessageIsLost
from tests.simulation.plan import Job, Plan, Row

if TYPE_CHECKING:
    from tests.simulation.faults import Fault

FOREVER = 10**9

PINNED: dict[str, tuple[int, list[Fault]]] = {
    # The relay left paused jobs alone. So nobody ever claimed the chunk again, and the job stayed paused.
    "the message of a paused job is lost": (
        5,
        [EndpointFault(503, "", FOREVER, 0.0, 60.0, None, False), MessageIsLost(2)],
    ),
    # The relay compared the number of messages on the queue with the number of open chunks, so it missed none. A chaos
    # run found it.
    "surplus messages hide that a message is lost": (10, [LossIsHidden(2, 4, 30.0, 3600.0)]),
    # The message was delayed by 30 seconds each time, so its deliveries made thousands of calls an hour.
    "the worker API is away for hours": (
        5,
        [MonolithAway(("claim", "heartbeat", "release", "finish", "dead"), 0.0, 4 * 3600.0, 0)],
    ),
}
"""The number of rows and the faults of each run, by what happens in it."""


def main() -> int:
    simulator, has_failed = Simulator(), False
    for name, (count, faults) in PINNED.items():
        rows = [Row(f"row-{index}", {"name": f"row-{index}", "slug": "a"}) for index in range(count)]
        job = Job(0, "ana", "categories", 0.0, rows)
        result = simulator.run(Plan(0, [job], faults=faults, clock_skews=[0.0]))
        wrong = [finding.text for finding in result.findings]
        wrong += [f"{fault} has no effect" for fault in faults if not fault.hits]
        print(f"{name}: {wrong}")
        has_failed |= bool(wrong)
    return 1 if has_failed else 0


if __name__ == "__main__":
    sys.exit(main())
