"""What a mail about a job says: subject, text, HTML and the failures, all in the active language.

The templates hold the layout and no words, so a monolith can lay the mail out anew: `bulk_import/mail/job.html` and
`job.txt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import get_language, get_language_bidi, gettext_lazy, ngettext, ngettext_lazy
from django.utils.translation import gettext as _
from rest_framework.request import Request

from bulk_import.conf import conf
from bulk_import.models import EventKind, JobStatus
from bulk_import.models.status import OUTCOME_LABELS
from bulk_import.reports.failures import as_table, file_name, row_fields
from bulk_import.reports.job import job_path
from bulk_import.reports.messages import grouped, placeholders, things
from bulk_import.reports.problems import problem_text
from bulk_import.storage.failures import read_failures
from bulk_import_wire.contract import Outcome, PauseCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob

TEXT_TEMPLATE = "bulk_import/mail/job.txt"
HTML_TEMPLATE = "bulk_import/mail/job.html"

MAX_PROBLEMS = 10
"""Groups in a mail, the largest; the job has more of them, and the failures have all."""

SUBJECTS: dict[str, _StrPromise] = {
    JobStatus.SUCCEEDED: ngettext_lazy(
        "%(rows)s %(things)s was created", "All %(rows)s %(things)s were created", "row_count"
    ),
    JobStatus.PARTIALLY_SUCCEEDED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created",
        "%(created)s of %(rows)s %(things)s were created",
        "created_count",
    ),
    JobStatus.FAILED: ngettext_lazy(
        "%(rows)s %(things)s was not created", "None of the %(rows)s %(things)s was created", "row_count"
    ),
    JobStatus.CANCELLED: ngettext_lazy(
        "Import cancelled: %(created)s of %(rows)s %(things)s had been created",
        "Import cancelled: %(created)s of %(rows)s %(things)s had been created",
        "created_count",
    ),
    JobStatus.PAUSED: gettext_lazy("Import of %(rows)s %(things)s paused: %(reason)s"),
    EventKind.DEAD_LETTERED: ngettext_lazy(
        "%(unprocessed)s of %(rows)s %(things)s was given up for now",
        "%(unprocessed)s of %(rows)s %(things)s were given up for now",
        "unprocessed_count",
    ),
}
"""By status of the job; by event where the status does not say it."""

LEADS: dict[str, _StrPromise] = {
    JobStatus.SUCCEEDED: gettext_lazy("There is nothing left to do."),
    JobStatus.PARTIALLY_SUCCEEDED: gettext_lazy("This is why the others were not, and what can be done about it."),
    JobStatus.FAILED: gettext_lazy("This is why, and what can be done about it."),
    JobStatus.CANCELLED: gettext_lazy("No further row is created. What had been created stays."),
    JobStatus.PAUSED: ngettext_lazy(
        "%(created)s of %(rows)s %(things)s was created so far. It goes on by itself when that is over.",
        "%(created)s of %(rows)s %(things)s were created so far. It goes on by itself when that is over.",
        "created_count",
    ),
    EventKind.DEAD_LETTERED: gettext_lazy(
        "Every attempt to work on them failed. The others go on; another mail will tell how it ended."
    ),
}

EXPLANATIONS: dict[str, _StrPromise] = {
    Outcome.CREATED: gettext_lazy("they exist now"),
    Outcome.REJECTED: gettext_lazy("refused as they are"),
    Outcome.FAILED: gettext_lazy("no usable answer, even after several tries"),
    Outcome.UNPROCESSED: gettext_lazy("not reached"),
    "pending": gettext_lazy("still to come"),
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """The failures as a file."""

    name: str
    content: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something that one can do next, and the call of the API that does it, or ""."""

    text: str
    call: str


@dataclass(frozen=True, slots=True)
class Content:
    """A mail without its envelope."""

    subject: str
    text: str
    html: str


def attach_failures(job: ImportJob) -> Attachment | None:
    """The failures as the download has them in a CSV; None where there are none, or too many for a mail.

    Raises StorageUnavailable, and what the target's serializer raises.
    """
    settings = conf()
    not_created = job.finished_rows - job.created_count
    if not job.is_terminal or not 0 < not_created <= settings.mail_attachment_rows:
        return None
    request = Request(HttpRequest())  # the submitter's own, as far as a serializer asks
    request.user = job.submitter or AnonymousUser()
    content, rows = bytearray(), -1  # the first line is the header
    for line in as_table(read_failures(job), row_fields(settings.target(job.target), request)):
        content += line
        rows += 1
        if rows > settings.mail_attachment_rows or len(content) > settings.mail_attachment_bytes:
            return None
    return Attachment(file_name(job, "csv"), bytes(content), rows) if rows > 0 else None


