"""The mails about a job: it ended, it is paused for long, or some of its rows are in the dead-letter queue.

Each is owed by an event from the moment that it is committed until the mail server took it for every recipient: sent
at least once, under a Message-ID that stays the same, and twice only if the process dies in between, or the server
takes longer than RETRY_AFTER. Each recipient gets a mail of their own. The job in the API and the admin stays the
truth.
"""

from __future__ import annotations

import logging
import traceback
from datetime import timedelta
from email.encoders import encode_base64
from email.mime.base import MIMEBase
from email.utils import formatdate, parseaddr
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import override

from bulk_import.mail import Attachment, Content, attach_failures, compose
from bulk_import.models import EventKind, ImportEvent, ImportJob, JobStatus

if TYPE_CHECKING:
    from uuid import UUID

logger = logging.getLogger(__name__)

RETRY_AFTER = timedelta(minutes=2)
"""How long one process has for sending a mail, and how soon one that was not taken is tried again at first."""

MAX_RETRY_AFTER = timedelta(hours=1)
"""A mail is tried again when it is twice as old, but no later than this."""

ATTACH_WITHIN = timedelta(hours=1)
"""So long a mail waits for failures that cannot be read. Then it goes without them, and says so."""

GIVE_UP_AFTER = timedelta(days=3)
"""No mail server takes it any more; the address may be wrong."""


def send_due_mails(job_id: UUID | None = None) -> int:
    """Send the mails that are due, of one job or of all; returns how many. What cannot be sent stays owed."""
    due = ImportEvent.objects.filter(mail_due_at__lte=Now(), at__gt=Now() - GIVE_UP_AFTER).order_by("mail_due_at")
    if job_id:
        due = due.filter(job_id=job_id)
    sent = 0
    for event in due:
        # Whoever moves the time on has the mail to send; if that process dies, the next sweep finds it due again.
        if not due.filter(pk=event.pk).update(mail_due_at=Now() + RETRY_AFTER):
            continue
        event.refresh_from_db(fields=["mailed"])
        already_mailed = len(event.mailed)
        try:
            is_settled = mail(event)
        except Exception as error:  # noqa: BLE001 - whatever S3, a template or the target's serializer raises
            log_failure(event, error, "could not be written; it is tried again")
            is_settled = False
        sent += len(event.mailed) - already_mailed
        next_try = None if is_settled else Now() + min(max(RETRY_AFTER, timezone.now() - event.at), MAX_RETRY_AFTER)
        # Withdrawn meanwhile, it stays so.
        ImportEvent.objects.filter(pk=event.pk, mail_due_at__isnull=False).update(mail_due_at=next_try)
    return sent


def mail(event: ImportEvent) -> bool:
    """Mail everybody who is owed one how the job stands, in its language; returns whether all are served now."""
    job = ImportJob.objects.with_counts().select_related("submitter").get(pk=event.job_id)
    places = [place for place, address in enumerate(job.recipients) if address and place not in event.mailed]
    if not places or not still_tells(event, job):
        return True
    with override(job.language or None):
        attachment = find_attachment(event, job)
        served = [send(event, job, place, attachment) for place in places]
    return all(served)


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
        log_failure(event, error, "goes without the failures")
        return None


def send(event: ImportEvent, job: ImportJob, place: int, attachment: Attachment | None) -> bool:
    """Mail one recipient, and note that; returns whether the mail server took it."""
    content = compose(job, event.kind, attachment, is_submitters=place == 0)
    try:
        message(event, job.recipients[place], place, content, attachment).send()
    except Exception as error:  # noqa: BLE001 - whatever a mail backend raises; the next recipient is not to blame
        log_failure(event, error, "could not be sent; it is tried again")
        return False
    event.mailed.append(place)
    # The next one gets its full time.
    own = ImportEvent.objects.filter(pk=event.pk)
    own.update(mailed=event.mailed)
    own.filter(mail_due_at__isnull=False).update(mail_due_at=Now() + RETRY_AFTER)
    return True


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
        # As text, it would be a file with other line ends, also within its cells.
        part = MIMEBase("text", "csv", charset="utf-8")
        part.set_payload(attachment.content)
        encode_base64(part)
        part.add_header("Content-Disposition", "attachment", filename=attachment.name)
        letter.attach(part)
    return letter


def log_failure(event: ImportEvent, error: Exception, consequence: str) -> None:
    """Say what failed and where, but not the error's own words: a mail server's name the address, others a value."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    logger.error(
        "The mail about job %s %s: %s%s, %s line %d",
        event.job_id,
        consequence,
        type(error).__name__,
        f" {error.smtp_code}" if hasattr(error, "smtp_code") else "",
        place.filename,
        place.lineno or 0,
    )
