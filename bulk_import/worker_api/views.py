"""The worker API: a worker claims a chunk, extends its lease, and releases or finishes it.

The bodies of the requests and responses are dataclasses in `bulk_import_wire.contract`. The rules are in the models: a
view reads the request, locks the chunk, calls a model method and builds the response.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.signals import got_request_exception
from django.urls import NoReverseMatch
from django.utils.decorators import method_decorator
from rest_framework import status
from rest_framework.negotiation import DefaultContentNegotiation
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
    TargetUnavailable,
)
from bulk_import.models import ImportChunk, ImportJob, durable_transaction, without_atomic_requests
from bulk_import.outbox import relay
from bulk_import.tracing import request_log_context
from bulk_import.worker_api.parser import WorkerParser
from bulk_import.worker_api.reports import check_release, check_text, checked_report
from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    OLDEST_CONTRACT_VERSION,
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
from bulk_import_wire.message import ChunkMessage

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.http import HttpRequest
    from rest_framework.request import Request

    from bulk_import.conf import Target

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
"""The HTTP status and the `code` of the response for each error. The code tells the worker what to do."""


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
    if (known_error := error_response(error, context)) is not None:
        return known_error
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
    """Return the seconds between two heartbeats: at most a third of the lease if it has 3 seconds or more.

    So one heartbeat may get lost. LEASE_SECONDS is at least MIN_LEASE_SECONDS, so a heartbeat always comes in time.
    """
    return max(1, min(HEARTBEAT_SECONDS, lease_seconds // 3))


@method_decorator(without_atomic_requests, name="dispatch")
class WorkerView(APIView):
    """Base class of the views. They accept only workers and only JSON, and run each call in one transaction."""

    authentication_classes = [WorkerAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_classes = []
    parser_classes = [WorkerParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = DefaultContentNegotiation
    versioning_class = None
    schema = None  # not part of the public OpenAPI schema

    def get_exception_handler(self) -> Callable[..., Any]:
        return worker_error_response

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.encoding = "utf-8"  # JSON is UTF-8, whatever charset the Content-Type names
        return super().dispatch(request, *args, **kwargs)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Mark each answer, also an error, as one of this monolith."""
        response = super().finalize_response(*args, **kwargs)
        response[CONTRACT_HEADER] = str(CONTRACT_VERSION)
        return response

    def post(self, request: Request, chunk_id: UUID) -> Response:
        check_contract(request)
        with request_log_context(request), log_context(chunk_id=str(chunk_id)), durable_transaction():
            return self.handle(request.data, chunk_id)

    def handle(self, body: object, chunk_id: UUID) -> Response:
        """Return the response to a request with this body. Runs inside the transaction."""
        raise NotImplementedError


class ClaimView(WorkerView):
    """Gives a chunk to a worker, which must show the chunk's SQS message.

    If the message differs from the chunk's own, for example because it names another bucket, then this site did not
    write it. The answer is 422, so the worker reads no rows and makes no create calls.

    A claim that creates rows needs the target of the job. Without it, the answer is 503. A claim that
    only reports, or whose job is cancelled, has no `create_path` and needs no target, so that the job can always end.
    """

    def handle(self, body: object, chunk_id: UUID) -> Response:
        request = ClaimRequest.from_dict(body)
        message = ChunkMessage.from_dict(request.message)
        if not (0 < len(request.claimant) <= MAX_CLAIMANT_CHARACTERS and request.claimant.isascii()):
            raise MessageError(f"claimant: expected 1 to {MAX_CLAIMANT_CHARACTERS} ASCII characters")
        check_text("claimant", request.claimant)
        chunk = ImportChunk.objects.locked(chunk_id)
        if message != chunk.message():
            text = "The message does not match the chunk."
            return Response({"code": "foreign_message", "message": text}, status=422)
        add_log_context(job_id=message.job_id)
        settings = conf()
        cancelled = chunk.job.cancel_requested_at is not None
        target = find_target(chunk.job.target) if request.creates and not cancelled else None
        chunk.claim(request.claimant, settings.lease_seconds, creates=request.creates)
        add_log_context(epoch=chunk.epoch)
        logger.info("Chunk %s was claimed", chunk)
        claim = Claim(
            epoch=chunk.epoch,
            lease_seconds=settings.lease_seconds,
            heartbeat_seconds=heartbeat_seconds(settings.lease_seconds),
            create_path=target.create_path if target else "",
            token=ImportToken(chunk.pk, chunk.epoch).sign(),
            language=chunk.job.language,
            created=chunk.created_ranges(),
            failures_key=chunk.failures_key,
            concurrency=chunk.job.concurrency or settings.concurrency,
            cancelled=cancelled,
            give_up=chunk.give_up_error(),
            token_header=settings.token_header,
            host=chunk.job.host if settings.host_header else "",
            host_header=settings.host_header,
            batch_rows=target.batch_rows if target else 1,
        )
        return Response(claim.to_dict())


