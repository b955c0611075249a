"""A small ASGI server for tests, on aiohttp: `python asgi_server.py PORT`. It runs Django's ASGI application."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiohttp import web
from django.core.asgi import get_asgi_application

application = get_asgi_application()


async def answer(request: web.Request) -> web.Response:
    sys.stderr.write(f"{request.method} {request.path}\n")  # the access log
    body, sent, is_read = await request.read(), list[dict[str, Any]](), False

    async def receive() -> dict[str, Any]:
        nonlocal is_read
        if is_read:
            await asyncio.Event().wait()  # the client never disconnects
        is_read = True
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": request.method,
        "path": request.path,
        "raw_path": request.raw_path.encode(),
        "query_string": request.query_string.encode(),
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "server": ("127.0.0.1", int(sys.argv[1])),
        "client": (request.remote, 0),
    }
    await application(scope, receive, send)
    headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return web.Response(status=sent[0]["status"], headers=headers, body=content)


if __name__ == "__main__":
    site = web.Application(client_max_size=10**7)
    site.router.add_route("*", "/{path:.*}", answer)
    web.run_app(site, host="127.0.0.1", port=int(sys.argv[1]), print=None)
