"""HTTP to the monolith: the worker API and the create endpoint. The one place that knows the HTTP client.

httpx's API on aiohttp's connections: httpx's own pool takes ten times the CPU. Whatever a transport error
calls itself, it means "may have happened": it becomes Unreachable, and the key makes asking again safe.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from bulk_import_wire.contract import (
    IDEMPOTENCY_KEY,
    IMPORT_SCHEME,
    REQUEST_ID,
    VERDICT_HEADER,
    Claim,
    ClaimRequest,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    MessageError,
    Release,
    ReleaseAnswer,
    RowVerdict,
)
from lambda_worker.exceptions import (
    ChunkClosed,
    ChunkDeferred,
    ChunkReturned,
    MessageRefused,
    StaleEpoch,
    Unreachable,
)
from lambda_worker.retries import MAX_TRIES, backoff_seconds, retry_after_seconds
from lambda_worker.tracing import trace_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bulk_import_wire.contract import ChunkMessage
    from lambda_worker.config import Config

MAX_ANSWER_BYTES = 64 * 1024
"""What is read of an answer; an endpoint's error for one row is far smaller."""

CONNECT_TIMEOUT_SECONDS = 5
API_TIMEOUT_SECONDS = 30
"""For a call of the worker API; a finish waits for the create calls that are still under way."""