class HeartbeatView(WorkerView):
    """Extends the lease. The response says whether the worker must stop, and how many calls it may make at once."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        beat = Heartbeat.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        settings = conf()
        chunk.heartbeat(beat.epoch, settings.lease_seconds)
        answer = HeartbeatAnswer(
            lease_seconds=settings.lease_seconds,
            cancelled=chunk.job.cancel_requested_at is not None,
            paused=chunk.job.is_paused_until_resumed,
            concurrency=chunk.job.concurrency or settings.concurrency,
        )
        return Response(answer.to_dict())


class ReleaseView(WorkerView):
    """Ends the lease of a worker that stops early, and pauses the job if no row can be created now."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        release = Release.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        check_release(release, chunk)
        add_log_context(job_id=str(chunk.job_id), epoch=release.epoch)
        is_first = chunk.release(release.epoch, release.failures_key, has_failed=release.has_failed)
        logger.info("Chunk %s was released with %d of %d rows done", chunk, chunk.done, chunk.row_count)
        seconds = 0
        if release.pause:
            code, asked = PauseCode(release.pause), release.retry_after_seconds
            seconds = chunk.job.pause_by_worker(code, asked_seconds=asked, first_seconds=conf().pause_seconds)
        # A worker that pauses the job has found why its rows fail, so the circuit breaker leaves the job to it.
        elif is_first and release.rows_tried:
            job = ImportJob.objects.locked(chunk.job_id)
            if job.count_tried_rows(release.rows_tried, release.rows_failed):
                relay.send_notifications_after_commit(chunk.job_id)
        relay.send_next_chunks(chunk.job.target)
        return Response(ReleaseAnswer(seconds).to_dict())


class FinishView(WorkerView):
    """Ends the chunk, and ends the job if it was the last open chunk."""

    is_dead = False

    def handle(self, body: object, chunk_id: UUID) -> Response:
        report = Finish.from_dict(body)
        # `finish` counts the ledger records. A create call may still be running although its worker stopped waiting for
        # it, so wait until all create calls of the chunk have ended.
        chunk = ImportChunk.objects.locked(chunk_id, wait_for_creates=True)
        report = checked_report(report, chunk)
        add_log_context(job_id=str(chunk.job_id), epoch=report.epoch)
        chunk.finish(report, is_dead=self.is_dead)
        logger.info("Chunk %s is %s with %d of %d rows done", chunk, chunk.status, chunk.done, chunk.row_count)
        relay.send_next_chunks(chunk.job.target)  # before the emails, for which the next chunk should not wait
        relay.send_notifications_after_commit(chunk.job_id)
        return Response({"status": chunk.status})


class DeadView(FinishView):
    """Ends a chunk that is given up: its message reached the dead-letter queue, or its claim said so."""

    is_dead = True


def find_target(name: str) -> Target:
    """Return the target with this name. Raises TargetUnavailable if it or its create endpoint does not exist."""
    try:
        target = conf().target(name)
        target.create_path  # noqa: B018 - raises NoReverseMatch
    except (KeyError, NoReverseMatch) as error:
        raise TargetUnavailable(f"The target {name!r} is not configured any more.") from error
    return target
