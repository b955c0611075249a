"""Replays the rows of a batch as create calls, within the process.

Each row passes the site's whole middleware stack and its URLconf, as a request that came over the network does. For
this, each process has a second WSGI handler, which is built for the first batch.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from contextvars import copy_context
from functools import cache
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http.request import HttpHeaders

from bulk_import_wire.batch import BatchLine
from bulk_import_wire.contract import (
    IDEMPOTENCY_KEY,
    LOAD_HEADER,
    MAX_ANSWER_BYTES,
    VERDICT_HEADER,
    Outcome,
    RowVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

ANSWER_HEADERS = (VERDICT_HEADER, "Retry-After", LOAD_HEADER)
"""The headers of the answer to a row that the worker needs."""

IN_LEDGER = {*map(str, Outcome), RowVerdict.REPLAYED.value}
"""The verdicts of rows that are in the ledger. The worker does not need the bodies of these answers."""

NOT_OF_A_ROW = frozenset(
    {
        "HTTP_AUTHORIZATION",  # the worker secret, which must not reach the site's own code
        "HTTP_BULK_IMPORT_CONTRACT",
        "HTTP_TRANSFER_ENCODING",
        "REDIRECT_URL",
        "SCRIPT_URL",
        "wsgi.file_wrapper",
    }
)
"""Keys of the batch call's environ that its rows must not have."""


class Replay:
    """Replays rows as create calls. They come from the client of the batch call, and have its headers and `headers`.

    `path` is the path of the create endpoint within the site. `environ` is added to the WSGI environ of each call.
    """

    def __init__(self, batch: HttpRequest, path: str, headers: Mapping[str, str], environ: Mapping[str, Any]) -> None:
        script_name = batch.META["SCRIPT_NAME"]
        self._environ: dict[str, Any] = {
            "wsgi.errors": sys.stderr,  # ASGI servers have no environ; Django builds one with less
            "wsgi.url_scheme": getattr(batch, "scope", {}).get("scheme", "http"),
            **{key: value for key, value in batch.META.items() if key not in NOT_OF_A_ROW},
            **HttpHeaders.to_wsgi_names(headers),
            **environ,
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": script_name.encode().decode("latin-1"),  # WSGI decodes all bytes like this
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": "",
        }
        for key in self._environ.keys() & {"RAW_URI", "REQUEST_URI"}:  # of gunicorn, uWSGI and Apache
            self._environ[key] = script_name.rstrip("/") + path
        self._kept: dict[BaseDatabaseWrapper, float] = {}

    @contextmanager
    def kept_connections(self) -> Iterator[None]:
        """Keep the database connections open from row to row, and let Django close them after the batch.

        Django closes a connection that is older than CONN_MAX_AGE at the end of each request, so also at the end of
        each row. By default, it would open a new connection for each row, and the batch call itself would lose its own.
        """
        self._keep_connections()
        try:
            yield
        finally:
            for connection, close_at in self._kept.items():
                connection.close_at = close_at
            self._kept.clear()

    def _keep_connections(self) -> None:
        for connection in connections.all(initialized_only=True):
            if connection.close_at is not None:
                self._kept[connection] = connection.close_at
                connection.close_at = None

    def create(self, index: int, key: str, row: bytes) -> BatchLine:
        """Make the create call of a row, with the key `<job id>:<row index>`, and return its answer."""
        environ = {
            **self._environ,
            **HttpHeaders.to_wsgi_names({IDEMPOTENCY_KEY: key, "Content-Length": str(len(row))}),
            "wsgi.input": BytesIO(row),
        }
        # The batch call has not ended yet. Django keeps the language, the time zone, the URLconf and the script prefix
        # in context variables, so what a row changes there ends with the copy.
        response, body = copy_context().run(self._call, environ)
        headers = {name: response.headers[name] for name in ANSWER_HEADERS if name in response.headers}
        is_in_ledger = headers.get(VERDICT_HEADER) in IN_LEDGER
        return BatchLine(index, response.status_code, headers, "" if is_in_ledger else body.decode(errors="replace"))

    def _call(self, environ: dict[str, Any]) -> tuple[HttpResponseBase, bytes]:
        """Make a call as a server does, and return the response and its body."""
        with _one_builds:
            handler = _handler()
        response: HttpResponseBase = handler(environ, lambda *_arguments: None)
        try:
            return response, _read(response)
        finally:
            self._keep_connections()  # those that the row has opened, before Django may close them
            response.close()


_one_builds = Lock()
"""Without it, two threads whose first batches begin at the same time would both build a handler."""


@cache
def _handler() -> Any:
    """Return the handler that replays the rows. It contains another instance of each middleware of the site."""
    return WSGIHandler()


def _read(response: Any) -> bytes:
    """Read the whole response, as a server does, and return its first MAX_ANSWER_BYTES."""
    body = bytearray()
    for piece in response:
        body += piece[: MAX_ANSWER_BYTES - len(body)]
    return bytes(body)