AWAY_SECONDS = 30
"""After which a message is worth another delivery when the worker API was away, unless it asks for more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, its body cut off at MAX_ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def row_verdict(self) -> str:
        """The ledger's word; "" for none, or one that we do not know."""
        word = self.headers.get(VERDICT_HEADER, "")
        return word if word in set(RowVerdict) else ""

    def json(self) -> Any:
        """The decoded body; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


class MonolithClient:
    """Use as `async with`: its connections are for one invocation, whose id each call tells.

    Of httpx there is the transport alone, without a client around it: nothing follows a redirect, keeps a cookie that
    would speak for the next row, or asks the environment for a proxy, and a call takes half of the time.
    """

    def __init__(self, config: Config, request_id: str) -> None:
        self._config = config
        self._headers = {
            "Accept-Encoding": "identity",  # a compressed answer could grow a thousandfold in memory
            "User-Agent": "django-bulk-import",
            REQUEST_ID: request_id,
        }
        self._transport = AiohttpTransport(
            client=lambda: aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),  # the concurrency limit is the bound
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._transport.aclose()

    async def create(self, claim: Claim, key: str, row: bytes, timeout_seconds: float) -> Answer:
        """The create call of one row; `key` is `<job id>:<row index>`. Raises Unreachable."""
        headers = {
            "Authorization": f"{IMPORT_SCHEME} {claim.token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Language": claim.language or "*",
            IDEMPOTENCY_KEY: key,
        }
        return await self._post(claim.create_path, headers, row, timeout_seconds)

    async def claim(self, message: ChunkMessage, claimant: str, *, creates: bool = True) -> Claim:
        """Raises ChunkClosed, MessageRefused for a message that is not the chunk's own, and ChunkReturned.

        ChunkDeferred while another worker has the chunk, or the job is paused.
        """
        answer = await self._call(message, "claim", ClaimRequest(message.to_dict(), claimant, creates).to_dict())
        try:
            claim = Claim.from_dict(answer.json())
        except MessageError as error:
            raise ChunkReturned(f"The monolith's answer to claim is malformed: {error}") from error
        if not claim.create_path.startswith("/") or claim.create_path.startswith("//"):
            raise ChunkReturned("The create path must be a path on the monolith.")
        if claim.heartbeat_seconds < 1 or any(len(pair) != 2 for pair in claim.created):  # noqa: PLR2004 - a pair
            raise ChunkReturned("The monolith's answer to claim is malformed.")
        return claim

    async def heartbeat(self, message: ChunkMessage, epoch: int) -> HeartbeatAnswer:
        """Raises StaleEpoch, ChunkClosed, MessageRefused, ChunkReturned."""
        answer = await self._call(message, "heartbeat", Heartbeat(epoch=epoch).to_dict(), tries=1)
        try:
            return HeartbeatAnswer.from_dict(answer.json())
        except MessageError as error:
            raise ChunkReturned(f"The monolith's answer to heartbeat is malformed: {error}") from error

    async def release(self, message: ChunkMessage, release: Release) -> ReleaseAnswer:
        """Raises StaleEpoch, ChunkReturned when it was not accepted."""
        answer = await self._call(message, "release", release.to_dict())
        try:
            return ReleaseAnswer.from_dict(answer.json())
        except MessageError as error:
            raise ChunkReturned(f"The monolith's answer to release is malformed: {error}") from error

    async def finish(self, message: ChunkMessage, finish: Finish, *, is_dead: bool = False) -> None:
        """Raises StaleEpoch, ChunkReturned when it was not accepted; then the chunk is not finished."""
        verb = "dead" if is_dead else "finish"
        document = (await self._call(message, verb, finish.to_dict())).json()
        if not isinstance(document, dict) or document.get("status") not in {"done", "dead"}:
            raise ChunkReturned(f"The answer to {verb} is not the monolith's.")

    async def _call(self, message: ChunkMessage, verb: str, body: dict[str, Any], tries: int = MAX_TRIES) -> Answer:
        """Call the worker API; an answer other than 200 becomes an exception of what to do about it."""
        path = f"{self._config.worker_api_path}chunks/{message.chunk_id}/{verb}"
        headers = {
            "Authorization": f"Bearer {self._config.worker_secret}",
            "Content-Type": "application/json",
        }
        for tried in range(1, tries + 1):
            try:
                answer = await self._post(path, headers, json.dumps(body).encode(), API_TIMEOUT_SECONDS)
            except Unreachable as error:
                failure: ChunkReturned = _away(f"no answer to {verb}: {error}")
            else:
                if answer.status == httpx.codes.OK:
                    return answer
                if answer.status == httpx.codes.INTERNAL_SERVER_ERROR:  # not away: it stumbles over this chunk
                    failure = ChunkReturned(f"The monolith answered {verb} with 500; its log tells why.")
                elif answer.status < httpx.codes.INTERNAL_SERVER_ERROR:
                    raise _refusal(verb, answer)
                else:
                    failure = _away(f"{verb} was answered {answer.status}", answer)
            if tried < tries:
                await asyncio.sleep(backoff_seconds(tried))
        raise failure

    async def _post(self, path: str, headers: dict[str, str], content: bytes, timeout_seconds: float) -> Answer:
        body = bytearray()
        try:
            request = httpx.Request(
                "POST",
                _url(self._config.base_url, path),
                headers=self._headers | headers | trace_headers(),
                content=content,
                extensions={"timeout": {"connect": CONNECT_TIMEOUT_SECONDS}},  # each call has its own deadline
            )
            async with asyncio.timeout(timeout_seconds):
                response = await self._transport.handle_async_request(request)
                try:
                    async for piece in response.aiter_raw():
                        body += piece
                        if len(body) > MAX_ANSWER_BYTES:
                            break
                finally:
                    await response.aclose()
            return Answer(response.status_code, response.headers, bytes(body[:MAX_ANSWER_BYTES]))
        except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(type(error).__name__) from error


@lru_cache(maxsize=32)
def _url(base_url: str, path: str) -> httpx.URL:
    """Raises httpx.InvalidURL."""
    return httpx.URL(base_url.rstrip("/") + path)


def _away(reason: str, answer: Answer | None = None) -> ChunkDeferred:
    asked = retry_after_seconds(answer.headers.get("Retry-After")) if answer else 0.0
    return ChunkDeferred(f"The worker API is away: {reason}.", delay_seconds=max(asked, AWAY_SECONDS))


def _refusal(verb: str, answer: Answer) -> Exception:
    """What a 3xx or 4xx of the worker API means for the message."""
    document = answer.json()
    code = str(document.get("code", ""))[:50] if isinstance(document, dict) else ""
    if code == "closed":
        return ChunkClosed("The chunk is closed.")
    if code == "stale_epoch":
        return StaleEpoch("Another worker has the chunk.")
    if code in {"lease_held", "paused"}:
        seconds = retry_after_seconds(answer.headers.get("Retry-After"))
        return ChunkDeferred(f"The chunk cannot be claimed now: {code}.", delay_seconds=max(seconds, 1))
    if answer.status == httpx.codes.TOO_MANY_REQUESTS:
        return _away(f"{verb} was answered {answer.status}", answer)
    if code in {"unknown_chunk", "foreign_message", "malformed"}:
        return MessageRefused(f"The monolith does not know this message: {code}.")
    return ChunkReturned(f"The monolith answered {verb} with {answer.status} {code}.")
