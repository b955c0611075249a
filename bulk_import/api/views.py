"""The public API: start imports, follow them, retry and cancel them. The downloads are in `downloads`.

To start or retry an import, a user needs the permissions of the create endpoint. The submitter of an import can follow
it without them. The docstrings of `get`, `post` and `delete` are the summaries and descriptions in the OpenAPI schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError as BadValue
from django.db.models import Sum
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response

from bulk_import.api.configuration import check_is_configured
from bulk_import.api.parameters import (
    MAX_PAGE_SIZE,
    CorrectionOptions,
    ImportOptions,
    JobFilter,
    PageOptions,
    UndoOptions,
    job_mode,
    read_parameters,
)
from bulk_import.api.reading_parameters import reading_options
from bulk_import.api.target_view import TargetView
from bulk_import.intake.accept import accept, dry_run
from bulk_import.intake.corrections import correct, read_corrections
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.modes import check_may_import, check_supports
from bulk_import.intake.quotas import SubmissionThrottle, check_open_job_quota, check_retry_quota
from bulk_import.intake.request_body import FileForm, UnreadBody, check_content_length, read_upload
from bulk_import.intake.run import run
from bulk_import.intake.undo import undo
from bulk_import.intake.validation_slots import reading
from bulk_import.models import JobMode
from bulk_import.models.window import note_imports_ahead
from bulk_import.operations import cancel, redrive, resume_by_submitter, retry
from bulk_import.reports.dry_run import BulkImportDryRunSerializer
from bulk_import.reports.job import ImportJobSerializer, entity_tag, poll_after_seconds
from bulk_import.tracing import traceparent_of

if TYPE_CHECKING:
    from uuid import UUID

    from rest_framework.request import Request
    from rest_framework.throttling import BaseThrottle
    from rest_framework.views import APIView

    from bulk_import.models import ImportJob


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
            check_may_import(self.target, request, job_mode(request.query_params))

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
        mode = options["mode"]
        check_supports(self.target, mode, rehearse=options["rehearse"])
        corrects = self.get_corrected_job(options)
        key = read_key(request.headers.get("Idempotency-Key"))
        with reading.acquire(request.user):
            upload = read_upload(request, reading_options(options))
        if job := find_job(self.target, request.user, key, upload.sha256):
            return self.accepted(job.pk)
        if options["dry_run"]:
            return Response(BulkImportDryRunSerializer(dry_run(self.target, request, upload, mode)).data)
        job_id = accept(
            self.target,
            request,
            upload,
            mode=mode,
            idempotency_key=key,
            skip_invalid=options["on_invalid"] == "skip",
            rehearsal=options["rehearse"],
            corrects=corrects,
            notify=options.get("notify", ""),
        )
        return self.accepted(job_id)

    def get_corrected_job(self, options: dict[str, Any]) -> ImportJob | None:
        """Return the user's job with the ID in `corrects`, or None without this parameter. Raises NotFound."""
        if "corrects" not in options:
            return None
        try:
            return self.get_job(options["corrects"])
        except NotFound:
            raise NotFound(_("We could not find the import that `corrects` names.")) from None

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

    def get_job(self, job_id: UUID | str) -> ImportJob:
        """Return the user's job. Raises PermissionDenied if the user may no longer import its rows."""
        job = super().get_job(job_id)
        check_may_import(self.target, self.request, job.mode)
        return job

    def reopened(self, job: ImportJob, chunks: int) -> Response:
        """Return the job, and 202 if any chunks are processed now."""
        code = status.HTTP_202_ACCEPTED if chunks else status.HTTP_200_OK
        return Response(self.document(self.get_job(job.pk)), status=code)


class RunView(ReopenView):
    """`/products/bulk/{id}/run`"""

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Import the rows of a rehearsal

        The rows are not sent again. The response is the job that imports them: ask for it at `Location`. A second
        request returns the same job.
        """
        check_is_configured()
        return self.accepted(run(self.get_job(job_id), traceparent=traceparent_of(request)))


class CorrectView(ReopenView):
    """`/products/bulk/{id}/correct`"""

    parser_classes = [UnreadBody]
    query_parameters = {"POST": (CorrectionOptions,)}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_content_length(request)
        super().initial(request, *args, **kwargs)

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Correct rows, and send them again

        The new job has all rows of a rehearsal, or the rows that an import did not import, with these corrections. The
        file is not sent again. A request with the same `Idempotency-Key` and the same content returns the same job.
        """
        check_is_configured()
        options = read_parameters(CorrectionOptions, request)
        job = self.get_job(job_id)
        check_supports(self.target, job.mode, rehearse=options["rehearse"])
        key = read_key(request.headers.get("Idempotency-Key"))
        with reading.acquire(request.user):
            corrections = read_corrections(request, job)
        if existing := find_job(self.target, request.user, key, corrections.sha256):
            return self.accepted(existing.pk)
        new_id = correct(
            self.target,
            request,
            corrections,
            idempotency_key=key,
            skip_invalid=options["on_invalid"] == "skip",
            rehearsal=options["rehearse"],
        )
        return self.accepted(new_id)


class UndoView(TargetView):
    """`/products/bulk/{id}/undo`"""

    query_parameters = {"POST": (UndoOptions,)}

    def get_throttles(self) -> list[BaseThrottle]:
        return [SubmissionThrottle()] if self.request.method == "POST" else []

    def post(self, request: Request, job_id: str, **_kwargs: Any) -> Response:
        """Delete what an import created

        The response is a job that deletes each created object, unless the object has changed since: ask for it at
        `Location`. Objects that the import only changed are listed as not undone. While the undo runs, a second
        request returns the same job.
        """
        check_is_configured()
        rehearsal = read_parameters(UndoOptions, request)["rehearse"]
        job = self.get_job(job_id)
        check_supports(self.target, JobMode.UNDO, rehearse=rehearsal)
        check_may_import(self.target, request, JobMode.UNDO)
        trace, host = traceparent_of(request), request.get_host()
        return self.accepted(undo(self.target, job, rehearsal=rehearsal, traceparent=trace, host=host))


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
        check_retry_quota(request.user, job.rows - job.done_count)
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
