"""Webhooks: a signed POST to WEBHOOK_URL about what happens to a job, by https://www.standardwebhooks.com.

Each is owed by an event until it was answered with 2xx (see `debts`), under the event's id. The relay's sweep
sends them, and nothing else does: a receiver that hangs holds up no worker and no client, and the sweep for at most
SWEEP_SECONDS + TIMEOUT_SECONDS.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
from django.utils.translation import override
from rest_framework.renderers import JSONRenderer
from standardwebhooks import Webhook

from bulk_import.conf import conf
from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import EventKind, ImportJob
from bulk_import.outbox import delivery
from bulk_import.reports.job import ImportJobWebhookSerializer

if TYPE_CHECKING:
    import ssl

    from bulk_import.models import ImportEvent

TIMEOUT_SECONDS = 10
"""From the look-up of the name to the answer's status. The specification says 15 to 30; a sweep has others to serve."""

SWEEP_SECONDS = 10
"""After which a sweep begins no further webhook; the next one goes on."""

SUCCESS = range(200, 300)


def send_due_webhooks() -> int:
    """Send the webhooks that are due; returns how many were taken. The others stay owed."""
    return delivery.deliver_due("webhook", send, seconds=SWEEP_SECONDS) if conf().webhook_url else 0


def send(event: ImportEvent) -> None:
    """Send one webhook. Raises DeliveryFailed."""
    content = JSONRenderer().render(document(event))
    try:
        status = asyncio.run(post(content, signature_headers(str(event.pk), content)))
    except (httpx.HTTPError, OSError) as error:  # their text may quote the URL
        raise DeliveryFailed(type(error).__name__) from error
    if status not in SUCCESS:
        raise DeliveryFailed(f"the answer was {status}")


def document(event: ImportEvent) -> dict[str, Any]:
    """What is sent: what happened and when, and the job as it stands by now, in its own language."""
    job = ImportJob.objects.for_reports().get(pk=event.job_id)
    what = event.note if event.kind == EventKind.ENDED else event.kind
    webhook = ImportJobWebhookSerializer({"type": f"import.{what}", "timestamp": event.at, "data": job})
    with override(job.language or None):
        rendered: dict[str, Any] = webhook.data
    return rendered


def signature_headers(webhook_id: str, content: bytes) -> dict[str, str]:
    """The headers that say which webhook it is and when it was sent, and prove it with each of the secrets."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(webhook_id, now, content.decode()) for secret in conf().webhook_secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def post(content: bytes, headers: dict[str, str]) -> int:
    """POST the content; returns the status of the answer, whose body is not read."""
    # The time-out is for all of it. Those of httpx are for single steps, which an answer that drips never exceeds.
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncClient(verify=tls_context(), timeout=TIMEOUT_SECONDS) as client,
        client.stream("POST", conf().webhook_url, content=content, headers={**HEADERS, **headers}) as answer,
    ):
        return answer.status_code


HEADERS = {"Content-Type": "application/json", "User-Agent": "django-bulk-import"}


@cache
def tls_context() -> ssl.SSLContext:
    """Made once: to read the certificates takes longer than a webhook."""
    return httpx.create_ssl_context()
