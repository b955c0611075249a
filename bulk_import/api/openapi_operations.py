"""The parts of the OpenAPI schema that cannot be derived from the views: names, statuses and headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter
from rest_framework.renderers import JSONRenderer

from bulk_import.api.parameters import (
    CorrectionOptions,
    FailureOptions,
    ImportOptions,
    JobFilter,
    ResultOptions,
    TemplateOptions,
    UndoOptions,
)
from bulk_import.intake.formats import XLSX
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.failures import CSVRenderer, ImportJobFailureSerializer, JSONLinesRenderer
from bulk_import.reports.job import ImportJobSerializer
from bulk_import.reports.results import ImportJobResultSerializer

Schema = dict[str, Any]
HEADER: Final = "header"
JSON, NDJSON, CSV = JSONRenderer.media_type, JSONLinesRenderer.media_type, CSVRenderer.media_type
STRING: Schema = {"type": "string"}
SECONDS: Schema = {"type": "integer", "minimum": 1}

ERRORS = {
    400: "`invalid_rows`: The request or its rows are not valid. Nothing was imported.",
    401: "`not_authenticated`: The credentials are missing or wrong.",
    403: "`permission_denied`: The user is not allowed to do this. `no_user`: The credentials belong to no user.",
    404: "`not_found`: We could not find this import, page or row.",
    409: "`import_not_ended`: The job has not ended yet. `sent_again`: Another import has its rows.",
    410: "`expired`: The rows or failures are no longer kept. See `expires_at` of the job.",
    411: "`length_required`: A form needs a Content-Length.",
    413: "`body_too_large`: The body, a row or the number of rows is over a limit.",
    415: "`unsupported_media_type`: We do not accept this format or content encoding.",
    422: "`idempotency_key_reused`: The Idempotency-Key was used for other content.",
    429: "`quota_exceeded`: Too many requests, open imports or rows. Try again after Retry-After seconds.",
    503: "`unavailable`: Our storage is not available. Try again after Retry-After seconds.",
}
"""What each status of an error means, with the most common code."""

PATH_PARAMETERS = (
    OpenApiParameter("job_id", UUID, "path", description="`id` of the job."),
    OpenApiParameter("index", {"type": "integer", "minimum": 0}, "path", description="0-based position of the row."),
)


def response_header(
    name: str, description: str, statuses: list[int], schema: Schema = STRING, *, required: bool = True
) -> OpenApiParameter:
    return OpenApiParameter(
        name, schema, HEADER, required=required, description=description, response=cast("Any", statuses)
    )


def retry_after(*statuses: int, required: bool = True) -> OpenApiParameter:
    description = "Seconds until the next request."
    return response_header("Retry-After", description, list(statuses), SECONDS, required=required)


@dataclass(frozen=True, slots=True)
class Operation:
    """The parts of the schema that cannot be derived from a view, for one of its methods."""

    name: str
    """Last part of the operation's ID."""
    answers: dict[int, tuple[Any, str]]
    """Serializer or schema, and description, by status."""
    errors: list[int]
    parameters: list[Any] = field(default_factory=list)
    """Headers, and the serializer of the query parameters."""
    media_types: tuple[str, ...] = (JSON,)
    """Formats of the responses. Errors are always JSON."""


REOPENED = {
    200: (ImportJobSerializer, "There are no such rows. Nothing changed."),
    202: (ImportJobSerializer, "The rows are processed again."),
}

