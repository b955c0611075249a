"""The emails about a job: it has ended, it has been paused for a while, or some of its rows are dead letters.

Every recipient gets an email of their own, so nobody sees another recipient's address. The emails are delivered
through the outbox (see `delivery`). If the same email has to be sent twice, both copies have the same Message-ID.
"""

from __future__ import annotations

import logging
import math
import traceback
from datetime import timedelta
from email.encoders import encode_base64
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.utils import formatdate, parseaddr
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.utils import timezone
from django.utils.translation import override

from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import Channel, EventKind, ImportJob, JobStatus
from bulk_import.models.delivery import SUBMITTER
from bulk_import.outbox.delivery import deliver_due
from bulk_import.outbox.mail import Attachment, Content, attach_failures, compose

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from bulk_import.models import Delivery, ImportEvent

    FindAttachment = Callable[[ImportEvent, ImportJob], Attachment | None]

logger = logging.getLogger(__name__)

ATTACH_WITHIN = timedelta(hours=1)
"""How long an email waits for failures that cannot be read from S3. After that it is sent without them."""


def send_due_emails(job_id: UUID | None = None, *, seconds: float = math.inf) -> int:
    """Send the emails that are due, of one job or of all jobs. Return how many succeeded.

    Emails that could not be sent stay in the outbox. No new email is started after `seconds` seconds.
    """
    # The recipients of one event are usually handled one after the other, and all get the same attachment. So the
    # last attachment is kept, and the failures are read from S3 once for each event.
    cached = lru_cache(maxsize=1)(find_attachment)
    return deliver_due(Channel.EMAIL, partial(send_email, find_attachment=cached), job_id=job_id, seconds=seconds)


def send_email(delivery: Delivery, *, find_attachment: FindAttachment) -> None:
    """Send one email, unless it is no longer needed. Raises DeliveryFailed if the email was not accepted.

    The text of the original error is never logged: a mail server may quote the address, and a serializer may quote
    a value of a row.
    """
    event = delivery.event
    job = ImportJob.objects.for_reports().get(pk=event.job_id)
    address = current_address(delivery, job)
    if not address or not is_current(event, job):
        return
    try:
        with override(job.language or None):
            attachment = find_attachment(event, job)
            content = compose(job, event.kind, attachment, to_submitter=delivery.recipient == SUBMITTER)
            build_message(delivery, address, content, attachment).send()
    except Exception as error:
        raise DeliveryFailed(describe_error(error)) from error


def current_address(delivery: Delivery, job: ImportJob) -> str:
    """Return the address to send to, or "" if nobody should get the email.

    For example, the submitter has no address, was deleted or is disabled.
    """
    if not job.recipients:
        return ""
    return job.recipients[0] if delivery.recipient == SUBMITTER else delivery.recipient


def is_current(event: ImportEvent, job: ImportJob) -> bool:
    """Return whether the event still describes the job, which may have been resumed, redriven or retried since."""
    if event.kind == EventKind.PAUSED:
        return job.status == JobStatus.PAUSED
    if event.kind == EventKind.DEAD_LETTERED:
        return not job.is_terminal
    return job.is_terminal


def find_attachment(event: ImportEvent, job: ImportJob) -> Attachment | None:
    """Return the failures as an attachment. Return None if there are none or too many, or if they cannot be read.

    Until ATTACH_WITHIN has passed, this raises the error that prevents reading them, so that the email is retried.
    """
    try:
        return attach_failures(job)
    except Exception as error:
        if timezone.now() - event.at < ATTACH_WITHIN:
            raise
        logger.warning("The email about job %s is sent without the failures: %s", job.pk, describe_error(error))
        return None


def build_message(
    delivery: Delivery, address: str, content: Content, attachment: Attachment | None
) -> EmailMultiAlternatives:
    """Return the email, ready to be sent."""
    # The Message-ID must not depend on the machine: another machine may send the same email again, and the ID lets
    # mail programs recognise the duplicate. So its domain is that of the sender's address, not the host name.
    _name, sender = parseaddr(settings.DEFAULT_FROM_EMAIL)
    headers = {
        "Message-ID": f"<{delivery.event_id}.{delivery.pk}@{sender.rpartition('@')[2]}>",
        "Date": formatdate(delivery.event.at.timestamp()),
        "Auto-Submitted": "auto-generated",  # RFC 3834: prevents out-of-office replies
    }
    message = EmailMultiAlternatives(content.subject, content.text, to=[address], headers=headers)
    message.attach_alternative(content.html, "text/html")
    if attachment:
        message.attach(attachment_part(attachment))
    return message


def attachment_part(attachment: Attachment) -> Any:
    """Return the attachment as a MIME part that keeps every byte.

    Django would attach a CSV file as text and change its line endings, including those within cells.
    """
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


def describe_error(error: Exception) -> str:
    """Return the type of an error and where it was raised, without its text."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    code = f" {error.smtp_code}" if hasattr(error, "smtp_code") else ""
    return f"{type(error).__name__}{code} at {place.filename}:{place.lineno}"
