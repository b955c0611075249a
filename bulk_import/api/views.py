"""The public API: start imports, follow and cancel them. `actions` and `downloads` have the other views.

To start or retry an import, a user needs the permissions of the create endpoint. The submitter of an import can follow
it without them. The docstrings of `get`, `post` and `delete` are the summaries and descriptions in the OpenAPI schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError as BadValue
from django.http import HttpResponse
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response

from bulk_import.api.configuration import check_is_configured
from bulk_import.api.downloads import attach
from bulk_import.api.parameters import (
    MAX_PAGE_SIZE,
    ImportOptions,
    JobFilter,
    PageOptions,
    job_mode,
    read_parameters,
)
from bulk_import.api.reading_parameters import reading_options
from bulk_import.api.target_view import SubmittingView, TargetView
from bulk_import.intake.accept import accept, dry_run
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.modes import check_may_import, check_supports
from bulk_import.intake.request_body import FileForm, UnreadBody, check_content_length, read_upload
from bulk_import.intake.validation_slots import reading
from bulk_import.models.window import note_imports_ahead
from bulk_import.operations import cancel
from bulk_import.reports.dry_run import BulkImportDryRunSerializer, error_table
from bulk_import.reports.failures import CSVRenderer
from bulk_import.reports.job import ImportJobSerializer, entity_tag, poll_after_seconds
from bulk_import.reports.links import template_path

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from bulk_import.intake.request_body import Upload
    from bulk_import.models import ImportJob


TEMPLATE_HELP = "`GET` downloads an empty table for imports: send `format=csv` or `format=xlsx`."


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

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        described: dict[str, Any] = super().get_paginated_response_schema(schema)
        described["properties"]["template"] = {"type": "string", "format": "uri", "description": TEMPLATE_HELP}
        described["required"] = [*described["required"], "template"]
        return described


class ImportJobsView(SubmittingView):
    """`/products/bulk`"""

    parser_classes = [FileForm, UnreadBody]
    renderer_classes = [JSONRenderer, CSVRenderer]  # a CSV is only for the errors of a dry run
    pagination_class = JobPagination
    query_parameters = {"POST": (ImportOptions,), "GET": (JobFilter, PageOptions)}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_content_length(request)  # before authentication, which may read the body to find a CSRF token
        super().initial(request, *args, **kwargs)

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        if request.method == "POST":
            check_may_import(self.target, request, job_mode(request.query_params))

    def post(self, request: Request, **_kwargs: Any) -> Any:
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
        if key and (job := find_job(self.target, request.user, key, upload.sha256)):
            return self.accepted(job.pk)
        if options["dry_run"]:
            return self.check(request, upload, mode, list_rows=options["rows"])
        new = accept(
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
        return self.accepted_new(new)

    def check(self, request: Request, upload: Upload, mode: str, *, list_rows: bool) -> Any:
        """Return the result of a dry run: JSON, or all errors as CSV if the client asks for it."""
        is_table = bool(request.accepted_renderer.format == CSVRenderer.format)
        result = dry_run(self.target, request, upload, mode, list_rows=list_rows or is_table)
        if not is_table:
            return Response(BulkImportDryRunSerializer(result).data)
        content = b"".join(error_table(result.errors, result.listed_rows or []))
        response = HttpResponse(content, content_type="text/csv; charset=utf-8")
        attach(response, f"{self.target.name}-errors.csv")
        return response

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
        response = pagination.get_paginated_response(documents)
        response.data["template"] = request.build_absolute_uri(template_path(self.target.name))
        return response


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
