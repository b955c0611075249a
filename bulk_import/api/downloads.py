"""The downloads of the public API: the rows that were not created, what became of each row, and a template.

A list of rows is streamed, so that a job with very many rows takes no more memory than one with few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import get_valid_filename
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import clone_request

from bulk_import.api.parameters import FailureOptions, ResultOptions, TemplateOptions, read_parameters
from bulk_import.api.target_view import TargetView
from bulk_import.intake.formats import XLSX
from bulk_import.intake.modes import check_may_import
from bulk_import.intake.spreadsheets.template import csv_template, template_columns, xlsx_template
from bulk_import.models import JobMode
from bulk_import.reports.failures import (
    CSVRenderer,
    JSONLinesRenderer,
    as_rows,
    file_name,
    in_pieces,
    job_table,
)
from bulk_import.reports.results import as_lines, as_result_table, object_urls, read_result, read_results
from bulk_import.storage.failures import read_failure, read_failures
from bulk_import.streaming import read_ahead, streaming_response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import StreamingHttpResponse
    from django.http.response import HttpResponseBase
    from rest_framework.request import Request

MAX_INDEX_DIGITS = 10
"""Length of the largest row index that the database can store.

An index with more digits is not converted to a number, because Python raises an error for thousands of digits.
"""


class XLSXRenderer(BaseRenderer):
    """Lets a client ask for a workbook; see `CSVRenderer`."""

    media_type = XLSX
    format = "xlsx"


class TemplateView(TargetView):
    """`/products/bulk/template`"""

    renderer_classes = [CSVRenderer, XLSXRenderer, JSONRenderer]  # errors are JSON
    query_parameters = {"GET": (TemplateOptions,)}

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        check_may_import(self.target, clone_request(request, "POST"), JobMode.UPSERT)

    def get(self, request: Request, **_kwargs: Any) -> HttpResponse:
        """Download a template for imports

        A table with a column for each field, in the language of the request, and an example row. Required fields are
        marked with `*`. The workbook has drop-down lists. You can fill in the template and send it as it is.
        """
        read_parameters(TemplateOptions, request)  # the negotiation takes an empty format for none
        columns = template_columns(self.target, request)
        is_workbook = request.accepted_renderer.format == XLSXRenderer.format
        content = xlsx_template(columns) if is_workbook else csv_template(columns)
        response = HttpResponse(content, content_type=XLSX if is_workbook else "text/csv; charset=utf-8")
        attach(response, f"{self.target.name}-template.{'xlsx' if is_workbook else 'csv'}")
        return response


class DownloadView(TargetView):
    """Base of the views that stream rows as JSON Lines or CSV."""

    renderer_classes = [JSONRenderer, JSONLinesRenderer, CSVRenderer]

    @property
    def is_table(self) -> bool:
        """Whether the client asked for CSV."""
        return bool(self.request.accepted_renderer.format == CSVRenderer.format)

    def stream(self, lines: Iterable[bytes]) -> StreamingHttpResponse:
        """Return a response with these lines. Exceptions before the first line are raised now."""
        response = streaming_response(self.request._request, read_ahead(in_pieces(lines)))  # noqa: SLF001 - DRF's own name for Django's request
        response["Content-Type"] = "text/csv; charset=utf-8" if self.is_table else JSONLinesRenderer.media_type
        return response


class FailuresView(DownloadView):
    """`/products/bulk/{id}/failures`"""

    query_parameters = {"GET": (FailureOptions,)}

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> StreamingHttpResponse:
        """Download the rows that were not created

        The rows are in the order in which they were sent. A CSV, and the rows alone, can be corrected and sent again.
        """
        rows_only = "part" in read_parameters(FailureOptions, request)
        job = self.get_job(job_id)
        lines = read_failures(job)
        if self.is_table:
            lines = job_table(job, lines, request, rows_only=rows_only)
        elif rows_only:
            lines = as_rows(lines)
        response = self.stream(lines)
        if self.is_table or rows_only:
            attach(response, file_name(job, "failures", "csv" if self.is_table else "jsonl"))
        return response


class FailureView(TargetView):
    """`/products/bulk/{id}/failures/{index}`"""

    def get(self, request: Request, job_id: str, index: str, **_kwargs: Any) -> HttpResponse:  # noqa: ARG002 - DRF's signature
        """Retrieve one row that was not created"""
        job = self.get_job(job_id)
        line = read_failure(job, int(index)) if is_index(index) else None
        if line is None:
            raise NotFound(_("There is no failed row with this index."))
        return HttpResponse(line, content_type=JSONRenderer.media_type)


class ResultsView(DownloadView):
    """`/products/bulk/{id}/results`"""

    query_parameters = {"GET": (ResultOptions,)}

    def get(self, request: Request, job_id: str, **_kwargs: Any) -> StreamingHttpResponse:
        """Download what became of each row

        One line per row, in the order in which the rows were sent. While the import runs, the results end before the
        first row without an outcome. To continue, send the index of the last line as `after`.
        """
        options = read_parameters(ResultOptions, request)
        job = self.get_job(job_id)
        results = read_results(job, options.get("after", -1))
        if "outcome" in options:
            results = (result for result in results if result.outcome == options["outcome"])
        write = as_result_table if self.is_table else as_lines
        response = self.stream(write(results, object_urls(self.target, request)))
        if self.is_table:
            attach(response, file_name(job, "results", "csv"))
        return response


class ResultView(TargetView):
    """`/products/bulk/{id}/results/{index}`"""

    def get(self, request: Request, job_id: str, index: str, **_kwargs: Any) -> HttpResponse:
        """Retrieve what became of one row"""
        job = self.get_job(job_id)
        result = read_result(job, int(index)) if is_index(index) else None
        if result is None:
            raise NotFound(_("There is no row with this index, or it has no result yet."))
        (line,) = as_lines([result], object_urls(self.target, request))
        return HttpResponse(line, content_type=JSONRenderer.media_type)


def is_index(text: str) -> bool:
    """Return whether a part of the URL can be the index of a row."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_INDEX_DIGITS


def attach(response: HttpResponseBase, name: str) -> None:
    """Let the browser save the response under this name, without the characters that file names cannot have."""
    disposition = content_disposition_header(as_attachment=True, filename=get_valid_filename(name))
    response["Content-Disposition"] = disposition
