"""The public API: POST an import, GET the job, GET what was not created.

The views of a target authenticate like its create endpoint; POST asks its permissions, too. A job is its
submitter's own: for anybody else it does not exist.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.http import Http404, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from bulk_import.conf import Target, conf
from bulk_import.exceptions import BadImport, MalformedBody, Unavailable
from bulk_import.failures import read_failures
from bulk_import.models import ImportJob
from bulk_import.parsing import JSONRowsParser
from bulk_import.representation import job_document, job_path, poll_after_seconds
from bulk_import.submission import submit
from bulk_import.validation import validate_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request


def answer_error(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error of this API has one shape: `{"code", "message"}`, and `errors` where rows are to blame."""
    if isinstance(error, BadImport):
        return Response({"code": error.code, "message": error.message, **error.extra}, status=error.status)
    if isinstance(error, Unavailable):
        message = _("Our storage is not available right now, so nothing was imported. Please send it again.")
        response = Response({"code": "unavailable", "message": message}, status=status.HTTP_503_SERVICE_UNAVAILABLE)
        response["Retry-After"] = str(error.retry_after_seconds)
        return response
    answer = exception_handler(error, context)
    if answer is not None:
        detail = error.detail if isinstance(error, APIException) else answer.data["detail"]
        answer.data = {"code": getattr(detail, "code", "error"), "message": str(detail)}
    return answer


# An import is not one transaction: the payload goes to S3 before it, the messages to SQS after it.
@method_decorator(transaction.non_atomic_requests, name="dispatch")
class TargetView(APIView):
    """Base: knows its target, and authenticates like the target's create endpoint."""

    renderer_classes = [JSONRenderer]
    permission_classes = [IsAuthenticated]

    @property
    def target(self) -> Target:
        try:
            return conf().target(self.kwargs["target"])
        except KeyError:
            raise Http404 from None

    def get_authenticators(self) -> list[BaseAuthentication]:
        return self.target.create_view().get_authenticators()

    def get_exception_handler(self) -> Callable[..., Any]:
        return answer_error

    def get_job(self, job_id: UUID) -> ImportJob:
        own = ImportJob.objects.filter(target=self.target.name, submitter=self.request.user.pk)
        return get_object_or_404(own.with_counts(), pk=job_id)


class ImportJobsView(TargetView):
    """`POST /products/bulk`: an array of rows becomes a job."""

    parser_classes = [JSONRowsParser]

    def check_permissions(self, request: Request) -> None:
        super().check_permissions(request)
        create_view = self.target.create_view()
        create_view.request = request
        create_view.check_permissions(request)

    def post(self, request: Request, **_kwargs: Any) -> Response:
        rows = request.data
        if not isinstance(rows, list):  # DRF does not call the parser for an empty body
            raise MalformedBody(_("The body is empty. Send a JSON array of rows."), code="empty_body")
        lines = validate_rows(self.target, rows, request)
        submitted = submit(self.target, request.user, lines)
        job = self.get_job(submitted.pk)
        return Response(
            job_document(job, request),
            status=status.HTTP_202_ACCEPTED,
            headers={
                "Location": request.build_absolute_uri(job_path(job)),
                "Retry-After": str(poll_after_seconds(job)),
            },
        )


class ImportJobView(TargetView):
    """`GET /products/bulk/{id}`: the job as it stands."""

    def get(self, request: Request, job_id: UUID, **_kwargs: Any) -> Response:
        job = self.get_job(job_id)
        headers = {} if job.is_terminal else {"Retry-After": str(poll_after_seconds(job))}
        return Response(job_document(job, request), headers=headers)


class FailuresView(TargetView):
    """`GET /products/bulk/{id}/failures`: the rows not created, with reasons, as JSON Lines."""

    def get(self, request: Request, job_id: UUID, **_kwargs: Any) -> StreamingHttpResponse:  # noqa: ARG002 - DRF's signature
        pieces = read_failures(self.get_job(job_id))
        first = next(pieces, b"")  # a storage that is away is a 503, not a broken download
        return StreamingHttpResponse(chain([first], pieces), content_type="application/x-ndjson")
