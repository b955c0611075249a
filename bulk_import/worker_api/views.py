"""The worker API: a worker claims a chunk, extends its lease, and releases or finishes it.

The bodies of the requests and answers are dataclasses in `bulk_import_wire.contract`. The rules are in the models: a
view reads the request, locks the chunk, calls a model method and builds the answer.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.signals import got_request_exception
from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework import status
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from bulk_import.authentication import ImportToken, WorkerAuthentication
from bulk_import.conf import conf
from bulk_import.errors import error_response
from bulk_import.exceptions import (
    ChunkClosed,
    ClaimError,
    CreatesRunning,
    JobPaused,
    LeaseHeld,
    LedgerDisagrees,
    NotNow,
    StaleEpoch,
)
from bulk_import.models import ImportChunk, database
from bulk_import.outbox import relay
from bulk_import.tracing import request_log_context
from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    OLDEST_CONTRACT_VERSION,
    ChunkMessage,
    Claim,
    ClaimRequest,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    MessageError,
    PauseCode,
    Release,
    ReleaseAnswer,
)
from bulk_import_wire.logs import add_log_context, log_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from rest_framework.request import Request

logger = logging.getLogger(__name__)

MAX_CLAIMANT_CHARACTERS = 36
"""Longest `claimant` of a claim: the length of a UUID, and of the database column."""

HEARTBEAT_SECONDS = 2
"""Seconds between two heartbeats of a worker. The counts of a job are at most this old."""

STATUS_OF_CLAIM_ERROR: dict[type[ClaimError], tuple[int, str]] = {
    LeaseHeld: (status.HTTP_409_CONFLICT, "lease_held"),
    JobPaused: (status.HTTP_409_CONFLICT, "paused"),
    CreatesRunning: (status.HTTP_503_SERVICE_UNAVAILABLE, "creates_running"),
    StaleEpoch: (status.HTTP_409_CONFLICT, "stale_epoch"),
    LedgerDisagrees: (status.HTTP_409_CONFLICT, "ledger_disagrees"),
    ChunkClosed: (status.HTTP_410_GONE, "closed"),
}
"""The HTTP status and the `code` of the answer for each error. A worker acts on the code."""


class UnsupportedContract(Exception):
    """The worker speaks a version of the contract that this monolith does not support."""


def worker_error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the answer to an error in a worker view, with `code` and `message`.

    It is JSON even for a bug. An HTML page would mean to the worker that something else answers in our place.
    """
    if isinstance(error, ClaimError):
        code, name = STATUS_OF_CLAIM_ERROR[type(error)]
        response = Response({"code": name, "message": str(error)}, status=code)
        if isinstance(error, NotNow):
            response["Retry-After"] = str(error.retry_after_seconds)
        return response
    if isinstance(error, UnsupportedContract):
        return Response({"code": "unsupported_contract", "message": str(error)}, status=status.HTTP_400_BAD_REQUEST)
    if isinstance(error, MessageError):
        return Response({"code": "malformed", "message": str(error)}, status=status.HTTP_400_BAD_REQUEST)
    if isinstance(error, ImportChunk.DoesNotExist):
        message = "This chunk does not exist."
        return Response({"code": "unknown_chunk", "message": message}, status=status.HTTP_404_NOT_FOUND)
    if known := error_response(error, context):
        return known
    request = context["request"]
    logger.error("The worker API failed: %s", request.path, exc_info=error)
    got_request_exception.send(sender=WorkerView, request=request)  # for error trackers, as Django does
    return Response({"code": "error", "message": "An error of the monolith. Its log shows why."}, status=500)


def check_contract(request: Request) -> None:
    """Raise UnsupportedContract if this monolith does not speak the worker's version of the contract.

    A call without a version is accepted, so that an operator can try the API by hand.
    """
    version = request.headers.get(CONTRACT_HEADER, str(CONTRACT_VERSION))
    supported = range(OLDEST_CONTRACT_VERSION, CONTRACT_VERSION + 1)
    if version not in map(str, supported):
        raise UnsupportedContract(
            f"The worker speaks version {version[:10]} of the contract; this monolith supports "
            f"{OLDEST_CONTRACT_VERSION} to {CONTRACT_VERSION}. Deploy the monolith before the worker."
        )


