"""The actions of users on a job: run, correct, undo, retry, redrive and resume.

The docstrings of `post` are the summaries and descriptions in the OpenAPI schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Sum
from rest_framework import status
from rest_framework.response import Response

from bulk_import.api.configuration import check_is_configured
from bulk_import.api.parameters import CorrectionOptions, UndoOptions, read_parameters
from bulk_import.api.target_view import SubmittingView
from bulk_import.intake.corrections import correct, read_corrections
from bulk_import.intake.idempotency import find_job, read_key
from bulk_import.intake.modes import check_may_import, check_supports
from bulk_import.intake.quotas import check_open_job_quota, check_retry_quota
from bulk_import.intake.request_body import UnreadBody, check_content_length
from bulk_import.intake.run import run
from bulk_import.intake.undo import undo
from bulk_import.intake.validation_slots import reading
from bulk_import.models import JobMode
from bulk_import.operations import redrive, resume_by_submitter, retry
from bulk_import.tracing import traceparent_of

if TYPE_CHECKING:
    from uuid import UUID

    from rest_framework.request import Request

    from bulk_import.models import ImportJob


class ReopenView(SubmittingView):
    """Base of the views that start to process rows of a job again."""

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
        if key and (existing := find_job(self.target, request.user, key, corrections.sha256)):
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


class UndoView(SubmittingView):
    """`/products/bulk/{id}/undo`"""

    query_parameters = {"POST": (UndoOptions,)}

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
        return self.accepted(undo(self.target, job, rehearsal=rehearsal, traceparent=traceparent_of(request)))


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
