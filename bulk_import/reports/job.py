"""A job as people and programs see it: the same in the 202 and in GET."""

from __future__ import annotations

import hashlib
import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from bulk_import.conf import conf
from bulk_import.models import RETAINED_DATA, JobStatus
from bulk_import_wire.problems import OTHER

if TYPE_CHECKING:
    from datetime import datetime

    from django.utils.functional import _StrPromise
    from rest_framework.request import Request

    from bulk_import.models import ImportJob

MIN_POLL_SECONDS = 1
MAX_POLL_SECONDS = 30
MANY = 2  # takes the plural, where no number is told

MESSAGES: dict[JobStatus, _StrPromise] = {
    JobStatus.PENDING: ngettext_lazy(
        "We received %(rows)s %(things)s and will create it as soon as the queue takes it.",
        "We received %(rows)s %(things)s and will create them as soon as the queue takes them.",
        "row_count",
    ),
    JobStatus.QUEUED: ngettext_lazy(
        "We received %(rows)s %(things)s and are about to create it.",
        "We received %(rows)s %(things)s and are about to create them.",
        "row_count",
    ),
    JobStatus.PROCESSING: ngettext_lazy(
        "We received %(rows)s %(things)s and are creating it.",
        "We received %(rows)s %(things)s and are creating them.",
        "row_count",
    ),
    JobStatus.PAUSED: ngettext_lazy(
        "The import of %(rows)s %(things)s is paused because %(reason)s; %(created)s was created so far. "
        "It goes on by itself when that is over.",
        "The import of %(rows)s %(things)s is paused because %(reason)s; %(created)s were created so far. "
        "It goes on by itself when that is over.",
        "created_count",
    ),
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was created.",
        "All %(rows)s %(things)s were created.",
        "row_count",
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created. The failures tell why the others were not.",
        "%(created)s of %(rows)s %(things)s were created. The failures tell why the others were not.",
        "created_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not created. The failures tell why.",
        "None of the %(rows)s %(things)s was created. The failures tell why, row by row.",
        "row_count",
    ),
    JobStatus.CANCELLED: gettext_lazy("The import was cancelled; %(created)s of %(rows)s %(things)s had been created."),
}


CANCELLING = ngettext_lazy(
    "The import is being cancelled: no further row is created. So far, %(created)s of %(rows)s %(things)s was.",
    "The import is being cancelled: no further row is created. So far, %(created)s of %(rows)s %(things)s were.",
    "created_count",
)
HELD = ngettext_lazy(
    "The import of %(rows)s %(things)s is paused because %(reason)s; %(created)s was created so far. "
    "It goes on when staff let it.",
    "The import of %(rows)s %(things)s is paused because %(reason)s; %(created)s were created so far. "
    "It goes on when staff let it.",
    "created_count",
)


def message(job: ImportJob) -> str:
    """What happened and what happens next, told to the submitter. `job` needs `with_counts`."""
    text = summary(job)
    if not job.is_terminal and any(job.recipients[:1]):
        text += " " + _("We will e-mail you when it is done.")
    if "failures" in job.expired and job.status != JobStatus.SUCCEEDED:
        text += " " + _("The failures are no longer kept.")
    return text


def summary(job: ImportJob) -> str:
    """What happened and what happens next, in the active language. `job` needs `with_counts`."""
    template = MESSAGES[JobStatus(job.status)]
    if job.is_being_cancelled:
        template = CANCELLING
    elif job.is_paused_by_staff:
        template = HELD
    return template % words(job)


def words(job: ImportJob) -> dict[str, Any]:
    """What a text about a job may name. `job` needs `with_counts`."""
    return {
        "row_count": job.rows,
        "rows": grouped(job.rows),
        "created_count": job.created_count,
        "created": grouped(job.created_count),
        "unprocessed_count": job.unprocessed_count,
        "unprocessed": grouped(job.unprocessed_count),
        "things": things(job.target, job.rows),
        "reason": job.get_pause_code_display(),
    }


def grouped(number: int) -> str:
    """As people read it: "1,994", or "1.994" in Brazil."""
    return number_format(number, force_grouping=True)


def problem_parts(entry: dict[str, Any]) -> tuple[str, str, str]:
    """One problem as people read it: the field or "", the reason, each on one line, and where it was met."""
    message = _("Other reasons; the failures list each of them.") if is_rest(entry) else entry["message"]
    where = ngettext("%(count)s row, at index %(first)s", "%(count)s rows, first at index %(first)s", entry["count"])
    where %= {"count": grouped(entry["count"]), "first": entry["first_index"]}
    return " ".join((entry["field"] or "").split()), " ".join(message.split()), where


