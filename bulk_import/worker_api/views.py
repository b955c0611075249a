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
    ClaimError,
    JobPaused,
)
from bulk_import.models import ImportChunk, ImportJob, durable_transaction, without_atomic_requests
from bulk_import.outbox import relay
from bulk_import.tracing import request_id_of, request_log_context
from bulk_import.worker_api.errors import UnsupportedContract, check_contract, claim_error_response
from bulk_import.worker_api.parser import WorkerParser
from bulk_import.worker_api.reports import check_release, check_text, checked_calls, checked_report
from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    Claim,
    ClaimRequest,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    PauseCode,
    Release,
    ReleaseAnswer,
)
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.logs import add_log_context
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


def worker_error_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the answer to an error in a worker view, with `code` and `message`.

    It is JSON even for a bug. An HTML page would mean to the worker that something else answers in our place.
    """
    if isinstance(error, ClaimError):
        return claim_error_response(error)
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


def heartbeat_seconds(lease_seconds: int) -> int:
    """Return the seconds between two heartbeats: at most a third of the lease if it has 3 seconds or more.

    So one heartbeat may get lost. LEASE_SECONDS is at least MIN_LEASE_SECONDS, so a heartbeat always comes in time.
    """
    return max(1, min(HEARTBEAT_SECONDS, lease_seconds // 3))


@method_decorator(without_atomic_requests, name="dispatch")
class WorkerView(APIView):
    """Base class of the views. They accept only workers and only JSON."""

    authentication_classes = [WorkerAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_classes = []
    parser_classes = [WorkerParser]
    renderer_classes = [JSONRenderer]
    content_negotiation_class = DefaultContentNegotiation  # selects the parser
    versioning_class = None
    schema = None  # not part of the public OpenAPI schema

    def get_exception_handler(self) -> Callable[..., Any]:
        return worker_error_response

    def perform_content_negotiation(self, *_args: Any, **_options: Any) -> tuple[JSONRenderer, str]:
        """Answer in JSON, whatever the worker accepts."""
        return JSONRenderer(), JSONRenderer.media_type

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.encoding = "utf-8"  # JSON is UTF-8, whatever charset the Content-Type names
        return super().dispatch(request, *args, **kwargs)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Mark each answer, also an error, as one of this monolith."""
        response = super().finalize_response(*args, **kwargs)
        response[CONTRACT_HEADER] = str(CONTRACT_VERSION)
        return response


class ChunkView(WorkerView):
    """Base class of the views of a chunk. They run each call in one transaction."""

    def post(self, request: Request, chunk_id: UUID) -> Response:
        check_contract(request)
        with request_log_context(request, chunk_id=str(chunk_id)), durable_transaction():
            return self.handle(request.data, chunk_id)

    def handle(self, body: object, chunk_id: UUID) -> Response:
        """Return the response to a request with this body. Runs inside the transaction."""
        raise NotImplementedError