def heartbeat_seconds(lease_seconds: int) -> int:
    """Return the seconds between two heartbeats: at most a third of the lease, so that one may get lost."""
    return max(1, min(HEARTBEAT_SECONDS, lease_seconds // 3))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class WorkerView(APIView):
    """Base class: for workers only, JSON only, and each call is one transaction."""

    authentication_classes = [WorkerAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_classes = []
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]
    schema = None  # not part of the public OpenAPI schema

    def get_exception_handler(self) -> Callable[..., Any]:
        return worker_error_response

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Mark each answer, also an error, as one of this monolith."""
        response = super().finalize_response(*args, **kwargs)
        response[CONTRACT_HEADER] = str(CONTRACT_VERSION)
        return response

    def post(self, request: Request, chunk_id: UUID) -> Response:
        check_contract(request)
        with request_log_context(request), log_context(chunk_id=str(chunk_id)), transaction.atomic(using=database()):
            return self.handle(request.data, chunk_id)

    def handle(self, body: object, chunk_id: UUID) -> Response:
        """Return the answer to a request with this body. Runs inside the transaction."""
        raise NotImplementedError


class ClaimView(WorkerView):
    """Gives a chunk to a worker, which must show the chunk's SQS message.

    A message that differs from the chunk's own was not written by this site, for example because it names another
    bucket. The answer is 422, and the worker does not read or call anything.
    """

    def handle(self, body: object, chunk_id: UUID) -> Response:
        request = ClaimRequest.from_dict(body)
        message = ChunkMessage.from_dict(request.message)
        if not 0 < len(request.claimant) <= MAX_CLAIMANT_CHARACTERS:
            raise MessageError(f"claimant: expected 1 to {MAX_CLAIMANT_CHARACTERS} characters")
        chunk = ImportChunk.objects.locked(chunk_id)
        if message != chunk.message():
            text = "The message does not match the chunk."
            return Response({"code": "foreign_message", "message": text}, status=422)
        add_log_context(job_id=message.job_id)
        settings = conf()
        chunk.claim(request.claimant, settings.lease_seconds, creates=request.creates)
        add_log_context(epoch=chunk.epoch)
        logger.info("Chunk %s was claimed", chunk)
        claim = Claim(
            epoch=chunk.epoch,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=heartbeat_seconds(settings.lease_seconds),
            create_path=settings.target(chunk.job.target).create_path,
            token=ImportToken(chunk.pk, chunk.epoch).sign(),
            language=chunk.job.language,
            created=chunk.created_ranges(),
            failures_key=chunk.failures_key,
            concurrency=chunk.job.concurrency or settings.concurrency,
            cancelled=chunk.job.cancel_requested_at is not None,
            give_up=chunk.give_up_error(),
        )
        return Response(claim.to_dict())


class HeartbeatView(WorkerView):
    """Extends the lease. The answer says whether the worker must stop, and how many calls it may make at once."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        beat = Heartbeat.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        settings = conf()
        chunk.heartbeat(beat.epoch, settings.lease_seconds)
        answer = HeartbeatAnswer(
            lease_seconds=settings.lease_seconds,
            cancelled=chunk.job.cancel_requested_at is not None,
            paused=chunk.job.is_paused_by_staff,
            concurrency=chunk.job.concurrency or settings.concurrency,
        )
        return Response(answer.to_dict())


class ReleaseView(WorkerView):
    """Ends the lease of a worker that stops early, and pauses the job if no row can be created now."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        release = Release.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        check_failures_key(chunk, release.failures_key)
        if release.pause and release.pause not in set(PauseCode):
            raise MessageError("pause: unknown code")
        add_log_context(job_id=str(chunk.job_id), epoch=release.epoch)
        chunk.release(release.epoch, release.failures_key, has_failed=release.has_failed)
        logger.info("Chunk %s was released with %d of %d rows created", chunk, chunk.created, chunk.row_count)
        seconds = 0
        if release.pause:
            code, asked = PauseCode(release.pause), release.retry_after_seconds
            seconds = chunk.job.pause_by_worker(code, asked_seconds=asked, first_seconds=conf().pause_seconds)
        return Response(ReleaseAnswer(seconds).to_dict())


class FinishView(WorkerView):
    """Ends the chunk, and ends the job if it was the last open chunk."""

    is_dead = False

    def handle(self, body: object, chunk_id: UUID) -> Response:
        report = Finish.from_dict(body)
        # The ledger is counted, so wait for create calls that a worker has given up on but that are still in flight.
        chunk = ImportChunk.objects.locked(chunk_id, wait_for_creates=True)
        check_failures_key(chunk, report.failures_key)
        add_log_context(job_id=str(chunk.job_id), epoch=report.epoch)
        chunk.finish(report, is_dead=self.is_dead)
        logger.info("Chunk %s is %s with %d of %d rows created", chunk, chunk.status, chunk.created, chunk.row_count)
        # After the commit, because an email about an end that is rolled back would be wrong. `robust`, because the
        # chunk is finished even if a mail server fails: the error is logged, and the outbox sends the email later.
        transaction.on_commit(lambda: relay.send_job_notifications(chunk.job_id), using=database(), robust=True)
        return Response({"status": chunk.status})


class DeadView(FinishView):
    """Ends a chunk that is given up: its message reached the dead-letter queue, or its claim said so."""

    is_dead = True


def check_failures_key(chunk: ImportChunk, failures_key: str) -> None:
    """Raise MessageError if the failures file does not belong to the chunk's job.

    Otherwise a faulty worker could make one user's job show the rows of another user.
    """
    if failures_key and not failures_key.startswith(f"{chunk.job_id}/"):
        raise MessageError("failures_key: does not belong to this job")
