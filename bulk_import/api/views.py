"""The public API: POST an import, GET the jobs, GET one, GET what was not created.

The views of a target authenticate like its create endpoint; POST asks its permissions, too. A job is its
submitter's own: for anybody else it does not exist.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import ValidationError as BadValue
from django.db import transaction
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from bulk_import.api.parameters import MAX_PAGE_SIZE, FailureOptions, ImportOptions, JobFilter, read_parameters
from bulk_import.conf import Target, conf
from bulk_import.errors import error_response
from bulk_import.intake.accept import accept
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.quotas import SubmissionThrottle, check_open_job_quota
from bulk_import.intake.request_body import FileForm, UnreadBody, check_content_length, read_upload
from bulk_import.intake.validation import ValidationResult, validate_rows
from bulk_import.models import ImportJob
from bulk_import.operations import cancel, redrive, retry
from bulk_import.reports.failures import (
    CSVRenderer,
    JSONLinesRenderer,
    as_rows,
    as_table,
    file_name,
    in_pieces,
    row_fields,
)
from bulk_import.reports.job import entity_tag, job_document, job_path, poll_after_seconds
from bulk_import.storage.failures import read_failure, read_failures
from bulk_import.tracing import request_log_context
from bulk_import_wire.logs import log_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request
    from rest_framework.throttling import BaseThrottle

MAX_INDEX_DIGITS = 10
"""As many as the largest index that a chunk can have."""


# An import is not one transaction: the payload goes to S3 before it, the messages to SQS after it.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class TargetView(APIView):
    """Base: knows its target, and authenticates like the target's create endpoint."""

    renderer_classes = [JSONRenderer]
    permission_classes = [IsAuthenticated]

    @property
    def target(self) -> Target:
        return conf().target(self.kwargs["target"])

    def is_configured(self) -> bool:
        return self.kwargs["target"] in conf().targets

    def get_authenticators(self) -> list[BaseAuthentication]:
        # DRF asks before it answers errors: that there is no such target is told by `initial`.
        return self.target.create_view().get_authenticators() if self.is_configured() else []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        with request_log_context(request), log_context(job_id=kwargs.get("job_id", "")):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not self.is_configured():
            raise Http404
        super().initial(request, *args, **kwargs)

    def get_exception_handler(self) -> Callable[..., Any]:
        return error_response

    def get_jobs(self) -> Any:
        """The jobs of this target that the user sent."""
        submitter = self.request.user.pk
        if submitter is None:  # a user object without a record; NULL would be the jobs of deleted users
            raise Http404
        jobs = ImportJob.objects.filter(target=self.target.name, submitter=submitter)
        return jobs.for_reports()

    def get_job(self, job_id: UUID | str) -> ImportJob:
        try:
            key = UUID(str(job_id))
        except ValueError:
            raise Http404 from None
        job: ImportJob = get_object_or_404(self.get_jobs(), pk=key)
        return job


class JobPagination(CursorPagination):
    """Newest first; a page stays what it was while new jobs come in."""

    ordering = ("-created_at", "-id")
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = MAX_PAGE_SIZE

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view=view)
        except (BadValue, OverflowError) as error:  # a cursor that we did not make: its position is no time
            raise NotFound(self.invalid_cursor_message) from error


class ImportJobsView(TargetView):
    """`POST /products/bulk`: rows become a job. `GET /products/bulk`: the user's own jobs, newest first."""

    parser_classes = [FileForm, UnreadBody]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_content_length(request)  # before anything reads the body, as a CSRF check does
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method == "POST":
            self.target.create_view(request).check_permissions(request)

    def get_throttles(self) -> list[BaseThrottle]:
        return [SubmissionThrottle()] if self.request.method == "POST" else []

    def post(self, request: Request, **_kwargs: Any) -> Response:
        options = read_parameters(ImportOptions, request)
        corrects = self.get_corrected_job(options)
        key = read_key(request.headers.get("Idempotency-Key"))
        upload = read_upload(request)
        if job := find_job(self.target, request.user, key, upload.sha256):
            return self.accepted(job.pk)
        if options["dry_run"]:
            return Response(dry_run_document(validate_rows(self.target, upload.rows, request)))
        job_id = accept(
            self.target,
            request,
            upload,
            idempotency_key=key,
            skip_invalid=options["on_invalid"] == "skip",
            corrects=corrects,
            notify=options["notify"],
        )
        return self.accepted(job_id)

    def get_corrected_job(self, options: dict[str, Any]) -> ImportJob | None:
        """The job that the client names with `corrects`. Raises NotFound unless it is the user's own."""
        if "corrects" not in options:
            return None
        try:
            return self.get_job(options["corrects"])
        except Http404:
            raise NotFound(_("You have no import with the id that `corrects` names.")) from None

    def accepted(self, job_id: UUID) -> Response:
        job = self.get_job(job_id)
        headers = {
            "Location": self.request.build_absolute_uri(job_path(job)),
            "Retry-After": str(poll_after_seconds(job)),
        }
        return Response(job_document(job, self.request), status=status.HTTP_202_ACCEPTED, headers=headers)

    def get(self, request: Request, **_kwargs: Any) -> Response:
        parameters = read_parameters(JobFilter, request)
        jobs = self.get_jobs().filter(**{name: parameters[name] for name in ("status",) if name in parameters})
        pagination = JobPagination()
        page: list[ImportJob] = pagination.paginate_queryset(jobs, request, view=self) or []
        return pagination.get_paginated_response([job_document(job, request) for job in page])


