"""The results of a job: what became of each row, in the order of the upload.

The ledger knows the rows that were created, updated, unchanged or deleted, and the failures file of a chunk knows the
others. Both are read chunk by chunk, so that a job with very many rows takes no more memory than a chunk.

While a job runs, the results end before the first row whose outcome is not known yet. The ledger is up to date. The
other rows of a chunk are known when the chunk has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from django.db.models import F
from django.urls import NoReverseMatch
from django.utils.translation import gettext as _
from rest_framework import serializers

from bulk_import.conf import conf
from bulk_import.errors import BulkImportRowErrorSerializer
from bulk_import.exceptions import Expired
from bulk_import.models import TERMINAL_CHUNK_STATUSES, JobMode
from bulk_import.models.row import MAX_LOOKUP_CHARACTERS, line_at
from bulk_import.reports.cells import escape_cell
from bulk_import.reports.failures import ROW
from bulk_import.reports.problems import error_text
from bulk_import.reports.tables import table_lines
from bulk_import.storage.failures import check_failures_retained, read_failures_file
from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import read_failure_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.http import HttpRequest

    from bulk_import.conf import Target
    from bulk_import.models import ImportChunk, ImportJob

PAGE_CHUNKS = 50
"""Number of chunks that one query reads."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one row. `object_id` and `lookup` identify its object; None if unknown."""

    index: int
    line: int | None
    outcome: str
    object_id: str | None
    lookup: str | None
    errors: list[dict[str, Any]]


class ImportJobResultSerializer(serializers.Serializer[dict[str, Any]]):
    """What became of a row. It only describes the lines, which are written without it because that is faster."""

    index = serializers.IntegerField(min_value=0, help_text="0-based position of the row.")
    line = serializers.IntegerField(
        min_value=1, allow_null=True, help_text="Line of the row in a CSV or in JSON Lines, where 1 is the first line."
    )
    outcome = serializers.ChoiceField([str(outcome) for outcome in Outcome])
    id = serializers.CharField(
        allow_null=True, help_text="ID of the object that was created, changed or deleted, or that an undo kept."
    )
    url = serializers.URLField(allow_null=True, help_text="URL of the object.")
    lookup = serializers.CharField(allow_null=True, help_text="What identifies the object for people, such as its SKU.")
    errors: Any = BulkImportRowErrorSerializer(many=True)  # DRF's property `Serializer.errors` is not affected


def read_results(job: ImportJob, after: int = -1) -> Iterator[Result]:
    """Yield the results of the rows with a larger index than `after`, until a row has no outcome yet.

    Raises Expired and StorageUnavailable.
    """
    check_failures_retained(job)
    if "ledger" in job.expired:
        raise Expired(_("The results of this import are no longer kept."))
    if after >= job.rows:  # also keeps numbers that are too large for the columns out of the query
        return
    for chunk in _chunks(job, after):
        known = _known_results(job, chunk)
        for index in range(max(chunk.first_index, after + 1), chunk.first_index + chunk.row_count):
            result = known.get(index)
            if result is None and chunk.status not in TERMINAL_CHUNK_STATUSES:
                return
            # A dead chunk whose payload is lost has rows without a failure.
            yield result or Result(index, None, Outcome.UNPROCESSED, None, None, [])


def read_result(job: ImportJob, index: int) -> Result | None:
    """Return the result of one row; None if it has none yet or does not exist. Raises as `read_results` does."""
    return next(read_results(job, index - 1), None)


def _chunks(job: ImportJob, after: int) -> Iterator[ImportChunk]:
    """Yield the chunks that have rows with a larger index than `after`."""
    chunks = job.chunks.defer("row_hashes", "problems").filter(row_count__gt=after + 1 - F("first_index"))
    number = -1
    while page := list(chunks.filter(number__gt=number).order_by("number")[:PAGE_CHUNKS]):
        yield from page
        number = page[-1].number


def _known_results(job: ImportJob, chunk: ImportChunk) -> dict[int, Result]:
    """Return the results of the chunk's rows that have an outcome, by index."""
    is_undo = job.mode == JobMode.UNDO  # its rows are not those of the target, see `undo_line`
    lookup = "lookup" if is_undo else conf().target(job.target).lookup
    lines = chunk.read_lines()

    def line_of(index: int) -> int | None:
        return line_at(lines, index - chunk.first_index)

    known: dict[int, Result] = {}
    for failure, row in map(read_failure_line, _failure_lines(job, chunk)):
        index, outcome = failure["index"], failure["outcome"]
        # While the chunk is open, the next worker may still process the rows that the last one left.
        if outcome != Outcome.UNPROCESSED or chunk.status in TERMINAL_CHUNK_STATUSES:
            value = _text_of(row, lookup) if lookup else None
            object_id = _text_of(row, "id") if is_undo else None
            known[index] = Result(index, line_of(index), outcome, object_id, value, failure["errors"])
    # The ledger comes last, because it is right: a row that failed may have been created by a call of a retry.
    for index, outcome, object_id, value in chunk.imported_rows().values_list(
        "index", "outcome", "object_id", "lookup"
    ):
        known[index] = Result(index, line_of(index), outcome, object_id or None, value or None, [])
    return known


def _failure_lines(job: ImportJob, chunk: ImportChunk) -> Iterable[bytes]:
    return read_failures_file(job, chunk.failures_key) if chunk.failures_key else []


def _text_of(row: bytes, field: str) -> str | None:
    """Return the value of the lookup field, or of another one, in a row that was not created; None if it has none."""
    try:
        value = msgspec.json.decode(bytes(ROW.decode(row).get(field, b"null")))
    except msgspec.DecodeError:
        return None
    return str(value)[:MAX_LOOKUP_CHARACTERS] or None if isinstance(value, str | int) else None


def result_document(result: Result, url_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return the result as the API shows it. `url_of` is from `object_urls`."""
    has_object = result.object_id is not None and result.outcome != Outcome.DELETED
    return {
        "index": result.index,
        "line": result.line,
        "outcome": result.outcome,
        "id": result.object_id,
        "url": url_of(result.object_id) if has_object and result.object_id else None,
        "lookup": result.lookup,
        "errors": result.errors,
    }


def as_lines(results: Iterable[Result], url_of: Callable[[str], str | None]) -> Iterator[bytes]:
    """Yield the results as JSON Lines."""
    encode = msgspec.json.Encoder().encode
    for result in results:
        yield encode(result_document(result, url_of)) + b"\n"


def as_result_table(results: Iterable[Result], url_of: Callable[[str], str | None]) -> Iterator[bytes]:
    """Yield the results as the lines of a CSV for spreadsheets, the first of which has the headings."""
    headings = [_("index"), _("line"), _("outcome"), "id", "url", "lookup", _("reasons")]
    for text in table_lines(headings, (_record(result, url_of) for result in results)):
        yield text.encode()


def _record(result: Result, url_of: Callable[[str], str | None]) -> list[Any]:
    document = result_document(result, url_of)
    reasons = "; ".join(map(error_text, result.errors))
    texts = [document["id"], document["url"], document["lookup"], reasons]
    return [result.index, result.line, result.outcome, *(escape_cell(text or "") for text in texts)]


def object_urls(target: Target, request: HttpRequest) -> Callable[[str], str | None]:
    """Return a function that returns the absolute URL of an object, or None if the target has no such URLs."""
    endpoint = target.detail_endpoint
    site = request.build_absolute_uri("/").rstrip("/")

    def url_of(object_id: str) -> str | None:
        try:
            return site + endpoint.url(object_id) if endpoint else None
        except NoReverseMatch:
            return None

    return url_of
