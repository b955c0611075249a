"""`python -m tests.simulation.recovery`: kills a worker in the middle of a chunk, in virtual time.

The run has the values of the default template, and the relay runs every 15 seconds. It prints the seconds from the
first claim to the end of the job, and the largest epoch of its chunks: 2 if a second worker had to continue a chunk.
"""

from __future__ import annotations

from tests.simulation.run import Simulator  # isort: skip # replaces the clocks, before Django

from bulk_import.models import ImportJob
from tests.simulation import world
from tests.simulation.faults_of_services import WorkerDies
from tests.simulation.plan import Plan

LEASE_SECONDS = 60
FUNCTION_SECONDS = 300.0

KILLED_AT = 12
"""Await of the worker at which it is killed: it has the chunk, and has created some of the rows."""


def main() -> None:
    world.RELAY_SECONDS = 15.0
    drawn = Plan.of_seed(1)
    plan = Plan(1, drawn.jobs[:1], faults=[WorkerDies("worker", 1, KILLED_AT)])
    plan.lease_seconds, plan.function_seconds, plan.clock_skews = LEASE_SECONDS, FUNCTION_SECONDS, [0.0]
    Simulator().run(plan)
    job = ImportJob.objects.get()
    assert job.started_at
    assert job.finished_at
    print((job.finished_at - job.started_at).total_seconds(), max(job.chunks.values_list("epoch", flat=True)))


if __name__ == "__main__":
    main()
