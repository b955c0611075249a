"""Queries for jobs: with their counts, locked for a change, or still open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models import F, Min, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.status import TERMINAL_STATUSES
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    import uuid

    from bulk_import.models.job import ImportJob


class ImportJobQuerySet(models.QuerySet["ImportJob"]):
    def for_reports(self) -> Self:
        """Load what every report on a job shows, its counts, its submitter and its correction, in one query."""
        corrections = self.model.objects.filter(corrects=OuterRef("pk")).order_by("-created_at", "-pk")
        corrected_by = Subquery(corrections.values("pk")[:1])
        return self.with_counts().select_related("submitter").annotate(corrected_by=corrected_by)

    def with_counts(self) -> Self:
        """Annotate each job with a count for each outcome, such as `created_count`.

        The counts are the sums over the job's chunks. `worker_lost_at` is when the first lease ended whose worker is
        lost.
        """
        # One subquery for each count. A join with GROUP BY would read the chunks of every job of the user before it
        # could return the first page; the subqueries read only the chunks of the jobs on that page.
        chunks = ImportChunk.objects.filter(job=OuterRef("pk")).order_by().values("job")
        sums = {
            f"{outcome}_count": Coalesce(Subquery(chunks.annotate(total=Sum(str(outcome))).values("total")), 0)
            for outcome in Outcome
        }
        lost = ImportChunk.objects.lost().filter(job=OuterRef("pk")).order_by().values("job")
        worker_lost_at = Subquery(lost.annotate(first=Min("lease_expires_at")).values("first"))
        return self.annotate(**sums, worker_lost_at=worker_lost_at)

    def locked(self, job_id: uuid.UUID) -> ImportJob:
        """Lock the job until the transaction ends, and return it with `paused_for`. Raises ImportJob.DoesNotExist.

        Every change that first checks the job's status must lock it: two users who cancel at the same moment then
        run one after the other, and the second one sees that the job is cancelled already.
        """
        # FOR NO KEY UPDATE, not FOR UPDATE: each ledger record has a foreign key to the job, so writing one takes
        # FOR KEY SHARE on the job. NO KEY UPDATE does not conflict with it, so rows can be created while the job is
        # locked. It does conflict with itself, so changes of the job wait for each other.
        paused_for = {"paused_for": Now() - F("paused_at")}
        job: ImportJob = self.select_for_update(no_key=True).annotate(**paused_for).get(pk=job_id)
        return job

    def open(self) -> Self:
        """Return the jobs that have not ended."""
        return self.exclude(status__in=TERMINAL_STATUSES)
