"""The batch call: several rows of a chunk in one request.

Each row is a create call of its own, with its own transaction and ledger record. The view itself opens no transaction,
and the middleware checks for each row what it checks for a single call.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from rest_framework.parsers import BaseParser

from bulk_import.authentication import ImportToken
from bulk_import.conf import conf
from bulk_import.models import ImportChunk
from bulk_import.shared_permissions import ENVIRON_KEY, SharedPermissions
from bulk_import.streaming import streaming_response
from bulk_import.tracing import request_log_context
from bulk_import.worker_api.errors import check_contract
from bulk_import.worker_api.replay import Replay
from bulk_import.worker_api.views import WorkerView, find_target
from bulk_import_wire.batch import BATCH_CONTENT_TYPE, BATCH_END, MAX_BATCH_BYTES, BatchHead, BatchLine
from bulk_import_wire.contract import BUSY, VERDICT_HEADER, RowVerdict, create_call_headers
from bulk_import_wire.json_object import MessageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from uuid import UUID

    from django.http import HttpRequest, StreamingHttpResponse
    from rest_framework.request import Request

MAX_BATCH_SECONDS = 1.0
"""Time after which no further row of a batch is begun.

Within a batch, permissions are loaded once, so this is also how long a withdrawn permission may still have an effect.
"""

STOPS = {
    "",  # something in front of the middleware answered, and will probably answer the next row as well
    RowVerdict.STALE.value,
    RowVerdict.CANCELLED.value,
    RowVerdict.PAUSED.value,
    RowVerdict.WRONG_ENDPOINT.value,
}
"""The verdicts after which probably no further row of the chunk can be created. "" stands for an answer without one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of a batch call."""

    head: BatchHead
    rows: list[bytes]


class BatchParser(BaseParser):
    """Reads the body of a batch call: a BatchHead, then one payload line for each of its indices.

    Raises MessageError if the body is too long or does not follow the contract.
    """

    media_type = BATCH_CONTENT_TYPE

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:  # noqa: ARG002
        body: bytes = stream.read(MAX_BATCH_BYTES + 1)
        if len(body) > MAX_BATCH_BYTES:
            raise MessageError(f"the batch is longer than {MAX_BATCH_BYTES} bytes")
        first_line, *rows = body.removesuffix(b"\n").split(b"\n")
        try:
            head = BatchHead.from_dict(json.loads(first_line))
        except (ValueError, RecursionError) as error:
            raise error if isinstance(error, MessageError) else MessageError("the first line is not JSON") from error
        if not 0 < len(rows) == len(head.indices):
            raise MessageError(f"indices: expected one for each of the {len(rows)} rows, and at least one")
        return Batch(head, rows)


class BatchView(WorkerView):
    """Replays each row of a batch as a create call, and streams the answers."""

    parser_classes = [BatchParser]

    def post(self, request: Request, chunk_id: UUID) -> Any:
        check_contract(request)
        with request_log_context(request, chunk_id=str(chunk_id)):
            batch: Any = request.data
            if not isinstance(batch, Batch):  # DRF does not call the parser for an empty body
                raise MessageError("the body is empty")
            chunk = ImportChunk.objects.select_related("job").get(pk=chunk_id)
            chunk.check_epoch(batch.head.epoch)
            target = find_target(chunk.job.target)
            if target is None:
                raise MessageError("the target of the job is not configured any more")
            if len(batch.rows) > target.batch_rows:
                raise MessageError(f"indices: expected at most {target.batch_rows}")
            http_request = request._request  # noqa: SLF001 - DRF's own name for Django's request
            replay = Replay(http_request, target.create_path, create_headers(chunk), {ENVIRON_KEY: SharedPermissions()})
            return batch_response(http_request, create_rows(replay, str(chunk.job_id), batch))


def create_headers(chunk: ImportChunk) -> dict[str, str]:
    """Return the headers that a worker would send with each create call of the chunk, except the row's own key."""
    settings = conf()
    token = ImportToken(chunk.pk, chunk.epoch).sign()
    host = chunk.job.host if settings.host_header else ""
    return create_call_headers(token, settings.token_header, chunk.job.language, host, settings.host_header)


def create_rows(replay: Replay, job_id: str, batch: Batch) -> Generator[bytes]:
    """Create one row after the other, and yield the line of each as soon as its outcome is known."""
    ends_at = time.monotonic() + MAX_BATCH_SECONDS
    with replay.kept_connections():
        for index, row in zip(batch.head.indices, batch.rows, strict=True):
            line = replay.create(index, f"{job_id}:{index}", row)
            yield json.dumps(line.to_dict()).encode() + b"\n"
            if stops(line) or time.monotonic() >= ends_at:
                break
    yield json.dumps(BATCH_END).encode() + b"\n"


def stops(line: BatchLine) -> bool:
    """Return whether the worker decides after this answer if and when it sends another row, as with single calls."""
    verdict = line.headers.get(VERDICT_HEADER, "")
    is_wrong_status = verdict == RowVerdict.NOT_CREATED and line.status < HTTPStatus.BAD_REQUEST
    return verdict in STOPS or line.status in BUSY or is_wrong_status


def batch_response(request: HttpRequest, lines: Generator[bytes]) -> StreamingHttpResponse:
    response = streaming_response(request, lines)
    response["Content-Type"] = BATCH_CONTENT_TYPE
    response["X-Accel-Buffering"] = "no"  # nginx sends each line at once
    return response