def problem_text(entry: dict[str, Any]) -> str:
    """One problem as a line: "category: No such category. (412 rows, first at index 17)"."""
    field, reason, where = problem_parts(entry)
    return f"{field}: {reason} ({where})" if field else f"{reason} ({where})"


def is_rest(entry: dict[str, Any]) -> bool:
    """Whether this problem stands for all that were too many to be listed."""
    return all(entry[name] == value for name, value in OTHER.items())


def things(target: str, count: int = MANY) -> str:
    """What so many rows of a target become: its model's verbose name, or "rows"."""
    try:
        model = conf().target(target).serializer_class.Meta.model  # type: ignore[attr-defined] # AttributeError below
    except (KeyError, AttributeError):
        return ngettext("row", "rows", count)
    return str(model._meta.verbose_name if count == 1 else model._meta.verbose_name_plural)


def rows_per_second(job: ImportJob) -> float | None:
    """Rows settled per second since the first claim, or that of a retry; None before there is something to tell."""
    rate = _rate(job)
    return round(rate, 1) if rate else None


def eta_seconds(job: ImportJob) -> int | None:
    """Seconds until the job ends at the present rate; None when unknown or over."""
    rate = _rate(job)
    return None if job.is_terminal or not rate else math.ceil(job.counts["pending"] / rate)


def _rate(job: ImportJob) -> float | None:
    if not job.started_at:
        return None
    seconds = ((job.finished_at or timezone.now()) - job.started_at).total_seconds()
    return (job.rows - job.counts["pending"] - job.finished_rows_before) / seconds if seconds > 0 else None


def poll_after_seconds(job: ImportJob) -> int:
    """When asking again is worth it: a tenth of the time left, within bounds."""
    return min(max((eta_seconds(job) or 0) // 10, MIN_POLL_SECONDS), MAX_POLL_SECONDS)


def job_document(job: ImportJob, request: Request | None = None) -> dict[str, Any]:
    """The job as JSON. `job` needs `with_counts`. Without a request its links are paths."""
    path = job_path(job)
    url = request.build_absolute_uri(path) if request else path
    return {
        "id": str(job.pk),
        "target": job.target,
        "status": job.status,
        "rows": job.rows,
        "message": message(job),
        "counts": job.counts,
        "problems": job.problems,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "rows_per_second": rows_per_second(job),
        "eta_seconds": eta_seconds(job),
        "pause": pause_document(job),
        "cancel_requested_at": job.cancel_requested_at,
        "corrects": job.corrects_id and str(job.corrects_id),
        "expires_at": expires_at(job),
        "expired_at": min(job.expired.values(), default=None),
        "links": {
            "self": url,
            "failures": None if "failures" in job.expired else f"{url}/failures",
            "retry": f"{url}/retry" if job.can_be_retried else None,
            "redrive": None if job.expired else f"{url}/redrive",
            "cancel": url if job.can_be_cancelled else None,
        },
    }


def pause_document(job: ImportJob) -> dict[str, Any] | None:
    """Why and since when a job is paused, and when it is tried again; None when it is not."""
    if job.status != JobStatus.PAUSED:
        return None
    return {
        "code": job.pause_code,
        "message": job.get_pause_code_display(),
        "since": job.paused_at,
        "retry_at": job.paused_until,
    }


def entity_tag(document: dict[str, Any]) -> str:
    """A weak ETag of a job's document: it changes when the job does, not merely because time passes."""
    lasting = {name: value for name, value in document.items() if name not in {"rows_per_second", "eta_seconds"}}
    digest = hashlib.sha256(json.dumps(lasting, default=str, sort_keys=True).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def job_path(job: ImportJob) -> str:
    return reverse("bulk-import-job", kwargs={"target": job.target, "job_id": job.pk})


def expires_at(job: ImportJob) -> datetime | None:
    """When the first of what is kept of the job expires, or did; None if nothing does, or it has not ended."""
    if job.expired:
        return min(job.expired.values())
    days = days_kept().values()
    return job.finished_at + timedelta(days=min(days)) if job.finished_at and days else None


def days_kept() -> dict[str, int]:
    """Of each kind that is not kept for ever, and of the "job" itself. Nothing outlives its job."""
    kinds = {kind: getattr(conf(), f"{kind}_retention_days") for kind in (*RETAINED_DATA, "job")}
    return {kind: min(filter(None, (days, kinds["job"]))) for kind, days in kinds.items() if days or kinds["job"]}
