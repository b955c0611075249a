"""An HTTP/1.1 proxy that injects faults: it decides the fate of each request to the server behind it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY_BYTES = 64 * 1024 * 1024
HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length", "Expect", "Date", "Server")
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds: a close is a RST


class Kind(StrEnum):
    """What can happen to a request."""

    PASS = "pass"
    SLOW = "slow"  # the answer is delayed
    LATE = "late"  # the request is delayed; its sender may have ended by then
    RESET = "reset"  # the connection breaks before the server sees the request
    ERROR = "error"  # the proxy answers with an error; the server does not see the request
    CUT = "cut"  # the server answers, but the connection breaks before the answer arrives
    TORN = "torn"  # as CUT, but in the middle of the answer
    SWAPPED = "swapped"  # the server answers, but the proxy answers with an error instead
    HANG = "hang"  # the proxy accepts the request and never answers
    LOST = "lost"  # the proxy answers as SQS does when it has accepted messages; SQS does not see them
    TWICE = "twice"  # the server gets the request twice at the same time
    KILL = "kill"  # a process is killed before the server sees the request
    KILL_AFTER = "kill after"  # as KILL, but after the server answered


BEFORE = {Kind.RESET, Kind.ERROR, Kind.HANG, Kind.KILL}
"""The fates with which the server does not see the request."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one request."""

    kind: Kind = Kind.PASS
    seconds: float = 0.0
    status: int = 503
    retry_after: str = ""  # a Retry-After header


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes


class Proxy:
    """Runs in its own thread between `start` and `stop`. Callers use `url` instead of the server's URL."""

    def __init__(self, server_url: str, label: Callable[[web.Request], str]) -> None:
        self._server_url = server_url
        self._label = label
        self.fate: Callable[[str], Fate] = lambda _label: Fate()
        self.kill: Callable[[str], None] = lambda _label: None
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(
            # One connection per request. If the server closed an idle connection, that would be an unplanned fault.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._client.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionError:  # the caller ended before it had sent the whole request
            return web.Response()
        label = self._label(request)
        fate = self.fate(label)
        if fate.kind == Kind.LOST:
            return _accept_messages(body)
        if fate.kind in BEFORE:
            return await self._keep_from_server(request, fate, label)
        if fate.kind == Kind.LATE:
            await asyncio.sleep(fate.seconds)
        try:
            answers = await asyncio.gather(
                *(self._forward(request, body) for _ in range(2 if fate.kind == Kind.TWICE else 1))
            )
        except (aiohttp.ClientError, OSError):
            return _break_off(request)
        return await self._keep_from_caller(request, fate, label, answers[-1])

    async def _keep_from_server(self, request: web.Request, fate: Fate, label: str) -> web.StreamResponse:
        if fate.kind == Kind.KILL:
            await asyncio.to_thread(self.kill, label)
        if fate.kind == Kind.HANG:
            await _wait_for_disconnect(request)
        return _error(fate) if fate.kind == Kind.ERROR else _break_off(request)

    async def _keep_from_caller(
        self, request: web.Request, fate: Fate, label: str, answer: _Answer
    ) -> web.StreamResponse:
        if fate.kind == Kind.KILL_AFTER:
            await asyncio.to_thread(self.kill, label)
        if fate.kind in {Kind.CUT, Kind.KILL_AFTER}:
            return _break_off(request)
        if fate.kind == Kind.SWAPPED:
            return _error(fate)
        if fate.kind == Kind.TORN and len(answer.body) > 1:
            return await _tear(request, answer)
        if fate.kind in {Kind.PASS, Kind.SLOW}:
            await asyncio.sleep(fate.seconds)
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _forward(self, request: web.Request, body: bytes) -> _Answer:
        url = self._server_url + request.raw_path
        headers = _end_to_end(request.headers)
        async with self._client.request(
            request.method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
        ) as answer:
            return _Answer(answer.status, _end_to_end(answer.headers), await answer.read())


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    kept = CIMultiDict(headers)
    for name in HOP_BY_HOP:
        kept.popall(name, None)
    return kept


def _error(fate: Fate) -> web.Response:
    headers = {"Retry-After": fate.retry_after} if fate.retry_after else {}
    return web.Response(status=fate.status, headers=headers, text="<html>Error of the proxy</html>")


def _accept_messages(body: bytes) -> web.Response:
    """Return SQS's answer to a SendMessageBatch with this body, all of whose messages it accepts."""
    entries = [{"Id": entry["Id"], "MessageId": str(uuid4())} for entry in json.loads(body)["Entries"]]
    return web.json_response({"Successful": entries, "Failed": []}, content_type="application/x-amz-json-1.0")


def _break_off(request: web.Request) -> web.Response:
    """Reset the connection. The returned response is never sent."""
    if transport := request.transport:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        transport.abort()
    return web.Response()


async def _wait_for_disconnect(request: web.Request) -> None:
    while request.transport and not request.transport.is_closing():  # noqa: ASYNC110 - aiohttp has no event for this
        await asyncio.sleep(0.1)


async def _tear(request: web.Request, answer: _Answer) -> web.StreamResponse:
    """Send the first half of the answer, then close the connection."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    try:
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
    except ConnectionError:  # the caller has closed the connection already
        return response
    if transport := request.transport:
        transport.close()  # sends what was written, then closes the connection
    return response
