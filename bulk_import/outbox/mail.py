"""Writes an email about a job: its subject, text, HTML and attachment, all in the active language.

The templates `bulk_import/mail/job.html` and `job.txt` contain the layout and no words. A site can override them to
change the design, and does not have to translate anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import get_language, get_language_bidi, ngettext
from django.utils.translation import gettext as _
from rest_framework.request import Request

from bulk_import.conf import conf
from bulk_import.models import JobMode, JobStatus
from bulk_import.models.status import OUTCOME_LABELS
from bulk_import.outbox import mail_texts as texts
from bulk_import.reports.failures import file_name, job_table
from bulk_import.reports.links import job_path
from bulk_import.reports.messages import existed_text, grouped, placeholders, things
from bulk_import.reports.problems import problem_text
from bulk_import.storage.failures import read_failures
from bulk_import_wire.contract import Outcome, PauseCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulk_import.models import ImportJob

TEXT_TEMPLATE = "bulk_import/mail/job.txt"
HTML_TEMPLATE = "bulk_import/mail/job.html"

MAX_PROBLEMS = 10
"""Maximum number of problems in an email. It lists those with the most rows. The failures file has the others, too."""

MAX_ATTACHMENT_ROWS = 1_000
"""Maximum number of rows in the attached CSV. If there are more, the email links to the download instead."""

MAX_ATTACHMENT_BYTES = 1024 * 1024
"""Maximum size of the attached CSV. Encoding it for email adds a third, and many email servers accept at most 10 MB."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """The failures as a CSV file."""

    name: str
    content: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Step:
    """Something that the submitter can do next, and the API request that does it; "" if there is none."""

    text: str
    call: str


@dataclass(frozen=True, slots=True)
class Content:
    """The content of an email, without its headers and recipient."""

    subject: str
    text: str
    html: str


def attach_failures(job: ImportJob) -> Attachment | None:
    """Return the failures as a CSV file, as in the download.

    Returns None if the job has not ended, if there are no failures, or if there are too many.

    Raises StorageUnavailable, and any exception that the target's serializer raises.
    """
    settings = conf()
    not_created = job.finished_rows - job.done_count
    is_configured = job.target in settings.targets  # the columns of the file are those of the target's serializer
    if not job.is_terminal or not is_configured or not 0 < not_created <= MAX_ATTACHMENT_ROWS:
        return None
    request = Request(HttpRequest())  # some serializers need a request
    request.user = job.submitter or AnonymousUser()
    content, rows = bytearray(), -1  # -1 because the first line is the header
    for line in job_table(job, read_failures(job), request):
        content += line
        rows += 1
        if rows > MAX_ATTACHMENT_ROWS or len(content) > MAX_ATTACHMENT_BYTES:
            return None
    return Attachment(file_name(job, "failures", "csv"), bytes(content), rows) if rows > 0 else None


def compose(job: ImportJob, kind: str, attachment: Attachment | None, *, to_submitter: bool) -> Content:
    """Return the email about an event of this kind. `job` needs `with_counts`.

    Only the submitter may open the job's page, download the failures and retry. So an email to another recipient has
    no links and no next steps.
    """
    topic = kind if kind in texts.SUBJECTS else job.status
    creates = job.mode == JobMode.CREATE
    values = placeholders(job)
    problems = [problem_text(entry) for entry in job.problems]
    page_url, failures_url = (job_page_url(job), failures_download_url(job)) if to_submitter else ("", "")
    context: dict[str, Any] = {
        "language": get_language() or "en",
        "direction": "rtl" if get_language_bidi() else "ltr",
        "topic": topic,
        "title": title(job),
        "subject": texts.subject(job, topic) % values,
        "lead": f"{texts.lead(job, topic) % values} {existed_text(job)}".strip(),
        "outcomes_title": _("Results"),
        "outcomes": list(outcomes(job)),
        "problems_title": _("Why rows were not created") if creates else _("Why rows were not imported"),
        "problems": problems[:MAX_PROBLEMS],
        "more_problems": more_problems(job),
        "failures_note": failures_note(job, attachment),
        "steps_title": _("Next steps"),
        "steps": list(next_steps(job, attachment)) if to_submitter else [],
        "page_url": page_url,
        "page_label": _("View the import"),
        "failures_url": failures_url,
        "failures_label": (
            _("Download the rows that were not created") if creates else _("Download the rows that were not imported")
        ),
        "sent_because": (
            _("You received this email because you started this import.")
            if to_submitter
            else _("You received this email because the person who started this import added your address.")
        ),
        "job_id": str(job.pk),
    }
    return Content(
        subject=context["subject"],
        text=render_to_string(TEXT_TEMPLATE, context).strip() + "\n",
        html=render_to_string(HTML_TEMPLATE, context),
    )


def title(job: ImportJob) -> str:
    """Return what was imported, with the name of the file by which people recognise it."""
    text = _("Import of %(things)s") % {"things": things(job.target)}
    return f"{text}: {job.file_name}" if job.file_name else text


def outcomes(job: ImportJob) -> Iterator[dict[str, Any]]:
    """Yield every outcome that at least one row has, with its share in percent. A job that creates has `created`."""
    for name, count in job.counts.items():
        if count or (name == Outcome.CREATED and job.mode == JobMode.CREATE):
            yield {
                "name": name,
                "label": OUTCOME_LABELS[name],
                "explanation": texts.EXPLANATIONS.get(name, "") if count and job.mode != JobMode.UNDO else "",
                "count": grouped(count),
                "percent": max(1, round(100 * count / job.rows)) if count else 0,
            }


def more_problems(job: ImportJob) -> str:
    """Return a sentence about the rows whose problems the email does not list, or ""."""
    count = sum(entry["count"] for entry in job.problems[MAX_PROBLEMS:])
    if not count:
        return ""
    text = ngettext(
        "%(count)s more row was not created for another reason",
        "%(count)s more rows were not created for other reasons",
        count,
    )
    return text % {"count": grouped(count)}


def failures_note(job: ImportJob, attachment: Attachment | None) -> str:
    """Return a sentence that says where to find the rows that were not created, or ""."""
    not_created = job.finished_rows - job.done_count
    if not (job.is_terminal and not_created):
        return ""
    creates = job.mode == JobMode.CREATE
    if attachment is None and creates:
        return _(
            "The rows that were not created are not attached, because there are too many or they could not be read."
        )
    if attachment is None:
        return _(
            "The rows that were not imported are not attached, because there are too many or they could not be read."
        )
    text = ngettext(
        "The attached file %(file)s contains the row that was not created, with the reason.",
        "The attached file %(file)s contains the %(count)s rows that were not created, each with the reason.",
        attachment.rows,
    )
    if not creates:
        text = ngettext(
            "The attached file %(file)s contains the row that was not imported, with the reason.",
            "The attached file %(file)s contains the %(count)s rows that were not imported, each with the reason.",
            attachment.rows,
        )
    return text % {"file": attachment.name, "count": grouped(attachment.rows)}


def next_steps(job: ImportJob, attachment: Attachment | None) -> Iterator[Step]:
    """Yield what the submitter can do next."""
    if job.status == JobStatus.PAUSED and job.pause_code == PauseCode.FORBIDDEN:
        text = _("Ask an administrator for permission to add %(things)s. The import then continues automatically.")
        if job.mode != JobMode.CREATE:
            text = _(
                "Ask an administrator for permission to change %(things)s. The import then continues automatically."
            )
        if job.mode == JobMode.UNDO:
            text = _("Ask an administrator for permission to delete %(things)s. The undo then continues automatically.")
        yield Step(text % {"things": things(job.target)}, "")
    if job.target not in conf().targets:
        return
    # If the site has a page about the job, people use that page. Otherwise the email names the API requests.
    jobs_path, path = (
        ("", "") if conf().job_page_url else (reverse("bulk-import-jobs", kwargs={"target": job.target}), job_path(job))
    )
    if job.rehearsal and job.is_terminal:
        text = _("Start the real import. It uses the rows of this rehearsal, so you do not send them again.")
        if job.mode == JobMode.UNDO:
            text = _("Start the real undo. It deletes what this rehearsal could delete.")
        yield Step(text, path and f"POST {path}/run")
    if not (job.can_be_retried or job.can_be_resumed):
        return
    if job.can_be_resumed:
        yield Step(
            _("Find the cause, for example with our support, and resume the import."), path and f"POST {path}/resume"
        )
        yield Step(_("Or cancel the import. The rows that were created stay."), path and f"DELETE {path}")
        return
    correct = (
        _("Correct the rows: open the attached file in a spreadsheet, fix the rows, and send the file as a new import.")
        if attachment
        else _(
            "Correct the rows: download the rows that were not created, fix them, and send the file as a new import."
        )
    )
    if job.mode != JobMode.UNDO:
        yield Step(correct, jobs_path and f"POST {jobs_path}?corrects={job.pk}")
    retry = _("Retry without changes: if the rows are correct and the cause has been fixed, retry them in this import.")
    yield Step(retry, path and f"POST {path}/retry")


def job_page_url(job: ImportJob) -> str:
    """Return the URL of the site's own page about the job, or ""."""
    return conf().job_page_url.replace("{id}", str(job.pk)).replace("{target}", job.target)


def failures_download_url(job: ImportJob) -> str:
    """Return the URL of the download of the failures, which requires signing in, or ""."""
    base = conf().public_url.rstrip("/")
    is_possible = base and job.can_be_retried and job.target in conf().targets
    return f"{base}{job_path(job)}/failures?format=csv" if is_possible else ""
