"""The mails about a job: it ended, it is paused for long, or some of its rows are in the dead-letter queue.

Each is owed by an event until the mail server took it (see `debts`): sent at least once, under a Message-ID
that stays the same. The job in the API and the admin stays the truth.
"""

from __future__ import annotations

from email.utils import formatdate, parseaddr
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from bulk_import import debts
from bulk_import.models import ImportJob
from bulk_import.representation import message, things

if TYPE_CHECKING:
    from uuid import UUID

    from bulk_import.models import ImportEvent


def send_due_mails(job_id: UUID | None = None) -> int:
    """Send the mails that are due, of one job or of all; returns how many. What cannot be sent stays owed."""
    return debts.settle("mail", mail, job_id=job_id)


def mail(event: ImportEvent) -> None:
    """Mail the submitter how the job stands, in the language of the job. Raises what the mail backend raises."""
    job = ImportJob.objects.with_counts().select_related("submitter").get(pk=event.job_id)
    if not job.submitter or not job.submitter.email:
        return
    with override(job.language or None):
        subject = _("Import of %(things)s: %(status)s") % {
            "things": things(job.target),
            "status": job.get_status_display(),
        }
        problems = [f"- {problem_text(entry)}" for entry in job.problems]
        body = "\n".join([message(job), "", *problems])
    # Of the sender, not of the machine: whichever machine tries again, it is the same mail.
    _name, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    headers = {
        "Message-ID": f"<{event.pk}@{sender.rpartition('@')[2]}>",
        "Date": formatdate(event.at.timestamp()),
    }
    EmailMessage(subject, body, to=[job.submitter.email], headers=headers).send()


def problem_text(entry: dict[str, Any]) -> str:
    """One problem as a line: "category: No such category. (412 rows, first at index 17)"."""
    where = f"{entry['field']}: " if entry["field"] else ""
    rows = ngettext("(%(count)d row, at index %(first)d)", "(%(count)d rows, first at index %(first)d)", entry["count"])
    return f"{where}{entry['message']} {rows % {'count': entry['count'], 'first': entry['first_index']}}"
