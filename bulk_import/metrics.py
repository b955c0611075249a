"""How things stand, for Prometheus and whatever reads its text format. Counted in the database when it is asked.

Mount it once: path("bulk-import/metrics", bulk_import.metrics.metrics). All processes of the monolith tell the same,
so scrape one. Each query reads a partial index, so it costs as much as there is to do, not as much as there ever was.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, Min, Q
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from bulk_import.authentication import matches_any_secret
from bulk_import.conf import conf
from bulk_import.models import ImportChunk, ImportEvent, ImportJob
from bulk_import.models.status import TERMINAL_STATUSES, JobStatus
from bulk_import.outbox.delivery import GIVE_UP_AFTER
from bulk_import.outbox.relay import FAST_PATH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format, https://prometheus.io/docs/instrumenting/exposition_formats/."""

DEBTS = ("mail", "webhook", "signal")


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """`Authorization: Bearer <one of METRICS_SECRETS>`; without such a setting, or with another secret, a 404."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not matches_any_secret(given.encode(), conf().metrics_secrets):
        return HttpResponse(status=404)
    response = HttpResponse("".join(f"{line}\n" for line in lines()), content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


def lines() -> Iterator[str]:
    """The lines of the text format, in six queries."""
    now = timezone.now()
    # order_by() because the model's own order would split the groups.
    by_status = {
        status: (count, oldest)
        for status, count, oldest in ImportJob.objects.open()
        .order_by()
        .values_list("status")
        .annotate(Count("pk"), Min("created_at"))
    }
    yield from head("bulk_import_open_jobs", "Jobs that have not ended.")
    for status in JobStatus:
        if status not in TERMINAL_STATUSES:
            yield f'bulk_import_open_jobs{{status="{status}"}} {by_status.get(status, (0, now))[0]}'
    age = now - min((oldest for _, oldest in by_status.values()), default=now)
    yield from head("bulk_import_oldest_open_job_seconds", "Since the oldest job was accepted that has not ended.")
    yield f"bulk_import_oldest_open_job_seconds {max(age.total_seconds(), 0):.0f}"

    forgotten = now - timedelta(seconds=FAST_PATH_SECONDS)
    yield from head("bulk_import_unsent_chunks", "Chunks whose message waits for the relay.")
    unsent = ImportChunk.objects.unsent().filter(job__created_at__lt=forgotten).order_by()
    yield f"bulk_import_unsent_chunks {unsent.count()}"
    yield from head("bulk_import_dead_chunks", "Chunks that ran out of deliveries and were not redriven.")
    yield f"bulk_import_dead_chunks {ImportChunk.objects.dead().order_by().count()}"

    too_old = now - GIVE_UP_AFTER
    debts = {
        debt: ImportEvent.objects.filter(**{f"{debt}_due_at__isnull": False}).aggregate(
            owed=Count("pk", filter=Q(at__gt=too_old)), given_up=Count("pk", filter=Q(at__lte=too_old))
        )
        for debt in DEBTS
    }
    yield from head("bulk_import_owed", "What is yet to be taken, by its kind.")
    yield from (f'bulk_import_owed{{kind="{debt}"}} {counts["owed"]}' for debt, counts in debts.items())
    yield from head("bulk_import_given_up", "What nobody took in time, of events that are still kept.")
    yield from (f'bulk_import_given_up{{kind="{debt}"}} {counts["given_up"]}' for debt, counts in debts.items())


def head(name: str, meaning: str) -> Iterator[str]:
    """What goes before the samples of a gauge."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} gauge"
