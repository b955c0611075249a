"""Watches the messages: how long does a chunk wait that has no message any more?

What it requires is written here a second time, and independently of `bulk_import.models.lost_messages`: this module
looks into the queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.virtual_time import clock, database_time

if TYPE_CHECKING:
    from tests.simulation.world import World

SHORTEST_SECONDS = 900.0
"""Time after which a lost message must be replaced if its chunk has not waited longer already."""

WAITING = """
SELECT chunk.id, queued_at, (julianday(?) - julianday(queued_at)) * 86400
FROM bulk_import_importchunk chunk JOIN bulk_import_importjob job ON job.id = chunk.job_id
WHERE chunk.status = 'queued' AND finished_at IS NULL AND job.status != 'paused'
"""
"""Query for the chunks that wait for a worker: each with the time since when, and with the seconds since then."""


class LostMessages:
    """Knows since when each waiting chunk has no message, and how long it had waited then."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lost: dict[tuple[str, str, int], tuple[float, float]] = {}
        self.findings: list[str] = []

    def look(self) -> None:
        """Note which chunks have no message now. Call it regularly."""
        before, self._lost = self._lost, {}
        queue, dead_letters = self._world.queue, self._world.dead_letters
        for chunk_id, queued_at, waited in self._world.sql(WAITING, database_time()):
            if all(message.chunk_id != chunk_id for message in queue.messages + dead_letters.messages):
                # If another message was lost after the last look, the number of its messages has changed.
                key = chunk_id, queued_at, sum(message.chunk_id == chunk_id for message in queue.sent)
                self._lost[key] = before.get(key, (clock.now, waited))

    def check(self) -> None:
        """Check after a sweep of the relay which no fault has affected: no chunk waits in vain for too long."""
        self.look()
        for (chunk_id, *_), (lost_at, waited) in self._lost.items():
            if clock.now - lost_at > max(SHORTEST_SECONDS, waited):
                seconds = f"{clock.now - lost_at:.0f} s after {waited:.0f} s"
                self.findings.append(f"the lost message of chunk {chunk_id} is not replaced {seconds}")
