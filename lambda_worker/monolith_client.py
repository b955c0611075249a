"""HTTP calls to the monolith: the worker API and the create endpoint. No other module makes HTTP calls.

The client is httpx's API on top of aiohttp's connections, because httpx's own connection pool takes ten times the CPU
time. After any transport error, the monolith may or may not have carried out the call. So all these errors become
Unreachable, and the caller retries. This is safe, because every call has an idempotency key, a claimant or an epoch.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx
from httpx_aiohttp import AiohttpTransport

from bulk_import_wire.batch import BATCH_CONTENT_TYPE, BatchLine
from bulk_import_wire.contract import (
    BUSY,
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    IDEMPOTENCY_KEY,
    LOAD_HEADER,
    MAX_ANSWER_BYTES,
    UNUSED,
    VERDICT_HEADER,
    Claim,
    ClaimRequest,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    Release,
    ReleaseAnswer,
    RowVerdict,
)
from bulk_import_wire.json_object import MessageError
from bulk_import_wire.tracing import REQUEST_ID
from lambda_worker.batches import BatchReader, batch_body
from lambda_worker.connections import CONNECT_TIMEOUT_SECONDS, find_url, new_session, tls_context, transport_errors
from lambda_worker.deadlines import call_timeout_seconds
from lambda_worker.exceptions import BatchRefused, ChunkReturned, Unreachable
from lambda_worker.retries import MAX_TRIES, backoff_seconds, retry_after_seconds
from lambda_worker.tracing import trace_headers
from lambda_worker.worker_api_errors import away, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.config import Config
    from lambda_worker.row import Row

API_TIMEOUT_SECONDS = 30
"""Timeout of a call to the worker API. A `finish` may take long, because it waits for create calls that still run."""

MAX_API_WAIT_SECONDS = 5.0
"""Longest Retry-After of the worker API that a call waits for. A delivery has little time to report."""

VERDICTS = frozenset(RowVerdict)

AnswerBody = TypeVar("AnswerBody", Claim, HeartbeatAnswer, ReleaseAnswer)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. The body is cut off after MAX_ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def row_verdict(self) -> str:
        """The value of VERDICT_HEADER, or "" if there is none or it is unknown."""
        verdict = self.headers.get(VERDICT_HEADER, "")
        return verdict if verdict in VERDICTS else ""

    @property
    def shop_load(self) -> float | None:
        """The load in LOAD_HEADER: from 0.0 to 1.0, or UNUSED. None without the header, or with another value in it."""
        try:
            load = float(self.headers.get(LOAD_HEADER, ""))
        except ValueError:
            return None
        return load if 0 <= load <= 1 or load == UNUSED else None

    def json(self) -> Any:
        """Return the decoded body, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class MonolithClient:
    """The client of one invocation. Use it as `async with`. `request_id` is the invocation's ID, sent with each call.

    `transport` carries the calls instead of connections to the monolith.

    It uses a transport of httpx and not an `httpx.Client`. A transport does not follow redirects, does not send cookies
    from earlier responses, and does not read a proxy from the environment. A call also takes half the time.
    """

    def __init__(self, config: Config, request_id: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._config = config
        self._headers = {
            "Accept-Encoding": "identity",  # a compressed response could become a thousand times as large in memory
            "User-Agent": "django-bulk-import",
            REQUEST_ID: request_id,
        }
        self._transport = transport or AiohttpTransport(verify=tls_context(), client=new_session)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._transport.aclose()

    async def create(self, claim: Claim, key: str, row: bytes, timeout_seconds: float) -> Answer:
        """Make the create call of one row, with the key `<job id>:<row index>`. Raises Unreachable."""
        headers = claim.create_call_headers() | {IDEMPOTENCY_KEY: key}
        return await self._post(claim.create_path, headers, row, timeout_seconds)

    async def create_batch(
        self, message: ChunkMessage, claim: Claim, rows: Sequence[Row], settle_by: float
    ) -> AsyncGenerator[list[Answer]]:
        """Create several rows with one call, and yield the answers of the next rows whenever some arrive.

        If the iterator ends before the last row, the monolith did not try the other rows. `settle_by` is the time of
        `time.monotonic()` by which the call ends.

        Raises BatchRefused if the monolith takes no batches, so no row was tried. Raises Unreachable if the call breaks
        off. Then the next row may have been created, and the rows after it were not tried.
        """
        # The call has the host of its rows, so a gateway that sets headers by the host sets those of the rows.
        headers = self._worker_headers | claim.host_headers() | {"Content-Type": BATCH_CONTENT_TYPE}
        path = self._config.worker_api_path + _chunk_path(message, "rows")
        reader = BatchReader(rows)
        with transport_errors():
            async with asyncio.timeout(call_timeout_seconds(settle_by - time.monotonic())):
                response = await self._send(path, headers, batch_body(claim.epoch, rows))
            try:
                status = response.status_code
                if status in BUSY:
                    yield [Answer(status, response.headers, b"")]
                    return
                if status >= httpx.codes.INTERNAL_SERVER_ERROR and status != httpx.codes.NOT_IMPLEMENTED:
                    raise Unreachable(f"status {status}")
                if status != httpx.codes.OK or CONTRACT_HEADER not in response.headers:
                    raise BatchRefused(f"The batch call was refused with status {status}.")
                pieces = response.aiter_raw()
                while piece := await _next_piece(pieces, settle_by):
                    if lines := reader.read(piece):
                        yield [_row_answer(line) for line in lines]
                if not reader.has_ended:
                    raise Unreachable("the answer has no end")
            finally:
                await response.aclose()

    async def claim(self, message: ChunkMessage, claimant: str, *, creates: bool = True) -> Claim:
        """Claim the chunk of the message.

        Raises ChunkDeferred if another worker has the chunk, the job is paused or the monolith is unavailable,
        ChunkClosed, MessageRefused if the monolith did not write the message, and ChunkReturned for any other failure.
        """
        answer = await self._call(message, "claim", ClaimRequest(message.to_dict(), claimant, creates).to_dict())
        claim = _read_body(Claim, answer, "claim")
        # The path must not lead to another host: "//evil.example/x" and "http://evil.example/x" would.
        is_path = claim.create_path.startswith("/") and not claim.create_path.startswith("//")
        needs_path = creates and not (claim.cancelled or claim.give_up)
        if not is_path and (claim.create_path or needs_path):
            raise ChunkReturned("The create path must be a path on the monolith.")
        if claim.heartbeat_seconds < 1 or any(len(pair) != 2 for pair in claim.created):  # noqa: PLR2004 - a pair
            raise ChunkReturned("The monolith's response to claim is malformed.")
        return claim

    async def heartbeat(self, message: ChunkMessage, heartbeat: Heartbeat) -> HeartbeatAnswer:
        """Extend the lease of the chunk. A failed call is not retried, because the next heartbeat follows soon.

        Raises StaleEpoch, ChunkClosed, MessageRefused or ChunkReturned.
        """
        answer = await self._call(message, "heartbeat", heartbeat.to_dict(), tries=1)
        return _read_body(HeartbeatAnswer, answer, "heartbeat")

    async def release(self, message: ChunkMessage, release: Release) -> ReleaseAnswer:
        """End the lease of a chunk that is not finished. Raises the same exceptions as `heartbeat`."""
        answer = await self._call(message, "release", release.to_dict())
        return _read_body(ReleaseAnswer, answer, "release")

    async def finish(self, message: ChunkMessage, finish: Finish, *, is_dead: bool = False) -> None:
        """Report the outcome of every row of the chunk. With `is_dead`, report the chunk as dead.

        Raises the same exceptions as `heartbeat`. After any of them, the chunk counts as not finished.
        """
        verb = "dead" if is_dead else "finish"
        document = (await self._call(message, verb, finish.to_dict())).json()
        # A 200 from a proxy or a login page must not delete the message, so check that the monolith sent it.
        if not isinstance(document, dict) or document.get("status") not in {"done", "dead"}:
            raise ChunkReturned(f"The response to {verb} does not come from the monolith.")

    async def _call(self, message: ChunkMessage, verb: str, body: dict[str, Any], tries: int = MAX_TRIES) -> Answer:
        """Call the worker API, with retries. Return the response if it is a 200, and raise an exception otherwise.

        A 3xx or 4xx from the monolith is its decision, so the call is not retried. The call is retried after a 5xx, if
        there is no response, and if something else responds, such as a maintenance page.

        If the monolith responds to the last try with a 500, it has a problem with this chunk, and the delivery counts
        as failed (ChunkReturned). Otherwise the monolith is unavailable, and the delivery does not count
        (MonolithAway).
        """
        path = _chunk_path(message, verb)
        for tried in range(1, tries + 1):
            wait_seconds = backoff_seconds(tried)
            try:
                answer = await self.call_worker_api(path, body)
            except Unreachable as error:
                failure: ChunkReturned = away(f"no response to {verb}: {error}")
            else:
                is_ours = CONTRACT_HEADER in answer.headers
                if is_ours and answer.status == httpx.codes.OK:
                    return answer
                if is_ours and answer.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise refusal(verb, answer)
                if is_ours and answer.status == httpx.codes.INTERNAL_SERVER_ERROR:
                    failure = ChunkReturned(f"The monolith returned {verb} with 500. Its log shows why.")
                else:
                    source = "" if is_ours else " by something else than the monolith"
                    failure = away(f"{verb} returned {answer.status}{source}", answer)
                    asked_seconds = retry_after_seconds(answer.headers.get("Retry-After"))
                    wait_seconds = max(wait_seconds, min(asked_seconds, MAX_API_WAIT_SECONDS))
            if tried < tries:
                await asyncio.sleep(wait_seconds)
        raise failure

    async def call_worker_api(self, path: str, body: dict[str, Any]) -> Answer:
        """Make one call of the worker API, and return whatever answers. Raises Unreachable."""
        headers = self._worker_headers | {"Content-Type": "application/json"}
        content = json.dumps(body).encode()
        return await self._post(self._config.worker_api_path + path, headers, content, API_TIMEOUT_SECONDS)

    async def _post(self, path: str, headers: dict[str, str], content: bytes, timeout_seconds: float) -> Answer:
        """Send a POST and return the response. Raises Unreachable if there is none within the timeout."""
        body = bytearray()
        # This timeout limits the whole call. The read timeout of httpx would start again with every byte received.
        with transport_errors():
            async with asyncio.timeout(timeout_seconds):
                response = await self._send(path, headers, content)
                try:
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) > MAX_ANSWER_BYTES:
                            break
                finally:
                    await response.aclose()
        return Answer(response.status_code, response.headers, bytes(body[:MAX_ANSWER_BYTES]))

    async def _send(self, path: str, headers: dict[str, str], content: bytes) -> httpx.Response:
        """Send a POST and return the response, whose body has not been read yet."""
        request = httpx.Request(
            "POST",
            find_url(self._config.base_url, path),
            headers=self._headers | headers | trace_headers(),
            content=content,
            extensions={"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}},
        )
        return await self._transport.handle_async_request(request)

    @property
    def _worker_headers(self) -> dict[str, str]:
        """The headers of every call of the worker API."""
        return {"Authorization": f"Bearer {self._config.worker_secret}", CONTRACT_HEADER: str(CONTRACT_VERSION)}


def _chunk_path(message: ChunkMessage, verb: str) -> str:
    """Return the path of a call for the chunk, below the path of the worker API."""
    return f"chunks/{message.chunk_id}/{verb}"


async def _next_piece(pieces: AsyncIterator[bytes], settle_by: float) -> bytes:
    """Return the next piece of an answer, or b"" at its end. The next row gets as much time as a create call."""
    async with asyncio.timeout(call_timeout_seconds(settle_by - time.monotonic())):
        return await anext(pieces, b"")


def _row_answer(line: BatchLine) -> Answer:
    return Answer(line.status, httpx.Headers(line.headers, encoding="utf-8"), line.body.encode(errors="replace"))


def _read_body(body_type: type[AnswerBody], answer: Answer, verb: str) -> AnswerBody:
    """Decode a response of the worker API. Raises ChunkReturned if it does not follow the contract."""
    try:
        return body_type.from_dict(answer.json())
    except MessageError as error:
        raise ChunkReturned(f"The monolith's response to {verb} is malformed: {error}") from error
