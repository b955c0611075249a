"""The mail that tells the submitter how a job ended. The job in the API and the admin stays the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMessage
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from bulk_import.models import ImportJob
from bulk_import.representation import message, things

if TYPE_CHECKING:
    from uuid import UUID


def mail_job_ended(job_id: UUID) -> None:
    """Mail the submitter, in the language of the job. Raises what the mail backend raises."""
    job = ImportJob.objects.with_counts().select_related("submitter").get(pk=job_id)
    if not job.submitter or not job.submitter.email:
        return
    with override(job.language or None):
        subject = _("Import of %(things)s: %(status)s") % {
            "things": things(job.target),
            "status": job.get_status_display(),
        }
        problems = [f"- {problem_text(entry)}" for entry in job.problems]
        body = "\n".join([message(job), "", *problems])
    EmailMessage(subject, body, to=[job.submitter.email]).send()


def problem_text(entry: dict[str, Any]) -> str:
    """One problem as a line: "category: No such category. (412 rows, first at index 17)"."""
    where = f"{entry['field']}: " if entry["field"] else ""
    rows = ngettext("(%(count)d row, at index %(first)d)", "(%(count)d rows, first at index %(first)d)", entry["count"])
    return f"{where}{entry['message']} {rows % {'count': entry['count'], 'first': entry['first_index']}}"