class ImportJobView(TargetView):
    """`GET /products/bulk/{id}`: the job, or 304 when it stands as the client knows it. `DELETE` cancels it."""

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> Any:
        job = self.get_job(job_id)
        document = job_document(job, request)
        etag = entity_tag(document)
        response = Response(document, headers={"ETag": etag})
        patch_vary_headers(response, ["Accept-Language", "Authorization", "Cookie"])
        answer: Any = get_conditional_response(request._request, etag=etag, response=response)  # noqa: SLF001 - DRF's own name for Django's request
        if not job.is_terminal:
            answer["Retry-After"] = str(poll_after_seconds(job))
        return answer

    def delete(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        cancel(self.get_job(job_id), actor=request.user)
        job = self.get_job(job_id)
        headers = {} if job.is_terminal else {"Retry-After": str(poll_after_seconds(job))}
        code = status.HTTP_200_OK if job.is_terminal else status.HTTP_202_ACCEPTED
        return Response(job_document(job, request), status=code, headers=headers)


class ReopenView(TargetView):
    """Base: rows of the job run again."""

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        self.target.create_view(request).check_permissions(request)

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        job = self.get_job(job_id)
        reopened = self.reopen(job, request)
        document = job_document(self.get_job(job.pk), request)
        return Response(document, status=status.HTTP_202_ACCEPTED if reopened else status.HTTP_200_OK)

    def reopen(self, job: ImportJob, request: Request) -> int:
        """Returns how many chunks run again."""
        raise NotImplementedError


class RetryView(ReopenView):
    """`POST /products/bulk/{id}/retry`: run again all that was not created."""

    def reopen(self, job: ImportJob, request: Request) -> int:
        if not (job.can_be_retried or job.expired):
            return 0
        check_open_job_quota(request.user)
        return retry(job, actor=request.user)


class RedriveView(ReopenView):
    """`POST /products/bulk/{id}/redrive`: run again what ended in the dead-letter queue."""

    def reopen(self, job: ImportJob, request: Request) -> int:
        return redrive(job, actor=request.user)


class FailuresView(TargetView):
    """`GET /products/bulk/{id}/failures`: the rows not created, with reasons, as JSON Lines or CSV."""

    renderer_classes = [JSONRenderer, JSONLinesRenderer, CSVRenderer]

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> StreamingHttpResponse:
        rows_only = "part" in read_parameters(FailureOptions, request)
        is_table = request.accepted_renderer.format == CSVRenderer.format
        job = self.get_job(job_id)
        lines = read_failures(job)
        if is_table:
            lines = as_table(lines, row_fields(self.target, request), rows_only=rows_only)
        elif rows_only:
            lines = as_rows(lines)
        pieces = in_pieces(lines)
        first = next(pieces, b"")  # a storage that is away is a 503, not a broken download
        response = StreamingHttpResponse(chain([first], pieces))
        response["Content-Type"] = "text/csv; charset=utf-8" if is_table else JSONLinesRenderer.media_type
        if is_table or rows_only:
            name = file_name(job, "csv" if is_table else "jsonl")
            response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=name)
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(response, Response):  # an error, or the answer to OPTIONS, whatever the download would have been
            request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)


class FailureView(TargetView):
    """`GET /products/bulk/{id}/failures/{index}`: one row that was not created, with reasons."""

    def get(self, request: Request, job_id: str, index: str, **_kwargs: Any) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        job = self.get_job(job_id)
        is_number = index.isascii() and index.isdecimal() and len(index) <= MAX_INDEX_DIGITS
        line = read_failure(job, int(index)) if is_number else None
        if line is None:
            raise Http404
        return HttpResponse(line, content_type=JSONRenderer.media_type)


def dry_run_document(verdicts: ValidationResult) -> dict[str, Any]:
    """What a submission would say of its rows; nothing was stored."""
    valid = verdicts.rows - verdicts.invalid_rows
    message = ngettext(
        "%(valid)d of %(rows)d row is valid. Nothing was imported: this was a dry run.",
        "%(valid)d of %(rows)d rows are valid. Nothing was imported: this was a dry run.",
        valid,
    )
    return {
        "message": message % {"valid": valid, "rows": verdicts.rows},
        "rows": verdicts.rows,
        "valid_rows": valid,
        "invalid_rows": verdicts.invalid_rows,
        "error_count": verdicts.error_count,
        "errors": verdicts.errors,
    }
