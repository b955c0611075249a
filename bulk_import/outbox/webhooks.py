"""Webhooks: a signed POST to WEBHOOK_URL about what happens to a job (https://www.standardwebhooks.com).

Webhooks are delivered through the outbox (see `delivery`). The `webhook-id` is the ID of the event, and a retry has
the same ID. Only the relay's sweep sends them. A receiver that does not respond therefore delays no worker and no
client, and it delays the sweep by at most SWEEP_SECONDS + TIMEOUT_SECONDS.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import httpx
from django.utils import timezone
from django.utils.translation import override
from rest_framework.renderers import JSONRenderer
from standardwebhooks import Webhook

from bulk_import.conf import conf
from bulk_import.exceptions import DeliveryFailed
from bulk_import.models import Channel, EventKind, ImportJob
from bulk_import.outbox.delivery import deliver_due
from bulk_import.reports.job import ImportJobWebhookSerializer

if TYPE_CHECKING:
    import ssl

    from bulk_import.models import Delivery, ImportEvent

TIMEOUT_SECONDS = 10
"""Timeout of one request, from the DNS lookup to the status of the response.

The specification recommends 15 to 30 seconds. We use less, so that a slow receiver delays the sweep less.
"""

SWEEP_SECONDS = 10
"""Time after which a sweep starts no further webhook. The next sweep continues."""

SUCCESS = range(200, 300)

HEADERS = {"Content-Type": "application/json", "User-Agent": "django-bulk-import"}


def send_due_webhooks(transport: httpx.AsyncBaseTransport | None = None) -> int:
    """Send the webhooks that are due, and return how many the receiver accepted. The others stay in the outbox.

    `transport` carries the requests instead of connections to the receiver.
    """
    if not conf().webhook_url:
        return 0
    with closing(asyncio.Runner()) as runner:  # one event loop for all webhooks, which the first of them creates
        send = partial(send_webhook, runner=runner, transport=transport)
        return deliver_due(Channel.WEBHOOK, send, seconds=SWEEP_SECONDS)


def send_webhook(delivery: Delivery, runner: asyncio.Runner, transport: httpx.AsyncBaseTransport | None) -> None:
    """Send one webhook in this event loop. Raises DeliveryFailed if the receiver does not respond with 2xx."""
    event = delivery.event
    content = JSONRenderer().render(document(event))
    request = post(content, signature_headers(str(event.pk), content), transport)
    try:
        # By default, a runner runs every webhook in the context of the first one, and log lines would name its job.
        status = runner.run(request, context=copy_context())
    except (httpx.HTTPError, OSError) as error:  # not the error's text: it may contain the URL
        raise DeliveryFailed(type(error).__name__) from error
    if status not in SUCCESS:
        raise DeliveryFailed(f"the receiver returned {status}")


def document(event: ImportEvent) -> dict[str, Any]:
    """Return the body: what happened and when, and the job as it is now, in the language of the job."""
    job = ImportJob.objects.for_reports().get(pk=event.job_id)
    name = event.note if event.kind == EventKind.ENDED else event.kind  # the note of ENDED is the job's final status
    webhook = ImportJobWebhookSerializer({"type": f"import.{name}", "timestamp": event.at, "data": job})
    with override(job.language or None):
        rendered: dict[str, Any] = webhook.data
    return rendered


def signature_headers(webhook_id: str, content: bytes) -> dict[str, str]:
    """Return the ID, the time of sending, and one signature for each configured secret."""
    now = timezone.now()
    signatures = [Webhook(secret).sign(webhook_id, now, content.decode()) for secret in conf().webhook_secrets]
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def post(content: bytes, headers: dict[str, str], transport: httpx.AsyncBaseTransport | None) -> int:
    """POST the content, and return the status of the response. The body of the response is not read."""
    # This timeout limits the whole request. The timeouts of httpx limit single steps, and a receiver that sends one
    # byte at a time never exceeds them.
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        httpx.AsyncClient(verify=tls_context(), timeout=TIMEOUT_SECONDS, transport=transport) as client,
        client.stream("POST", conf().webhook_url, content=content, headers={**HEADERS, **headers}) as answer,
    ):
        return answer.status_code


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS settings. They are cached: reading the certificates takes longer than sending a webhook."""
    return httpx.create_ssl_context()
