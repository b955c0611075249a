"""Gauges for Prometheus, and for other monitors that read its text format. Every scrape queries the database.

Mount the view once: path("bulk-import/metrics", bulk_import.metrics.metrics). All processes of the monolith return the
same numbers, so scrape only one of them. A scrape is cheap however many jobs there have been: jobs and chunks are
counted with partial indexes, and the outbox contains only deliveries that are pending or abandoned.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.db.models import Count, Min, Q
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from bulk_import.authentication import matches_any_secret
from bulk_import.conf import conf
from bulk_import.models import Channel, Delivery, ImportChunk, ImportJob
from bulk_import.models.delivery import GIVE_UP_AFTER
from bulk_import.models.status import TERMINAL_STATUSES, JobStatus
from bulk_import.outbox.relay import FAST_PATH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The text format of Prometheus, https://prometheus.io/docs/instrumenting/exposition_formats/."""


@login_not_required
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the gauges if the request has the header `Authorization: Bearer <one of METRICS_SECRETS>`.

    Otherwise, and if METRICS_SECRETS is not set, return 404.
    """
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not matches_any_secret(given.encode(), conf().metrics_secrets):
        return HttpResponse(status=404)
    lines = [*job_lines(), *chunk_lines(), *delivery_lines()]
    response = HttpResponse("".join(f"{line}\n" for line in lines), content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def job_lines() -> Iterator[str]:
    """Count the jobs that have not ended, without rehearsals, in one query."""
    now = timezone.now()
    # order_by() removes the model's default ordering, which would split the groups.
    groups = (
        ImportJob.objects.open()
        .filter(rehearsal=False)
        .order_by()
        .values_list("status")
        .annotate(Count("pk"), Min("created_at"))
    )
    by_status = {status: (count, oldest) for status, count, oldest in groups}
    yield from head("bulk_import_open_jobs", "Jobs that have not ended.")
    for status in JobStatus:
        if status not in TERMINAL_STATUSES:
            yield f'bulk_import_open_jobs{{status="{status}"}} {by_status.get(status, (0, now))[0]}'
    age = now - min((oldest for _, oldest in by_status.values()), default=now)
    yield from head("bulk_import_oldest_open_job_seconds", "Age of the oldest job that has not ended.")
    yield f"bulk_import_oldest_open_job_seconds {max(age.total_seconds(), 0):.0f}"


def chunk_lines() -> Iterator[str]:
    """Count the unsent and the dead chunks, in two queries."""
    old_enough = timezone.now() - timedelta(seconds=FAST_PATH_SECONDS)
    unsent = ImportChunk.objects.unsent().filter(queued_at__lt=old_enough)
    yield from head("bulk_import_unsent_chunks", "Chunks whose message waits for the relay.")
    yield f"bulk_import_unsent_chunks {unsent.count()}"
    yield from head("bulk_import_dead_chunks", "Chunks that ran out of deliveries and were not redriven.")
    yield f"bulk_import_dead_chunks {ImportChunk.objects.dead().order_by().count()}"


def delivery_lines() -> Iterator[str]:
    """Count the deliveries in the outbox, in one query."""
    is_abandoned = Q(event__at__lte=timezone.now() - GIVE_UP_AFTER)
    groups = Delivery.objects.values_list("channel").annotate(
        pending=Count("pk", filter=~is_abandoned), abandoned=Count("pk", filter=is_abandoned)
    )
    by_channel = {channel: counts for channel, *counts in groups}
    meanings = {
        "bulk_import_pending_deliveries": "Emails and webhooks that were not delivered yet.",
        "bulk_import_abandoned_deliveries": "Emails and webhooks that could not be delivered within three days.",
    }
    for position, (name, meaning) in enumerate(meanings.items()):
        yield from head(name, meaning)
        for channel in Channel:
            yield f'{name}{{channel="{channel}"}} {by_channel.get(channel, (0, 0))[position]}'


def head(name: str, meaning: str) -> Iterator[str]:
    """Yield the lines that describe a gauge. They come before its samples."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} gauge"
