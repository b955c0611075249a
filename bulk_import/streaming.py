"""Streams a response piece by piece, under WSGI and under ASGI.

Under ASGI, Django reads a normal iterator to its end before it sends the first byte, so the whole response would be in
memory. It needs an asynchronous iterator.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from django.http import HttpRequest


def read_ahead(pieces: Iterator[bytes]) -> Generator[bytes]:
    """Read the first piece now, and return a generator of all pieces that are not empty.

    So an exception, for example because S3 is not available, is raised before the response starts. The answer is then
    a 503, not a 200 with a broken body.
    """
    first = next(pieces, b"")
    return (piece for piece in chain([first], pieces) if piece)


def streaming_response(request: HttpRequest, pieces: Generator[bytes]) -> StreamingHttpResponse:
    """Return a response with these pieces, which are made while the response is sent."""
    return StreamingHttpResponse(_asynchronously(pieces) if isinstance(request, ASGIRequest) else pieces)


async def _asynchronously(pieces: Generator[bytes]) -> AsyncIterator[bytes]:
    """Yield the pieces. Each one is made in the thread of the request, which has the database connection."""
    try:
        while piece := await sync_to_async(lambda: next(pieces, b""))():
            yield piece
    finally:  # also if the client has disconnected
        await sync_to_async(pieces.close)()
