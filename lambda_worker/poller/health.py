"""Health endpoints for a container platform.

    GET /live    200 while the process runs, also while it finishes its last invocations
    GET /ready   200 while SQS responds or an invocation runs; otherwise 503, also before the first response and
                 while the process stops

If SQS is unreachable, the poller is not ready but alive: a restart would not help. An invocation that hangs does not
affect either endpoint, because its timeout kills it.
"""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SILENCE_SECONDS = 30
"""How long SQS may take to respond, in addition to the long poll, before the poller reports that it is not ready."""


class Health:
    """The state that all slots of one poller update, and the HTTP server that reports it."""

    def __init__(self, stop: threading.Event, wait_seconds: int) -> None:
        self._stop = stop
        self._max_silence = wait_seconds + SILENCE_SECONDS
        self._received_at = float("-inf")  # in the time of time.monotonic()
        self._running = 0
        self._lock = threading.Lock()

    def received(self) -> None:
        """Record that SQS responded, with or without messages."""
        self._received_at = time.monotonic()

    def begin(self) -> None:
        """Record that an invocation starts."""
        with self._lock:
            self._running += 1

    def end(self) -> None:
        """Record that an invocation ended. The time that SQS has to respond starts again."""
        with self._lock:
            self._running -= 1
        self.received()

    def is_ready(self) -> bool:
        sqs_responds = time.monotonic() - self._received_at <= self._max_silence
        return not self._stop.is_set() and (sqs_responds or self._running > 0)

    def serve(self, port: int) -> ThreadingHTTPServer:
        """Start the HTTP server in a thread. Raises OSError if the port is in use."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # seconds; a client that sends nothing does not block a thread for longer

            def do_GET(self) -> None:
                answers = {"/live": True, "/ready": health.is_ready()}
                is_well = answers.get(self.path)
                status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
                self.send_response(HTTPStatus.NOT_FOUND if is_well is None else status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing: the platform sends a request every few seconds."""

        server = ThreadingHTTPServer(("", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        return server
