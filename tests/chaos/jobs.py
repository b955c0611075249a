"""The jobs of a run: those that were submitted, and those that the user or a repeated request started from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.chaos.plan import Row

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from tests.chaos.plan import Submission
    from tests.chaos.shop import Shop

FAMILY = """
WITH RECURSIVE family AS (
  SELECT id FROM bulk_import_importjob WHERE id = ANY(%s)
  UNION
  SELECT job.id FROM bulk_import_importjob job JOIN family ON job.runs_id = family.id OR job.undoes_id = family.id
)
SELECT id, mode, rehearsal, status, created_at, runs_id, undoes_id
FROM bulk_import_importjob JOIN family USING (id) ORDER BY created_at, id
"""

CREATED_BY = """
SELECT "index", outcome, object_id, lookup FROM bulk_import_importedrow
WHERE job_id = %(job)s AND created_at < %(at)s AND outcome != 'unchanged' AND NOT (
  outcome = 'created' AND object_id IN (
    SELECT object_id FROM bulk_import_importedrow deletion JOIN bulk_import_importjob undo ON undo.id = deletion.job_id
    WHERE undoes_id = %(job)s AND NOT rehearsal AND outcome = 'deleted' AND deletion.created_at < %(at)s
  )
) ORDER BY "index"
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, and the rows that its user expects it to have."""

    id: UUID
    rows: list[Row]
    mode: str
    is_rehearsal: bool
    status: str
    created_at: datetime
    runs: UUID | None
    undoes: UUID | None

    @property
    def order(self) -> tuple[datetime, UUID]:
        """A row of a job never overwrites what a job with a higher order has written."""
        return self.created_at, self.id


def read_jobs(shop: Shop, submitted: list[tuple[Submission, UUID]]) -> list[Job]:
    """Return all jobs of a run, in their order."""
    rows = {job_id: submission.rows for submission, job_id in submitted}
    jobs = []
    for job_id, mode, is_rehearsal, status, created_at, runs, undoes in shop.sql.execute(FAMILY, [list(rows)]):
        if job_id not in rows:
            rows[job_id] = rows[runs] if runs else _undone_rows(shop, undoes, created_at)
        jobs.append(Job(job_id, rows[job_id], mode, is_rehearsal, status, created_at, runs, undoes))
    return jobs


def _undone_rows(shop: Shop, undone: UUID, at: datetime) -> list[Row]:
    """Return the rows of an undo: one for each object that the job had created or changed, and no undo had deleted."""
    records = shop.sql.execute(CREATED_BY, {"job": undone, "at": at})
    return [
        Row({"id": object_id, "index": index, "lookup": lookup}, is_valid=outcome == "created")
        for index, outcome, object_id, lookup in records
    ]
