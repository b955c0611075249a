"""The mails about a job: it ended, it is paused for long, or some of its rows are in the dead-letter queue.

Each is owed by an event until the mail server took it for every recipient (see `debts`): sent at least once, under a
Message-ID that stays the same. Each recipient gets a mail of their own. The job in the API and the admin stays the
truth.
"""

from __future__ import annotations

import logging
import traceback
from datetime import timedelta
from email.encoders import encode_base64
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.utils import formatdate, parseaddr
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models.functions import Greatest, Now
from django.utils import timezone
from django.utils.translation import override

from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus
from bulk_import.outbox import delivery
from bulk_import.outbox.mail import Attachment, Content, attach_failures, compose

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)

ATTACH_WITHIN = timedelta(hours=1)
"""So long a mail waits for failures that cannot be read. Then it goes without them, and says so."""


def send_due_mails(job_id: UUID | None = None) -> int:
    """Send the mails that are due, of one job or of all; returns for how many events. What was not taken stays owed."""
    return delivery.deliver_due("mail", mail, job_id=job_id)


def mail(event: ImportEvent) -> None:
    """Email each recipient who has not been notified yet. Raises DeliveryFailed if an email was not accepted.

    What went wrong is told without its own words: a mail server's name the address, others a value of a row.
    """
    job = ImportJob.objects.for_reports().get(pk=event.job_id)
    event.refresh_from_db(fields=["mailed"])
    places = [place for place, address in enumerate(job.recipients) if address and place not in event.mailed]
    if not places or not still_tells(event, job):
        return
    try:
        with override(job.language or None):
            attachment = find_attachment(event, job)
            contents = {place: compose(job, event.kind, attachment, is_submitters=place == 0) for place in places}
    except Exception as error:
        raise DeliveryFailed(description(error)) from error
    not_taken: list[Exception] = []
    for place, content in contents.items():
        try:
            message(event, job.recipients[place], place, content, attachment).send()
        except Exception as error:  # noqa: BLE001 - whatever a mail backend raises; the next recipient is not to blame
            not_taken.append(error)
        else:
            note_mailed(event, place)
    if not_taken:
        raise DeliveryFailed(f"for {len(not_taken)} of {len(places)}: {description(not_taken[0])}")


def still_tells(event: ImportEvent, job: ImportJob) -> bool:
    """Whether it is still so: a job may have been resumed, redriven or retried since the mail came due."""
    if event.kind == EventKind.PAUSED:
        return job.status == JobStatus.PAUSED
    return job.is_terminal is not (event.kind == EventKind.DEAD_LETTERED)


def find_attachment(event: ImportEvent, job: ImportJob) -> Attachment | None:
    """The failures, if they are few. Raises whatever keeps them from being read, unless it has for ATTACH_WITHIN."""
    try:
        return attach_failures(job)
    except Exception as error:
        if timezone.now() - event.at < ATTACH_WITHIN:
            raise
        logger.warning("The mail about job %s goes without the failures: %s", job.pk, description(error))
        return None


def note_mailed(event: ImportEvent, place: int) -> None:
    """One recipient is served. The next one has the full time of a debt."""
    event.mailed.append(place)
    own = ImportEvent.objects.filter(pk=event.pk)
    own.update(mailed=event.mailed)
    still_owed = own.filter(mail_due_at__isnull=False)
    still_owed.update(mail_due_at=Greatest("mail_due_at", Now() + delivery.RETRY_AFTER))


def message(
    event: ImportEvent, address: str, place: int, content: Content, attachment: Attachment | None
) -> EmailMultiAlternatives:
    """The mail in its envelope."""
    # Of the sender, not of the machine: whichever machine tries again, it is the same mail.
    _name, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    headers = {
        "Message-ID": f"<{event.pk}{f'.{place}' if place else ''}@{sender.rpartition('@')[2]}>",
        "Date": formatdate(event.at.timestamp()),
        "Auto-Submitted": "auto-generated",  # RFC 3834: no holiday notice answers it
    }
    letter = EmailMultiAlternatives(content.subject, content.text, to=[address], headers=headers)
    letter.attach_alternative(content.html, "text/html")
    if attachment:
        letter.attach(as_part(attachment))
    return letter


def as_part(attachment: Attachment) -> Any:
    """The attachment byte by byte: as text, it would be a file with other line ends, also within its cells."""
    if django.VERSION >= (6,):
        part = MIMEPart()
        charset = {"charset": "utf-8"}
        part.set_content(attachment.content, "text", "csv", filename=attachment.name, params=charset)
        return part
    old_part = MIMEBase("text", "csv", charset="utf-8")
    old_part.set_payload(attachment.content)
    encode_base64(old_part)
    old_part.add_header("Content-Disposition", "attachment", filename=attachment.name)
    return old_part


def description(error: Exception) -> str:
    """What went wrong and where, without the error's own words."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    code = f" {error.smtp_code}" if hasattr(error, "smtp_code") else ""
    return f"{type(error).__name__}{code} at {place.filename}:{place.lineno}"
