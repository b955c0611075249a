"""What the page of one job tells: what happened, why, and what can be done."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bulk_import.admin.charts import progress_bar, rate_chart, share_bar
from bulk_import.conf import conf
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.models import JobStatus
from bulk_import.models.status import OUTCOME_LABELS
from bulk_import.reports.job import expires_at
from bulk_import.reports.messages import summary
from bulk_import.reports.problems import error_text, problem_text
from bulk_import.storage.failures import read_failures
from bulk_import_wire.contract import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.utils.functional import _StrPromise
    from django.utils.safestring import SafeString

    from bulk_import.models import ImportJob

SHOWN_CHUNKS = 50
SHOWN_ROWS = 10
"""First created rows, and first failures, on the page of a job; the rest is a download away."""

MAX_SHOWN_CHARACTERS = 300
"""Of a failing row; the download has all of it."""

HELD = gettext_lazy("Somebody paused it. Resume it when it may go on, or cancel it.")
EXPIRED = gettext_lazy("Its rows are no longer kept, so it cannot run again. The sender can send them as a new import.")
MEND_AND_RETRY = gettext_lazy(
    "See the problems. If their cause can be mended here, mend it and retry; else the sender mends the rows and sends "
    "them again."
)
ADVICE = {
    JobStatus.PENDING: gettext_lazy(
        "Its messages wait for the queue. If that lasts, see that the relay runs and SQS answers."
    ),
    JobStatus.QUEUED: gettext_lazy("Its messages wait for a worker. If that lasts, see that the worker runs."),
    JobStatus.PROCESSING: gettext_lazy(
        "Rows are being created. You can pause or cancel it, or change how many calls go out at once."
    ),
    JobStatus.PAUSED: gettext_lazy(
        "Mend the reason; it is tried again from time to time. You can also resume it at once, or cancel it."
    ),
    JobStatus.SUCCEEDED: gettext_lazy("Every row was created. There is nothing to do."),
    JobStatus.PARTIALLY_SUCCEEDED: MEND_AND_RETRY,
    JobStatus.FAILED: MEND_AND_RETRY,
    JobStatus.CANCELLED: gettext_lazy("Somebody cancelled it. A retry takes it up where it was left."),
}
"""What a status means for staff, and what they can do."""


def describe(job: ImportJob) -> dict[str, Any]:
    """The context of the page's template. Needs `with_counts`."""
    return {
        "badge": badge(job),
        "bar": progress_bar(job),
        "message": summary(job),
        "advice": advice(job),
        "expires_at": expires_at(job),
        "counts": {label: job.counts[name] for name, label in OUTCOME_LABELS.items()},
        "rate_chart": rate_chart(job),
        "problems": list(ranked_problems(job)),
        "events": job.events.select_related("actor"),
        "corrections": job.corrections.all(),
        "chunks": job.chunks.order_by("-status", "number")[:SHOWN_CHUNKS],
        "chunk_count": job.chunks.count(),
        "created": list(created_rows(job)),
        **first_failures(job),
    }


def advice(job: ImportJob) -> _StrPromise:
    if job.is_paused_by_staff:
        return HELD
    return EXPIRED if job.expired and job.status != JobStatus.SUCCEEDED else ADVICE[JobStatus(job.status)]


def badge(job: ImportJob) -> SafeString:
    """The status, coloured; `data-open` keeps the page fresh as long as there is one."""
    text = _("being cancelled") if job.is_being_cancelled else job.get_status_display()
    is_open = "" if job.is_terminal else " data-open"
    return format_html('<span class="bi-badge bi-is-{}"{}>{}</span>', job.status, is_open, text)


def ranked_problems(job: ImportJob) -> Iterator[dict[str, Any]]:
    """The problems, the most frequent first, with a bar for each."""
    ranked = sorted(job.problems, key=lambda entry: -entry["count"])
    for entry in ranked:
        yield {
            "text": problem_text(entry),
            "count": entry["count"],
            "bar": share_bar(entry["count"] / ranked[0]["count"]),
        }


def created_rows(job: ImportJob) -> Iterator[dict[str, Any]]:
    """The first created rows, with the address of what was created where the admin has one."""
    view = admin_view_of(job.target)
    for row in job.imported_rows.order_by("index")[:SHOWN_ROWS]:
        yield {"index": row.index, "object_id": row.object_id, "url": address(view, row.object_id)}


def admin_view_of(target: str) -> str:
    """Name of the admin's page of what the target creates; "" if its serializer does not tell the model."""
    try:
        options = conf().target(target).serializer_class.Meta.model._meta  # type: ignore[attr-defined] # AttributeError below
    except (KeyError, AttributeError):
        return ""
    return f"admin:{options.app_label}_{options.model_name}_change"


def address(view: str, object_id: str) -> str:
    try:
        return reverse(view, args=[object_id]) if object_id else ""
    except NoReverseMatch:
        return ""


def first_failures(job: ImportJob) -> dict[str, Any]:
    """What the page says of the first rows that were not created, and whether they could be read."""
    try:
        lines = [read_failure_line(line) for line in islice(read_failures(job), SHOWN_ROWS)]
    except Expired:
        return {"failures": [], "failures_error": ""}
    except StorageUnavailable as error:
        return {"failures": [], "failures_error": str(error)}
    return {
        "failures": [
            {
                **known,
                "reasons": [error_text(error) for error in known["errors"]],
                "row": shortened(row),
            }
            for known, row in lines
        ],
        "failures_error": "",
    }


def shortened(row: bytes) -> str:
    """The row as it was sent, for people: no longer than a few lines."""
    try:
        text = json.dumps(json.loads(row), ensure_ascii=False)
    except ValueError:
        text = row.decode(errors="replace")
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
