"""Which job gets the next place in a target's window. This module needs no database; `window` loads the jobs.

The next place goes to the submitter with the fewest chunks in flight, and then to the job of this submitter with the
fewest. So a submitter with twenty jobs gets the share of one submitter, and a small job overtakes the large jobs of the
same submitter. A tie goes to the one whose last place is the longest ago, so submitters take turns, and so do their
jobs. If several got no place lately, the first one is the job that would have ended first if it had been alone. So of
several new jobs the small ones come first, but nobody waits forever.

Jobs that staff have moved to the front come before all others, the one that was moved last first.

A chunk of a cancelled job takes only a moment, because its worker creates no row and reports the rows as unprocessed.
So it does not count as in flight. Cancelled jobs take turns with the jobs that have nothing in flight, and come before
all others. They use the places that are left when each other job has one, and end soon.

Example: A has ten large jobs, four of them with one chunk in flight each, and B sends a small job. When a chunk of A
ends, A has three chunks in flight and B has none, so the next place is B's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID


@dataclass(slots=True, eq=False)
class Contender:
    """A job that has chunks in flight, got a place lately, or waits for one."""

    job_id: UUID
    submitter_id: Any  # None for all jobs whose submitter was deleted; they count as one submitter
    due_at: float  # when it would have ended if it had been alone; all times are Unix times
    front_at: float = 0  # when staff moved it to the front; 0 if they did not
    in_flight: int = 0  # number of its chunks that occupy a place in the window
    served_at: float = 0  # when it last got a place; 0 if that is too long ago to matter
    room: int = 0  # how many of its chunks may get a place now
    is_cancelled: bool = False

    def __lt__(self, other: Contender) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[float, ...]:
        """Return what decides between jobs of the same submitter; the lowest value comes first."""
        return 0 if self.is_cancelled else self.in_flight, self.served_at, self.due_at


@dataclass(slots=True, eq=False)
class Submitter:
    """The jobs of one submitter, and their totals."""

    in_flight: int = 0  # without the chunks of cancelled jobs
    served_at: float = 0
    waiting: list[Contender] = field(default_factory=list)  # a heap; without the jobs at the front

    def __lt__(self, other: Submitter) -> bool:
        return self._order() < other._order()

    def _order(self) -> tuple[float, ...]:
        return self.in_flight, self.served_at, self.waiting[0].due_at


class Turns:
    """Decides who is next, again and again. Call `serve` or `drop` for each job that `next_job` returns.

    The submitters are in a heap, and so are the jobs of each submitter, because a page that shows a waiting job goes
    through all jobs before it, and there may be thousands.
    """

    def __init__(self, jobs: Iterable[Contender]) -> None:
        self._submitters: dict[Any, Submitter] = {}
        self._at_front: list[Contender] = []  # the next one is the last
        for job in jobs:
            submitter = self._submitters.setdefault(job.submitter_id, Submitter())
            submitter.in_flight += 0 if job.is_cancelled else job.in_flight
            submitter.served_at = max(submitter.served_at, job.served_at)
            if job.room > 0:
                (self._at_front if job.front_at else submitter.waiting).append(job)
        self._at_front.sort(key=lambda job: job.front_at)
        self._waiting = [submitter for submitter in self._submitters.values() if submitter.waiting]  # a heap
        for submitter in self._waiting:
            heapify(submitter.waiting)
        heapify(self._waiting)
        self._now = max((submitter.served_at for submitter in self._submitters.values()), default=0)

    def next_job(self) -> Contender | None:
        """Return the job that gets the next place, or None if no job waits."""
        if self._at_front:
            return self._at_front[-1]
        return self._waiting[0].waiting[0] if self._waiting else None

    def serve(self, job: Contender, *, is_last: bool = False) -> None:
        """Count a place that the job got just now. With `is_last`, it waits for no further place."""
        self._now += 1
        submitter = self._submitters[job.submitter_id]
        job.in_flight += 1
        submitter.in_flight += not job.is_cancelled
        job.served_at = submitter.served_at = self._now
        if job.front_at:
            heapify(self._waiting)  # its submitter may be anywhere in the heap
        if is_last:
            self.drop(job)
        elif not job.front_at:
            heapreplace(submitter.waiting, job)
            heapreplace(self._waiting, submitter)

    def drop(self, job: Contender) -> None:
        """Remove a job that waits for no further place."""
        if job.front_at:
            self._at_front.remove(job)
            return
        submitter = self._submitters[job.submitter_id]
        heappop(submitter.waiting)
        if submitter.waiting:
            heapreplace(self._waiting, submitter)
        else:
            heappop(self._waiting)


def count_imports_ahead(jobs: Iterable[Contender], job_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return, for each of these jobs that waits, how many other imports have or get a place before it.

    A job that has a place already is not in the result. Changes the contenders.
    """
    contenders = list(jobs)
    ahead = {job.job_id for job in contenders if job.in_flight}
    left = {job.job_id for job in contenders if job.room > 0} & set(job_ids) - ahead
    counts = {}
    turns = Turns(contenders)
    while left and (job := turns.next_job()):
        if job.job_id in left:
            counts[job.job_id] = len(ahead)
            left.remove(job.job_id)
        ahead.add(job.job_id)
        turns.serve(job, is_last=True)  # one place is enough to count the job; its next ones make no difference
    return counts
