"""The downloads on the page of a job: its rows, results and failures, as JSON Lines or CSV.

Staff need the permission `download_rows`, and each download is recorded in the admin's history.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, StreamingHttpResponse
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from bulk_import.admin.actions import ActionViews
from bulk_import.conf import conf
from bulk_import.exceptions import Expired, StorageUnavailable
from bulk_import.reports.failures import file_name, job_table
from bulk_import.reports.results import as_lines, as_result_table, object_urls, read_results
from bulk_import.storage.failures import read_failures
from bulk_import.storage.payloads import read_payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from bulk_import.models import ImportJob

CONTENT_TYPES = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}

HISTORY = {
    "payload": _("Downloaded the rows as they were sent."),
    "failures": _("Downloaded the rows that were not created."),
    "results": _("Downloaded the results."),
}
"""What the admin's history says about each kind of download."""

LABELS = {
    "payload": (_("Rows as they were sent"), ["jsonl"], {"payload"}),
    "failures": (_("Rows that were not created"), ["csv", "jsonl"], {"failures"}),
    "results": (_("Results"), ["csv", "jsonl"], {"failures", "ledger"}),
}
"""The label of each kind, its formats, and the data without which it cannot be downloaded."""


WITHOUT_TARGET = {("payload", "jsonl"), ("failures", "jsonl")}
"""The downloads that do not need the target of the import, which the settings may no longer have."""


def downloads(job: ImportJob, request: HttpRequest) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the label of each download that is possible, with the name and URL of each format."""
    if not request.user.has_perm("bulk_import.download_rows"):
        return []
    has_target = job.target in conf().targets
    return [
        (
            str(label),
            [
                (suffix.upper(), reverse(f"admin:bulk_import_importjob_{kind}", args=[job.pk]) + f"?as={suffix}")
                for suffix in formats
                if has_target or (kind, suffix) in WITHOUT_TARGET
            ],
        )
        for kind, (label, formats, needed) in LABELS.items()
        if not needed & job.expired.keys() and (has_target or kind != "results")
    ]


def lines_of(job: ImportJob, kind: str, suffix: str, request: HttpRequest) -> Iterator[bytes]:
    """Yield the lines of a download. Raises Expired, StorageUnavailable, and Http404 without a target for it."""
    if (kind, suffix) in WITHOUT_TARGET:
        return read_payload(job) if kind == "payload" else read_failures(job)
    if job.target not in conf().targets:
        raise Http404
    if kind == "failures":
        api_request = Request(request)
        api_request.user = request.user
        return job_table(job, read_failures(job), api_request)
    write = as_result_table if suffix == "csv" else as_lines
    return write(read_results(job), object_urls(conf().target(job.target), request))


class DownloadViews(ActionViews):
    """The views behind the download links on the page of an import."""

    def download_failures(self, request: HttpRequest, job_id: Any) -> HttpResponseBase:
        return self.download(request, job_id, "failures")

    def download_payload(self, request: HttpRequest, job_id: Any) -> HttpResponseBase:
        return self.download(request, job_id, "payload")

    def download_results(self, request: HttpRequest, job_id: Any) -> HttpResponseBase:
        return self.download(request, job_id, "results")

    def download(self, request: HttpRequest, job_id: Any, kind: str) -> HttpResponseBase:
        """Return a file in the format of the parameter `as`, and record the download in the admin's history.

        If the data cannot be read, redirect to the page of the job and show the reason there. The first lines are read
        before the response starts, because a streaming response can no longer become a redirect.
        """
        job = self.get_job(request, job_id)
        if not request.user.has_perm("bulk_import.download_rows"):
            raise PermissionDenied
        suffix = request.GET.get("as", "jsonl")
        if suffix not in LABELS[kind][1]:
            raise Http404
        try:
            lines = lines_of(job, kind, suffix, request)
            # The first line of a CSV has the headings, so the second one is the first that reads the storage.
            first = [line for _number, line in zip(range(2), lines, strict=False)]
        except (Expired, StorageUnavailable) as error:
            self.message_user(request, str(error), messages.ERROR)
            return self.redirect_to(job)
        self.log_change(request, job, str(HISTORY[kind]))
        name = content_disposition_header(as_attachment=True, filename=file_name(job, kind, suffix))
        headers = {"Content-Disposition": str(name)}
        return StreamingHttpResponse(chain(first, lines), content_type=CONTENT_TYPES[suffix], headers=headers)
