"""The public API: start imports, follow them, and read the rows that were not created.

To start or retry an import, a user needs the permissions of the create endpoint. The submitter of an import can follow
it without them. The docstrings of `get`, `post` and `delete` are the summaries and descriptions in the OpenAPI schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError as BadValue
from django.db.models import Sum
from django.http import HttpResponse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from bulk_import.api.configuration import check_is_configured
from bulk_import.api.parameters import (
    MAX_PAGE_SIZE,
    FailureOptions,
    ImportOptions,
    JobFilter,
    PageOptions,
    read_parameters,
)
from bulk_import.api.reading_parameters import reading_options
from bulk_import.api.streaming import read_ahead, streaming_response
from bulk_import.api.target_view import TargetView
from bulk_import.intake.accept import accept, dry_run
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.quotas import SubmissionThrottle, check_open_job_quota, check_retry_quota
from bulk_import.intake.request_body import FileForm, UnreadBody, check_content_length, read_upload
from bulk_import.intake.validation_slots import reading
from bulk_import.models.window import note_imports_ahead
from bulk_import.operations import cancel, redrive, resume_by_submitter, retry
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.failures import (
    CSVRenderer,
    JSONLinesRenderer,
    as_rows,
    as_table,
    file_name,
    in_pieces,
    row_fields,
)
from bulk_import.reports.job import (
    ImportJobAcceptedSerializer,
    ImportJobSerializer,
    entity_tag,
    job_path,
    poll_after_seconds,
)
from bulk_import.storage.failures import read_failure, read_failures

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import StreamingHttpResponse
    from rest_framework.request import Request
    from rest_framework.throttling import BaseThrottle
    from rest_framework.views import APIView

    from bulk_import.models import ImportJob

MAX_INDEX_DIGITS = 10
"""Length of the largest row index that the database can store.

An index with more digits is not converted to a number, because Python raises an error for thousands of digits.
"""


class JobPagination(CursorPagination):
    """Pages of jobs, newest first. New jobs do not shift the rows of the next page."""

    ordering = ("-created_at", "-id")
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view=view)
        except (BadValue, OverflowError) as error:  # a forged cursor, whose position is not a time
            raise NotFound(self.invalid_cursor_message) from error


class ImportJobsView(TargetView):
    """`/products/bulk`"""

    parser_classes = [FileForm, UnreadBody]
    pagination_class = JobPagination
    query_parameters = {"POST": (ImportOptions,), "GET": (JobFilter, PageOptions)}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_content_length(request)  # before authentication, which may read the body to find a CSRF token
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method == "POST":
            self.target.create_view(request).check_permissions(request)

    def get_throttles(self) -> list[BaseThrottle]:
        return [SubmissionThrottle()] if self.request.method == "POST" else []

    def post(self, request: Request, **_kwargs: Any) -> Response:
        """Import many rows

        The rows are validated and stored. Then they are created one by one in the background. The response is a job:
        ask for it at `Location`, every `Retry-After` seconds. A request with the same `Idempotency-Key` and the same
        content returns the same job.
        """
        check_is_configured()
        options = read_parameters(ImportOptions, request)
        corrects = self.get_corrected_job(options)
        key = read_key(request.headers.get("Idempotency-Key"))
        with reading.acquire(request.user):
            upload = read_upload(request, reading_options(options))
        if job := find_job(self.target, request.user, key, upload.sha256):
            return self.accepted(job.pk)
        if options["dry_run"]:
            return Response(BulkImportDryRunSerializer(dry_run(self.target, request, upload)).data)
        job_id, reading_report = accept(
            self.target,
            request,
            upload,
            idempotency_key=key,
            skip_invalid=options["on_invalid"] == "skip",
            corrects=corrects,
            notify=options.get("notify", ""),
        )
        return self.accepted(job_id, reading_report)

    def get_corrected_job(self, options: dict[str, Any]) -> ImportJob | None:
        """Return the user's job with the ID in `corrects`, or None without this parameter. Raises NotFound."""
        if "corrects" not in options:
            return None
        try:
            return self.get_job(options["corrects"])
        except NotFound:
            raise NotFound(_("We could not find the import that `corrects` names.")) from None

    def accepted(self, job_id: UUID, reading_report: dict[str, Any] | None = None) -> Response:
        job = self.get_job(job_id)
        headers = {
            "Location": self.request.build_absolute_uri(job_path(job)),
            "Retry-After": str(poll_after_seconds(job)),
        }
        context = {"request": self.request, "reading": reading_report}
        document = ImportJobAcceptedSerializer(job, context=context).data
        return Response(document, status=status.HTTP_202_ACCEPTED, headers=headers)

    def get(self, request: Request, **_kwargs: Any) -> Response:
        """List your imports, newest first"""
        parameters = read_parameters(JobFilter, request)
        jobs = self.get_jobs().filter(**{name: parameters[name] for name in ("status",) if name in parameters})
        pagination = self.pagination_class()
        page: list[ImportJob] = pagination.paginate_queryset(jobs, request, view=self) or []
        note_imports_ahead(page)
        documents = ImportJobSerializer(page, many=True, context={"request": request}).data
        return pagination.get_paginated_response(documents)


