"""Finds out whether another import has the rows of a job, so that no row is carried out by two imports.

A correction has all rows of a rehearsal, or all rows that an import did not import. So from then on, these rows belong
to the new import: if the old one was retried as well, or corrected a second time, the rows would be created twice.

Example: an import was cancelled with 5 rows left. Its sender corrects 2 of them, and a new import creates all 5. A
retry of the first import would create them once more, so it is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F, Sum
from django.utils.translation import gettext as _

from bulk_import.exceptions import SentAgain
from bulk_import.models.chunk_columns import DONE
from bulk_import.models.event import EventKind

if TYPE_CHECKING:
    from bulk_import.models.job import ImportJob


def check_not_sent_again(job: ImportJob) -> None:
    """Raise SentAgain if another import has all rows that this job has left. The job must be `locked`."""
    if other := _find_import(job):
        message = _("The rows of this import were sent again as import %(job)s. Continue with that one.")
        raise SentAgain(message % {"job": other.pk})


def check_may_be_imported(job: ImportJob) -> None:
    """Raise SentAgain if the rows of this job must not become an import, because another one has them.

    The job is a rehearsal, or an import whose rows are corrected. It must be `locked`. If it rehearses corrections of
    other jobs, this locks and checks those, too.
    """
    check_not_sent_again(job)
    while job.rehearsal and job.corrects_id:
        job, rehearsal = type(job).objects.locked(job.corrects_id), job
        check_not_sent_again(job)
        reopened = job.events.filter(kind__in=[EventKind.RETRIED, EventKind.REDRIVEN], at__gt=rehearsal.created_at)
        if not job.rehearsal and (not job.is_terminal or reopened.exists()):
            raise SentAgain(_("The rows of this rehearsal were retried in import %(job)s.") % {"job": job.pk})


def _find_import(job: ImportJob) -> ImportJob | None:
    """Return the import that has all rows of the job that are left: a correction of it, or of one of its rehearsals."""
    left = job.rows if job.rehearsal else job.chunks.aggregate(left=Sum(F("row_count") - DONE, default=0))["left"]
    for correction in job.corrections.filter(rows__gte=left).order_by("created_at", "pk") if left else ():
        found: ImportJob | None = _find_import(correction) if correction.rehearsal else correction
        if found:
            return found
    return None