OPERATIONS = {
    ("ImportJobsView", "GET"): Operation(
        "list", {200: (ImportJobSerializer(many=True), "")}, [400, 401, 403, 404], [JobFilter]
    ),
    ("ImportJobsView", "POST"): Operation(
        "create",
        {
            200: (BulkImportDryRunSerializer, "With `dry_run`: the result. Nothing was stored."),
            202: (ImportJobSerializer, "The rows are stored and will be created."),
        },
        [400, 401, 403, 404, 411, 413, 415, 422, 429, 503],
        [
            ImportOptions,
            OpenApiParameter("Content-Encoding", str, HEADER, enum=["identity", "gzip"], description="Not for forms."),
            OpenApiParameter(
                "Content-Disposition",
                str,
                HEADER,
                description='`attachment; filename="products.csv"`: the file\'s name, by which people find the import.',
            ),
            response_header("Location", "The job.", [202], {**STRING, "format": "uri"}),
            retry_after(202, 429, 503),
        ],
    ),
    ("TemplateView", "GET"): Operation(
        "template",
        {200: (STRING, "A table with one example row: a CSV, or a workbook with drop-down lists.")},
        [400, 401, 403, 404],
        [
            TemplateOptions,
            response_header("Content-Disposition", "File name.", [200]),
        ],
        media_types=(CSV, XLSX),
    ),
    ("ImportJobView", "GET"): Operation(
        "retrieve",
        {200: (ImportJobSerializer, "The job."), 304: (None, "The job has not changed since your ETag.")},
        [400, 401, 403, 404],
        [
            OpenApiParameter("If-None-Match", str, HEADER, description="The last ETag."),
            response_header("ETag", "Changes when the job changes.", [200, 304]),
            retry_after(200, 304, required=False),
        ],
    ),
    ("ImportJobView", "DELETE"): Operation(
        "cancel",
        {
            200: (ImportJobSerializer, "The import had already ended. Nothing changed."),
            202: (ImportJobSerializer, "The import ends when the calls in flight have returned."),
        },
        [400, 401, 403, 404],
        [retry_after(202)],
    ),
    ("RunView", "POST"): Operation(
        "run",
        {202: (ImportJobSerializer, "The import of the rows. A repeated request gets the same one.")},
        [400, 401, 403, 404, 409, 410, 413, 429, 503],
        [response_header("Location", "The job.", [202], {**STRING, "format": "uri"}), retry_after(202, 429, 503)],
    ),
    ("CorrectView", "POST"): Operation(
        "correct",
        {202: (ImportJobSerializer, "The job that sends the rows again.")},
        [400, 401, 403, 404, 409, 410, 413, 415, 422, 429, 503],
        [
            CorrectionOptions,
            OpenApiParameter("Content-Encoding", str, HEADER, enum=["identity", "gzip"]),
            response_header("Location", "The job.", [202], {**STRING, "format": "uri"}),
            retry_after(202, 429, 503),
        ],
    ),
    ("UndoView", "POST"): Operation(
        "undo",
        {202: (ImportJobSerializer, "The undo. While it runs, a repeated request gets the same one.")},
        [400, 401, 403, 404, 409, 410, 413, 429, 503],
        [
            UndoOptions,
            response_header("Location", "The job.", [202], {**STRING, "format": "uri"}),
            retry_after(202, 429, 503),
        ],
    ),
    ("RetryView", "POST"): Operation("retry", REOPENED, [400, 401, 403, 404, 409, 410, 429], [retry_after(429)]),
    ("RedriveView", "POST"): Operation("redrive", REOPENED, [400, 401, 403, 404, 409, 410, 429], [retry_after(429)]),
    ("ResumeView", "POST"): Operation(
        "resume",
        {
            200: (ImportJobSerializer, "You cannot resume the import, because it is not paused for this reason."),
            202: (ImportJobSerializer, "The import continues."),
        },
        [400, 401, 403, 404, 429],
        [retry_after(429)],
    ),
    ("FailuresView", "GET"): Operation(
        "failures",
        {200: (STRING, "JSON Lines, or a CSV for spreadsheets.")},
        [400, 401, 403, 404, 410, 503],
        [
            FailureOptions,
            OpenApiParameter("format", str, enum=["ndjson", "csv"], description="Instead of `Accept`."),
            response_header("Content-Disposition", "File name. Only for CSV or `part=rows`.", [200], required=False),
            retry_after(503),
        ],
        media_types=(NDJSON, CSV),
    ),
    ("ResultsView", "GET"): Operation(
        "results",
        {200: (STRING, "JSON Lines, or a CSV for spreadsheets. `ImportJobResult` describes a line.")},
        [400, 401, 403, 404, 410, 503],
        [
            ResultOptions,
            OpenApiParameter("format", str, enum=["ndjson", "csv"], description="Instead of `Accept`."),
            response_header("Content-Disposition", "File name. Only for CSV.", [200], required=False),
            retry_after(503),
        ],
        media_types=(NDJSON, CSV),
    ),
    ("ResultView", "GET"): Operation(
        "result",
        {200: (ImportJobResultSerializer, "What became of the row.")},
        [400, 401, 403, 404, 410, 503],
        [retry_after(503)],
    ),
    ("FailureView", "GET"): Operation(
        "failure",
        {200: (ImportJobFailureSerializer, "The row and the reasons.")},
        [400, 401, 403, 404, 410, 503],
        [retry_after(503)],
    ),
}
"""The operations of the API. The key is the class and the method of the view."""
