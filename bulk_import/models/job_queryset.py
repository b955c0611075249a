"""Queries for jobs: with their counts, locked for a change, or still open."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Self

from django.apps import apps
from django.db import models
from django.db.models import F, Min, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce, JSONObject, Now

from bulk_import.models.chunk import ImportChunk
from bulk_import.models.database import PrimaryManager
from bulk_import.models.event import EventKind, ImportEvent
from bulk_import.models.kept_query import Parameter, kept_query
from bulk_import.models.status import TERMINAL_STATUSES
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    import uuid

    from bulk_import.models.job import ImportJob


class ImportJobQuerySet(models.QuerySet["ImportJob"]):
    def for_reports(self) -> Self:
        """Load what every report on a job shows: its counts, its submitter, its correction and its undo, in one query.

        `corrected_by` is the ID of the last job that corrects rows of this one, and `corrected_rows` the number of rows
        of the largest one that is no rehearsal. `run_by` is the ID of the job that imports the rows of this rehearsal.
        `undone_by` is the ID of the last job that deletes what this job has created, and `undone_at` the time at which
        that job was accepted. Rehearsals of an undo do not count. `resumed_at` is the end of the last pause.
        """
        related = _related_columns()
        return self.with_counts().annotate(**related).select_related("submitter")

    def with_counts(self) -> Self:
        """Annotate each job with its counts, such as `created_count`.

        The counts are the sums over the job's chunks. `worker_lost_at` and `lost_lease_ends_at` are the last heartbeat
        and the end of the lease of the first worker that is lost.
        """
        return self.annotate(**_count_columns())

    def open(self) -> Self:
        """Return the jobs that have not ended."""
        return self.exclude(status__in=TERMINAL_STATUSES)


class ImportJobManager(PrimaryManager):
    """Reads jobs from the database that this app writes to, and locks them."""

    def locked(self, job_id: uuid.UUID) -> ImportJob:
        """Lock the job until the transaction ends, and return it with `paused_for`. Raises ImportJob.DoesNotExist.

        Every change that first checks the job's status must lock it: two users who cancel at the same moment then
        run one after the other, and the second one sees that the job is cancelled already.
        """
        # FOR NO KEY UPDATE, not FOR UPDATE: each ledger record has a foreign key to the job, so writing one takes
        # FOR KEY SHARE on the job. NO KEY UPDATE does not conflict with it, so rows can be created while the job is
        # locked. It does conflict with itself, so changes of the job wait for each other.
        found = _locked_job(pk=job_id)
        if not found:
            raise self.model.DoesNotExist
        job: ImportJob = found[0]
        return job


@kept_query
def _locked_job() -> Any:
    job_model: Any = apps.get_model("bulk_import", "ImportJob")  # it uses this module
    jobs = job_model.objects.order_by().select_for_update(no_key=True).annotate(paused_for=Now() - F("paused_at"))
    return jobs.filter(pk=Parameter("pk", job_model._meta.pk))


@cache  # building the subqueries takes longer than executing them
def _related_columns() -> dict[str, Any]:
    """Return the annotations of `for_reports`, besides the counts."""
    job_model: Any = apps.get_model("bulk_import", "ImportJob")  # it uses this module
    jobs = job_model.objects
    corrections = jobs.filter(corrects=OuterRef("pk")).order_by("-created_at", "-pk")
    imports = corrections.filter(rehearsal=False)
    undos = jobs.filter(undoes=OuterRef("pk"), rehearsal=False).order_by("-created_at", "-pk")
    resumed = ImportEvent.objects.filter(job=OuterRef("pk"), kind=EventKind.RESUMED).order_by("-at")
    return {
        "corrected_by": Subquery(corrections.values("pk")[:1]),
        "corrected_rows": Coalesce(Subquery(imports.order_by("-rows").values("rows")[:1]), 0),
        "undone_by": Subquery(undos.values("pk")[:1]),
        "undone_at": Subquery(undos.values("created_at")[:1]),
        "run_by": Subquery(jobs.filter(runs=OuterRef("pk")).values("pk")[:1]),
        "resumed_at": Subquery(resumed.values("at")[:1]),
    }


@cache
def _count_columns() -> dict[str, Any]:
    """Return the annotations of `with_counts`."""
    # A join with GROUP BY would read the chunks of every job of the user before it could return the first page. A
    # subquery reads only the chunks of the jobs on that page. It can return one column, so it returns JSON.
    chunks = ImportChunk.objects.filter(job=OuterRef("pk")).order_by().values("job")
    sums = JSONObject(**{str(outcome): Sum(str(outcome)) for outcome in Outcome})
    lost = ImportChunk.objects.lost().filter(job=OuterRef("pk")).order_by().values("job")
    lost_at = Min(Coalesce("heartbeat_at", "lease_expires_at"))
    return {
        "totals": Subquery(chunks.annotate(totals=sums).values("totals")),
        "worker_lost_at": Subquery(lost.annotate(first=lost_at).values("first")),
        "lost_lease_ends_at": Subquery(lost.annotate(first=Min("lease_expires_at")).values("first")),
    }
