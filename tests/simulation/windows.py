"""Watches the windows: after each process of the monolith that gave away places, were they free, and whose turn was it?

What it requires is written here a second time, in SQL, and independently of `bulk_import.models.window`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.virtual_time import database_time

if TYPE_CHECKING:
    from tests.simulation.world import World

TRIGGERS = """
CREATE TABLE simulation_place (job_id TEXT);
CREATE TRIGGER simulation_place AFTER UPDATE OF status ON bulk_import_importchunk
WHEN new.status = 'reserved' AND old.status = 'pending'
BEGIN INSERT INTO simulation_place VALUES (new.job_id); END;
"""
"""Records each chunk that got a place, unless its transaction is rolled back."""

JOBS = """
SELECT job.id, target, submitter_id, job.status, pause_code, front_at IS NOT NULL, cancel_requested_at IS NOT NULL,
  count(*) FILTER (WHERE job.status != 'paused' AND (
    chunk.status = 'reserved' OR chunk.status = 'queued' AND failed_deliveries = 0
    OR chunk.status = 'processing' AND lease_expires_at > ?)),
  count(*) FILTER (WHERE chunk.status = 'pending'),
  count(*) FILTER (WHERE chunk.status IN ('reserved', 'queued', 'processing'))
FROM bulk_import_importjob job JOIN bulk_import_importchunk chunk ON chunk.job_id = job.id
WHERE finished_at IS NULL GROUP BY job.id
"""
"""Query for the open jobs, each with the number of its chunks that have a place, that wait for one, and that were sent.

A chunk whose delivery failed was sent, and has no place any more.
"""


class Windows:
    """Checks each place that was given away."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.findings: list[str] = []
        self.places = 0

    def check(self) -> None:
        """Check the places that the process gave away which has just ended."""
        sql = self._world.sql
        served = {job_id for (job_id,) in sql("SELECT job_id FROM simulation_place")}
        if not served:
            return
        self.places += len(served)
        sql("DELETE FROM simulation_place")
        jobs = sql(JOBS, database_time())
        for target in {row[1] for row in jobs if row[0] in served}:
            of_target = [row for row in jobs if row[1] == target]
            taken = sum(row[7] for row in of_target)
            if taken > self._world.plan.chunks_in_flight:
                self.findings.append(f"{taken} chunks of {target} have a place: {of_target}")
            self._check_turns(of_target, served)

    def _check_turns(self, jobs: list[tuple[object, ...]], served: set[str]) -> None:
        """Nobody gets a place while another user waits who has fewer, except for jobs at the front and cancelled ones.

        So a small job of one user never waits for the large jobs of another one.
        """
        if any(status == "paused" for _id, _target, _user, status, *_ in jobs):
            return  # a paused job gets a place that is not counted
        taken: dict[object, int] = {}
        for _id, _target, user, _status, _code, _is_front, is_cancelled, places, *_ in jobs:
            taken[user] = taken.get(user, 0) + (0 if is_cancelled else int(str(places)))
        # A job whose deliveries all fail waits for them, instead of sending its whole file.
        most = 2 * self._world.plan.chunks_in_flight
        waiting = {row[2] for row in jobs if row[8] and int(str(row[9])) < most}
        for row in jobs:
            is_exempt = row[5] or row[6]
            if row[0] in served and not is_exempt:
                for user in waiting:
                    if taken[row[2]] > taken[user] + 1:
                        self.findings.append(f"user {row[2]} got a place while {user} waits with fewer: {jobs}")
