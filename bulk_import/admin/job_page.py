"""The page of one job: what happened, why, and what staff can do."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from bulk_import.admin.advice import about_job
from bulk_import.admin.charts import progress_bar, rate_chart
from bulk_import.admin.chunks import chunk_page
from bulk_import.admin.row import row_report
from bulk_import.admin.timeline import timeline
from bulk_import.conf import conf
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.models.status import OUTCOME_LABELS, RARE_OUTCOMES
from bulk_import.reports.job import expires_at
from bulk_import.reports.messages import grouped, summary
from bulk_import.reports.problems import error_text, problem_text
from bulk_import.storage.failures import read_failures
from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.http import HttpRequest
    from django.utils.functional import _StrPromise
    from django.utils.safestring import SafeString

    from bulk_import.models import ImportJob

SHOWN_ROWS = 10
"""Maximum number of created rows, and of rows that were not created, on the page. The downloads contain all rows."""

MAX_SHOWN_CHARACTERS = 300
"""Maximum length of a row on the page. The download contains the whole row."""


def describe(job: ImportJob, request: HttpRequest) -> dict[str, Any]:
    """Return the context of the page's template. Needs `with_counts`.

    The parameters `chunks` and `row` of the URL name the page of chunks and the row to show.
    """
    return {
        "badge": badge(job),
        "bar": progress_bar(job),
        "message": summary(job),
        "advice": about_job(job),
        "expires_at": expires_at(job),
        "counts": shown_counts(job),
        "rate_chart": rate_chart(job),
        "problems": ranked_problems(job),
        "timeline": timeline(job),
        "related_jobs": list(related_jobs(job)),
        "created": list(created_rows(job, request)),
        "row_report": shown_row(job, request),
        **chunk_page(job, request.GET.get("chunks")),
        **first_failures(job),
    }


def shown_row(job: ImportJob, request: HttpRequest) -> dict[str, Any]:
    """Return the row that the URL asks for, with the URL of its object; an empty dict if it asks for none."""
    if not (asked := request.GET.get("row", "").strip()):
        return {}
    report = row_report(job, asked)
    report["url"] = change_url(viewable(job.target, request), report.get("object_id", ""))
    return report | ({"row": shortened(report["row"])} if "row" in report else {})


def related_jobs(job: ImportJob) -> Iterator[tuple[str, UUID]]:
    """Yield the jobs that this one has to do with: how, and their IDs."""
    named = {
        "corrects": (_("corrects"), _("corrected by")),
        "runs": (_("imports the rows of"), _("its rows are imported by")),
        "undoes": (_("undoes"), _("undone by")),
    }
    for name, (label, reverse_label) in named.items():
        if other := getattr(job, f"{name}_id"):
            yield label, other
        others = type(job).objects.filter(**{name: job.pk}).order_by("created_at")
        yield from ((reverse_label, other) for other in others.values_list("pk", flat=True))


def shown_counts(job: ImportJob) -> dict[_StrPromise, str]:
    """Return the number of rows by the label of their outcome."""
    counts = job.counts
    shown = [name for name in OUTCOME_LABELS if counts[name] or name not in RARE_OUTCOMES]
    return {OUTCOME_LABELS[name]: grouped(counts[name]) for name in shown}


def badge(job: ImportJob) -> SafeString:
    """Return the status as a coloured badge. `data-open` tells admin.js to keep refreshing the page."""
    text = _("being cancelled") if job.is_being_cancelled else job.get_status_display()
    text = _("rehearsal: %(status)s") % {"status": text} if job.rehearsal else text
    is_open = "" if job.is_terminal else " data-open"
    return format_html('<span class="bi-badge bi-is-{}"{}>{}</span>', job.status, is_open, text)


def ranked_problems(job: ImportJob) -> list[dict[str, Any]]:
    """Return the text and the number of rows of each problem, the most frequent problem first."""
    ranked = sorted(job.problems, key=lambda entry: -entry["count"])
    return [{"text": problem_text(entry), "count": entry["count"]} for entry in ranked]


def created_rows(job: ImportJob, request: HttpRequest) -> Iterator[dict[str, Any]]:
    """Yield the first created rows, each with the URL of its object's admin page, or "" if the user may not see it."""
    view = viewable(job.target, request)
    created = job.imported_rows.filter(outcome=Outcome.CREATED.value, job__rehearsal=False)
    for row in created.order_by("index")[:SHOWN_ROWS]:
        yield {"index": row.index, "object_id": row.object_id, "url": change_url(view, row.object_id)}


def viewable(target: str, request: HttpRequest) -> str:
    """Return the name of the admin view of the target's model.

    Return "" if the user may not see these objects, or if the target's serializer names no model.
    """
    try:
        model = conf().target(target).serializer_class.Meta.model  # type: ignore[attr-defined] # caught below
    except (KeyError, AttributeError):
        return ""
    model_admin = admin.site._registry.get(model)  # noqa: SLF001 - the admin's index reads it, too
    may_view = model_admin is not None and model_admin.has_view_permission(request)
    return f"admin:{model._meta.app_label}_{model._meta.model_name}_change" if may_view else ""


def change_url(view: str, object_id: str) -> str:
    try:
        return reverse(view, args=[object_id]) if view and object_id else ""
    except NoReverseMatch:
        return ""


def first_failures(job: ImportJob) -> dict[str, Any]:
    """Return the first rows that were not created, and an error text if the storage cannot be read."""
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
    """Return the row as readable JSON, cut to MAX_SHOWN_CHARACTERS."""
    try:
        text = json.dumps(json.loads(row), ensure_ascii=False)
    except ValueError:
        text = row.decode(errors="replace")
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
