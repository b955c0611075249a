"""What a container platform asks the poller: is it alive, and is it any use?

    GET /live    200 while the process polls, also while it ends its last invocations
    GET /ready   200 while SQS answers it, or an invocation runs; 503 before, after, and while it stops

A restart heals nothing that is outside, so a queue that is away makes the poller unready, not dead. An invocation that
hangs is killed by its time-out.
"""

from __future__ import annotations

import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SILENCE_SECONDS = 30
"""Beyond the long poll: so long SQS may be silent before the poller is unready."""


class Health:
    """Shared by the slots of one poller."""

    def __init__(self, stop: threading.Event, wait_seconds: int) -> None:
        self._stop = stop
        self._patience = wait_seconds + SILENCE_SECONDS
        self._received_at = float("-inf")  # by time.monotonic()
        self._running = 0
        self._lock = threading.Lock()

    def received(self) -> None:
        """SQS has answered, be it with nothing."""
        self._received_at = time.monotonic()

    def begin(self) -> None:
        with self._lock:
            self._running += 1

    def end(self) -> None:
        """The next receive has its time."""
        with self._lock:
            self._running -= 1
        self.received()

    def is_ready(self) -> bool:
        is_heard = time.monotonic() - self._received_at <= self._patience
        return not self._stop.is_set() and (is_heard or self._running > 0)

    def serve(self, port: int) -> ThreadingHTTPServer:
        """Answer in a thread of its own. Raises OSError when the port is taken."""
        health = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # seconds; whoever says nothing holds no thread

            def do_GET(self) -> None:
                answers = {"/live": True, "/ready": health.is_ready()}
                is_well = answers.get(self.path)
                status = HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE
                self.send_response(HTTPStatus.NOT_FOUND if is_well is None else status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """A line every few seconds would tell nothing."""

        server = ThreadingHTTPServer(("", port), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
        return server
