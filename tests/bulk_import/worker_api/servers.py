"""Call the site as a WSGI or an ASGI server does, in the thread of the test.

Unlike Django's test client, they leave nothing out: each request sends `request_started` and `request_finished`, with
which Django closes its old database connections.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Answer:
    """The answer to a request, whose body was read to its end. The names of the headers are those of the site."""

    status: int
    headers: dict[str, str]
    content: bytes


class Server(Protocol):
    """One process of the site, with the settings and middleware that it has when it starts."""

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer: ...


class WSGIServer:
    """See Server."""

    def __init__(self) -> None:
        self._handler: Any = WSGIHandler()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        environ = RequestFactory().generic("POST", path, body, headers=dict(headers)).environ
        response = self._handler(environ, lambda *_start: None)
        content = b"".join(response)
        response.close()
        return Answer(response.status_code, dict(response.headers), content)


class ASGIServer:
    """See Server. Each request has a context of its own, as the task of a request has in a server."""

    def __init__(self) -> None:
        self._handler: Any = ASGIHandler()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        return copy_context().run(async_to_sync(self._post), path, body, headers)

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        arriving, sent = [{"type": "http.request", "body": body}], list[dict[str, Any]]()

        async def receive() -> dict[str, Any]:
            if not arriving:
                await asyncio.Event().wait()  # the client never disconnects
            return arriving.pop()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        names = {"Host": "testserver", "Content-Length": str(len(body)), **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in names.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("testserver", 80),
        }
        await self._handler(scope, receive, send)
        start, *pieces = sent
        content = b"".join(piece.get("body", b"") for piece in pieces)
        return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content)
