"""The base class of the API views of a target.

A view authenticates like the create endpoint of its target. Only the submitter of a job can see it; for everyone else
the job does not exist.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib.auth import get_user_model
from django.http import Http404
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from rest_framework import status
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.fields import ChoiceField
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.settings import APISettings
from rest_framework.views import APIView

from bulk_import.api.parameters import check_charset, check_names
from bulk_import.conf import Target, conf
from bulk_import.errors import error_response
from bulk_import.intake.quotas import SubmissionThrottle
from bulk_import.models import ImportJob, JobStatus, without_atomic_requests
from bulk_import.reports.job import ImportJobSerializer, poll_after_seconds
from bulk_import.reports.links import job_path
from bulk_import.tracing import request_log_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request
    from rest_framework.serializers import Serializer
    from rest_framework.throttling import BaseThrottle


class OwnNegotiation(DefaultContentNegotiation):
    """Chooses the renderer by `?format=` or Accept, whatever a project has set as URL_FORMAT_OVERRIDE."""

    settings: Any = APISettings({"URL_FORMAT_OVERRIDE": "format"})

    def filter_renderers(self, renderers: Any, format: str) -> Any:  # noqa: A002 - DRF's signature
        """Return the renderers of this format. Raises ValidationError for an unknown format; DRF would answer 404."""
        try:
            return super().filter_renderers(renderers, format)
        except Http404:
            text = str(ChoiceField.default_error_messages["invalid_choice"]).format(input=format)
            raise ValidationError({"format": [text]}, "invalid_choice") from None


# ATOMIC_REQUESTS must not apply: an import stores its payload in S3 before its transaction, and sends its messages to
# SQS after the transaction has committed.
@method_decorator(without_atomic_requests, name="dispatch")
class TargetView(APIView):
    """Base of the views of a target, whose name is in the URL configuration."""

    # Everything that a project may set for all of its views is set here: the API is the same in every project.
    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]
    permission_classes = [IsAuthenticated]
    throttle_classes = []
    content_negotiation_class = OwnNegotiation
    metadata_class = SimpleMetadata
    versioning_class = None
    query_parameters: ClassVar[dict[str, tuple[type[Serializer[Any]], ...]]] = {}  # by method

    @property
    def target(self) -> Target:
        return conf().target(self.kwargs["target"])

    def is_configured(self) -> bool:
        return self.kwargs["target"] in conf().targets

    def get_authenticators(self) -> list[BaseAuthentication]:
        # DRF calls this before it can return an error response. `initial` reports a target that is not configured.
        return self.target.create_view().get_authenticators() if self.is_configured() else []

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.encoding = "utf-8"  # of the query: by default, Django decodes it with the charset of the body
        with request_log_context(request, job_id=str(kwargs.get("job_id", ""))):
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not self.is_configured():
            raise NotFound
        check_charset(request)
        super().initial(request, *args, **kwargs)
        method = "GET" if request.method == "HEAD" else str(request.method)
        if method != "OPTIONS" and hasattr(self, method.lower()):  # otherwise, DRF answers 405
            check_names(request, *self.query_parameters.get(method, ()))

    def check_permissions(self, request: Request) -> None:
        # A team or a device may have a token without a user. DRF would only say that it has no permission.
        if request.successful_authenticator and not isinstance(request.user, get_user_model()):
            message = _("These credentials belong to no user, but each import does. Send the credentials of a user.")
            raise PermissionDenied(message, code="no_user")
        super().check_permissions(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        # A DRF response is JSON, also if the client asked for the CSV that the view streams. It may be an error.
        if isinstance(response, Response):
            request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
        return super().finalize_response(request, response, *args, **kwargs)

    def get_exception_handler(self) -> Callable[..., Any]:
        return error_response

    def get_jobs(self) -> Any:
        """Return the jobs that the user submitted to this target."""
        submitter = self.request.user.pk
        if submitter is None:  # a user without a database record; NULL would select the jobs of deleted users
            raise NotFound
        jobs = ImportJob.objects.filter(target=self.target.name, submitter=submitter)
        return jobs.for_reports()

    def get_job(self, job_id: UUID | str) -> ImportJob:
        """Return the user's job with this ID. Raises NotFound if there is none, or if the ID is not a UUID."""
        try:
            job: ImportJob = self.get_jobs().get(pk=UUID(str(job_id)))
        except (ValueError, ImportJob.DoesNotExist):
            raise NotFound(_("We could not find this import.")) from None
        return job

    def accepted(self, job_id: UUID) -> Response:
        """Return the response for a job that has been accepted: 202 with its `Location`."""
        return self._accepted(self.get_job(job_id))

    def accepted_new(self, job: ImportJob) -> Response:
        """Return the same for a job that this request has created. While no worker has touched it, this is faster."""
        if getattr(job, "imports_ahead", None) is None:  # otherwise it waits for its turn, and no worker knows it
            job.refresh_from_db(fields=["status"])
        if job.status not in {JobStatus.PENDING, JobStatus.QUEUED}:
            return self.accepted(job.pk)
        job.annotate_as_new()
        return self._accepted(job)

    def _accepted(self, job: ImportJob) -> Response:
        headers = {
            "Location": self.request.build_absolute_uri(job_path(job)),
            "Retry-After": str(poll_after_seconds(job)),
        }
        return Response(self.document(job), status=status.HTTP_202_ACCEPTED, headers=headers)

    def document(self, job: ImportJob) -> dict[str, Any]:
        return ImportJobSerializer(job, context={"request": self.request}).data


class SubmittingView(TargetView):
    """Base of the views whose POST starts work. It counts for the throttle of submissions."""

    def get_throttles(self) -> list[BaseThrottle]:
        return [SubmissionThrottle()] if self.request.method == "POST" else []