class ClaimView(ChunkView):
    """Gives a chunk to a worker, which must show the chunk's SQS message.

    If the message differs from the chunk's own, for example because it names another bucket, then this site did not
    write it. The answer is 422, so the worker reads no rows and makes no create calls.

    A claim that creates rows needs the target of the job. If it was removed from the settings, the job is paused until
    it is configured again. A claim that only reports, or whose job is cancelled or given up, has no `create_path` and
    needs no target, so that the job can always end.
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
        chunk.claim(
            request.claimant, settings.lease_seconds, creates=request.creates, worker=request_id_of(self.request)
        )
        add_log_context(epoch=chunk.epoch)
        logger.info("Chunk %s was claimed", chunk)
        give_up = chunk.give_up_error()
        creates = request.creates and not (cancelled or give_up)
        target = find_target(chunk.job.target) if creates else None
        if creates and not target:
            return self.pause_job(chunk)
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
            give_up=give_up,
            token_header=settings.token_header,
            host=chunk.job.host if settings.host_header else "",
            host_header=settings.host_header,
            batch_rows=target.batch_rows if target else 1,
        )
        return Response(claim.to_dict())

    def pause_job(self, chunk: ImportChunk) -> Response:
        """Pause the job of a chunk that was just claimed, because its target is missing, and refuse the claim."""
        logger.error("The target %r of job %s is not configured any more", chunk.job.target, chunk.job_id)
        chunk.release(chunk.epoch, chunk.failures_key)
        code, first_seconds = PauseCode.WRONG_ENDPOINT, conf().pause_seconds
        seconds = chunk.job.pause_by_worker(code, asked_seconds=0, first_seconds=first_seconds)
        return claim_error_response(JobPaused(seconds))


class HeartbeatView(ChunkView):
    """Extends the lease. The response says whether the worker must stop, and how many calls it may make at once."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        beat = Heartbeat.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        settings = conf()
        chunk.heartbeat(beat.epoch, settings.lease_seconds, checked_calls(beat.calls))
        answer = HeartbeatAnswer(
            lease_seconds=settings.lease_seconds,
            cancelled=chunk.job.cancel_requested_at is not None,
            paused=chunk.job.is_paused_until_resumed,
            concurrency=chunk.job.concurrency or settings.concurrency,
        )
        return Response(answer.to_dict())


class ReleaseView(ChunkView):
    """Ends the lease of a worker that stops early, and pauses the job if no row can be created now."""

    def handle(self, body: object, chunk_id: UUID) -> Response:
        release = Release.from_dict(body)
        chunk = ImportChunk.objects.locked(chunk_id)
        check_release(release, chunk)
        add_log_context(job_id=str(chunk.job_id), epoch=release.epoch)
        calls = checked_calls(release.calls)
        is_first = chunk.release(release.epoch, release.failures_key, has_failed=release.has_failed, calls=calls)
        logger.info("Chunk %s was released with %d of %d rows done", chunk, chunk.done, chunk.row_count)
        seconds = 0
        if release.pause:
            code, asked = PauseCode(release.pause), release.retry_after_seconds
            seconds = chunk.job.pause_by_worker(code, asked_seconds=asked, first_seconds=conf().pause_seconds)
        # A worker that pauses the job has found why its rows fail, so the circuit breaker leaves the job to it.
        elif is_first and release.rows_tried:
            job = ImportJob.objects.locked(chunk.job_id)
            job.count_tried_rows(release.rows_tried, release.rows_failed)
        relay.send_next_chunks(chunk.job.target)
        relay.send_notifications_after_commit(chunk.job_id)  # after the messages, which must not wait for an email
        return Response(ReleaseAnswer(seconds).to_dict())


class FinishView(ChunkView):
    """Ends the chunk, and ends the job if it was the last open chunk."""

    is_dead = False

    def handle(self, body: object, chunk_id: UUID) -> Response:
        report = Finish.from_dict(body)
        # `finish` counts the ledger records. A create call may still be running although its worker stopped waiting for
        # it, so wait until all create calls of the chunk have ended.
        chunk = ImportChunk.objects.locked(chunk_id, wait_for_creates=True)
        report = checked_report(report, chunk)
        add_log_context(job_id=str(chunk.job_id), epoch=report.epoch)
        chunk.finish(report, is_dead=self.is_dead, calls=checked_calls(report.calls))
        logger.info("Chunk %s is %s with %d of %d rows done", chunk, chunk.status, chunk.done, chunk.row_count)
        relay.send_next_chunks(chunk.job.target)  # before the emails, for which the next chunk should not wait
        relay.send_notifications_after_commit(chunk.job_id)
        return Response({"status": chunk.status})


class DeadView(FinishView):
    """Ends a chunk that is given up: its message reached the dead-letter queue, or its claim said so."""

    is_dead = True


def find_target(name: str) -> Target | None:
    """Return the target with this name; None if it or the URL of its create endpoint was removed."""
    try:
        target = conf().target(name)
        target.create_path  # noqa: B018 - raises NoReverseMatch
    except (KeyError, NoReverseMatch):
        return None
    return target