class ImportJobView(TargetView):
    """`/products/bulk/{id}`"""

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> Any:
        """Retrieve an import

        Send the last `ETag` as `If-None-Match` to get a 304 without a body while nothing has changed.
        """
        job = self.get_job(job_id)
        document = self.document(job)
        etag = entity_tag(document)
        response = Response(document, headers={"ETag": etag})
        patch_vary_headers(response, ["Accept-Language", "Authorization", "Cookie"])
        answer: Any = get_conditional_response(request._request, etag=etag, response=response)  # noqa: SLF001 - DRF's own name for Django's request
        if not job.is_terminal:
            answer["Retry-After"] = str(poll_after_seconds(job))
        return answer

    def delete(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Cancel an import

        No more rows are created. Rows that have been created stay. The others become `unprocessed` and can be
        retried.
        """
        cancel(self.get_job(job_id), actor=request.user)
        job = self.get_job(job_id)
        headers = {} if job.is_terminal else {"Retry-After": str(poll_after_seconds(job))}
        code = status.HTTP_200_OK if job.is_terminal else status.HTTP_202_ACCEPTED
        return Response(self.document(job), status=code, headers=headers)


class ReopenView(TargetView):
    """Base of the views that start to process rows of a job again."""

    def get_throttles(self) -> list[BaseThrottle]:
        return [SubmissionThrottle()] if self.request.method == "POST" else []

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        self.target.create_view(request).check_permissions(request)

    def reopened(self, job: ImportJob, chunks: int) -> Response:
        """Return the job, and 202 if any chunks are processed now."""
        code = status.HTTP_202_ACCEPTED if chunks else status.HTTP_200_OK
        return Response(self.document(self.get_job(job.pk)), status=code)


class RetryView(ReopenView):
    """`/products/bulk/{id}/retry`"""

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Retry every row that was not created

        Use this when the cause was not in the rows and has been fixed. It works on an import that has ended. Rows
        that have been created stay as they are.
        """
        job = self.get_job(job_id)
        if not (job.can_be_retried or job.expired):  # `retry` raises Expired for a job that has expired
            return self.reopened(job, 0)
        check_open_job_quota(request.user)
        check_retry_quota(request.user, job.rows - job.created_count)
        return self.reopened(job, retry(job, actor=request.user))


class RedriveView(ReopenView):
    """`/products/bulk/{id}/redrive`"""

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Retry the rows with the code `dead_letter`

        These are the rows of the parts of an import that could not be processed, even after several attempts. It
        also works while the other parts are being processed. Rows that were rejected or failed stay as they are.
        """
        job = self.get_job(job_id)
        check_retry_quota(request.user, job.chunks.dead().aggregate(rows=Sum("unprocessed", default=0))["rows"])
        return self.reopened(job, redrive(job, actor=request.user))


class ResumeView(ReopenView):
    """`/products/bulk/{id}/resume`"""

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Resume an import that was paused because nearly every row failed

        Use this when the cause has been fixed, or to try the other rows in any case. The import is not paused for this
        reason again. The rows that failed can be retried when the import has ended.
        """
        job = self.get_job(job_id)
        return self.reopened(job, resume_by_submitter(job, actor=request.user))


class FailuresView(TargetView):
    """`/products/bulk/{id}/failures`"""

    renderer_classes = [JSONRenderer, JSONLinesRenderer, CSVRenderer]
    query_parameters = {"GET": (FailureOptions,)}

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> StreamingHttpResponse:
        """Download the rows that were not created

        The rows are in the order in which they were sent. A CSV, and the rows alone, can be corrected and sent again.
        """
        rows_only = "part" in read_parameters(FailureOptions, request)
        is_table = request.accepted_renderer.format == CSVRenderer.format
        job = self.get_job(job_id)
        lines = read_failures(job)
        if is_table:
            lines = as_table(lines, row_fields(self.target, request), rows_only=rows_only)
        elif rows_only:
            lines = as_rows(lines)
        pieces = read_ahead(in_pieces(lines))
        response = streaming_response(request._request, pieces)  # noqa: SLF001 - DRF's own name for Django's request
        response["Content-Type"] = "text/csv; charset=utf-8" if is_table else JSONLinesRenderer.media_type
        if is_table or rows_only:
            name = file_name(job, "csv" if is_table else "jsonl")
            response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=name)
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        # A DRF response is an error or the response to OPTIONS. It is JSON, whatever format the client asked for.
        if isinstance(response, Response):
            request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


class FailureView(TargetView):
    """`/products/bulk/{id}/failures/{index}`"""

    def get(self, request: Request, job_id: str, index: str, **_kwargs: Any) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        """Retrieve one row that was not created"""
        job = self.get_job(job_id)
        is_number = index.isascii() and index.isdecimal() and len(index) <= MAX_INDEX_DIGITS
        line = read_failure(job, int(index)) if is_number else None
        if line is None:
            raise NotFound(_("There is no failed row with this index."))
        return HttpResponse(line, content_type=JSONRenderer.media_type)
