"""The chunks on the page of a job: problems first, with paging over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, Q, Value, When
from django.utils.translation import gettext as _

from bulk_import.models import ChunkStatus
from bulk_import.models.chunk_columns import IS_LOST
from bulk_import.reports.messages import clock_time

if TYPE_CHECKING:
    from bulk_import.models import ImportChunk, ImportJob

PAGE_CHUNKS = 50
"""Number of chunks on one page."""

DEAD, LOST, FAILING, PROCESSING, WAITING, DONE_WITH_FAILURES, DONE = range(7)
"""The ranks of chunks, in the order in which the page shows them."""

RANK = Case(
    When(status=ChunkStatus.DEAD, then=Value(DEAD)),
    When(IS_LOST, then=Value(LOST)),
    When(Q(failed_deliveries__gt=0) & ~Q(status=ChunkStatus.DONE), then=Value(FAILING)),
    When(Q(failed__gt=0) | Q(unprocessed__gt=0), then=Value(DONE_WITH_FAILURES)),
    When(status=ChunkStatus.PROCESSING, then=Value(PROCESSING)),
    When(~Q(status=ChunkStatus.DONE), then=Value(WAITING)),
    default=Value(DONE),
    output_field=IntegerField(),
)
"""SQL of the rank of a chunk."""


def chunk_page(job: ImportJob, number: str | None) -> dict[str, Any]:
    """Return the context of one page of chunks. A `number` that is no page becomes the nearest one."""
    ranked = job.chunks.annotate(rank=RANK).order_by("rank", "number")
    page: Any = Paginator(ranked, PAGE_CHUNKS).get_page(number)
    return {"chunk_page": page, "chunks": [(chunk, state(job, chunk), chunk.rank == LOST) for chunk in page]}


def state(job: ImportJob, chunk: ImportChunk) -> str:
    """Return the status of a chunk from `chunk_page`, in words that agree with the status of its job."""
    rank: int = chunk.rank  # type: ignore[attr-defined] # annotated by `chunk_page`
    if rank == LOST:
        if chunk.status == ChunkStatus.PROCESSING and not job.is_paused and chunk.resumes_at:
            return _("worker lost, resumes at %(time)s") % {"time": clock_time(chunk.resumes_at)}
        return _("worker lost, waits for the next one")
    if chunk.status == ChunkStatus.PROCESSING and job.is_being_cancelled:
        return _("being cancelled")
    return str(ChunkStatus(chunk.status).label)