def compose(job: ImportJob, kind: str, attachment: Attachment | None, *, is_submitters: bool) -> Content:
    """The mail about an event of this kind, to the submitter or to somebody they named. `job` needs `with_counts`.

    The job's page, its download and its retry are the submitter's alone; the others get no link.
    """
    topic = kind if kind in SUBJECTS else job.status
    named = placeholders(job)
    problems = [problem_text(entry) for entry in job.problems]
    page_url, failures_url = (job_page_url(job), failures_download_url(job)) if is_submitters else ("", "")
    context: dict[str, Any] = {
        "language": get_language() or "en",
        "direction": "rtl" if get_language_bidi() else "ltr",
        "topic": topic,
        "title": _("Import of %(things)s") % {"things": things(job.target)},
        "subject": SUBJECTS[topic] % named,
        "lead": LEADS[topic] % named,
        "outcomes_title": _("What became of the rows"),
        "outcomes": list(outcomes(job)),
        "problems_title": _("Why rows were not created"),
        "problems": problems[:MAX_PROBLEMS],
        "more_problems": more_problems(job),
        "failures_note": failures_note(job, attachment),
        "steps_title": _("What you can do"),
        "steps": list(next_steps(job, attachment)) if is_submitters else [],
        "page_url": page_url,
        "page_label": _("Look at the import"),
        "failures_url": failures_url,
        "failures_label": _("Download what was not created"),
        "sent_because": (
            _("You get this mail because you sent this import.")
            if is_submitters
            else _("You get this mail because the person who sent this import named your address.")
        ),
        "job_id": str(job.pk),
    }
    return Content(
        subject=context["subject"],
        text=render_to_string(TEXT_TEMPLATE, context).strip() + "\n",
        html=render_to_string(HTML_TEMPLATE, context),
    )


def outcomes(job: ImportJob) -> Iterator[dict[str, Any]]:
    """Each outcome that a row has, with its share of the rows in percent; `created` also without a row."""
    for name, count in job.counts.items():
        if count or name == Outcome.CREATED:
            yield {
                "name": name,
                "label": OUTCOME_LABELS[name],
                "explanation": EXPLANATIONS[name] if count else "",
                "count": grouped(count),
                "percent": max(1, round(100 * count / job.rows)) if count else 0,
            }


def more_problems(job: ImportJob) -> str:
    """How many rows have a problem that is not in the mail; "" for none."""
    count = sum(entry["count"] for entry in job.problems[MAX_PROBLEMS:])
    if not count:
        return ""
    text = ngettext("%(count)s more row for other reasons", "%(count)s more rows for other reasons", count)
    return text % {"count": grouped(count)}


def failures_note(job: ImportJob, attachment: Attachment | None) -> str:
    """Where the rows are that were not created."""
    not_created = job.finished_rows - job.created_count
    if not (job.is_terminal and not_created):
        return ""
    if attachment is None:
        return _("The rows that were not created are too many to be attached, or could not be read just now.")
    text = ngettext(
        "%(file)s, attached, holds the %(count)s row that was not created, with the reason.",
        "%(file)s, attached, holds the %(count)s rows that were not created, each with the reason.",
        attachment.rows,
    )
    return text % {"file": attachment.name, "count": grouped(attachment.rows)}


def next_steps(job: ImportJob, attachment: Attachment | None) -> Iterator[Step]:
    """What the submitter can do about the job as it stands."""
    if job.status == JobStatus.PAUSED and job.pause_code == PauseCode.FORBIDDEN:
        yield Step(_("Ask whoever grants permissions to let you create them. The import then goes on by itself."), "")
    if not job.can_be_retried:
        return
    # With a page of its own, the job needs no explanation of the API.
    jobs_path, path = (
        ("", "") if conf().job_page_url else (reverse("bulk-import-jobs", kwargs={"target": job.target}), job_path(job))
    )
    correct = (
        _("Correct: open the attached file in a spreadsheet, mend the rows and send it as a new import.")
        if attachment
        else _("Correct: download what was not created, mend the rows and send them as a new import.")
    )
    yield Step(correct, jobs_path and f"POST {jobs_path}?corrects={job.pk}")
    again = _("Retry: if the rows are right and the cause was mended elsewhere, run them again in this import.")
    yield Step(again, path and f"POST {path}/retry")


def job_page_url(job: ImportJob) -> str:
    """The monolith's page about the job, or ""."""
    return conf().job_page_url.replace("{id}", str(job.pk)).replace("{target}", job.target)


def failures_download_url(job: ImportJob) -> str:
    """The download of the rows that were not created, or ""; it asks who one is."""
    base = conf().public_url.rstrip("/")
    return f"{base}{job_path(job)}/failures?format=csv" if base and job.can_be_retried else ""
