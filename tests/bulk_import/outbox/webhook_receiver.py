"""A webhook receiver on a free port of this machine, and a signature check that follows the specification.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from pytest_django import Settings

SECRET = "whsec_" + base64.b64encode(b"the first secret of this receiver").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"the other secret of this receiver").decode()


@dataclass(frozen=True)
class Delivery:
    """One POST as it was received."""

    headers: Message
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def is_signed_with(self, secret: str) -> bool:
        return is_signed(
            secret, self.id, self.headers["webhook-timestamp"], self.body, self.headers["webhook-signature"]
        )


def is_signed(secret: str, webhook_id: str, timestamp: str, body: bytes, signatures: str) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, b".".join([webhook_id.encode(), timestamp.encode(), body]), hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}" in signatures.split(" ")


def use_receiver(settings: Settings, url: str, *secrets: str) -> None:
    """Send webhooks to this URL; to "" for none."""
    settings.DEBUG = True  # without it, the receiver needs https
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WEBHOOK_URL": url, "WEBHOOK_SECRETS": list(secrets)}


def answer(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return send


@dataclass
class Receiver:
    """Keeps what it has received. `answer` sends the next responses; `released` ends those that wait."""

    url: str
    deliveries: list[Delivery] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] = field(default_factory=lambda: answer(204))
    released: threading.Event = field(default_factory=threading.Event)

    def hang(self, _handler: BaseHTTPRequestHandler) -> None:
        self.released.wait()

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a header that never ends, one byte at a time."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.released.wait(0.05):
            handler.wfile.write(b"x")

    def talk(self, handler: BaseHTTPRequestHandler) -> None:
        """Send a body that never ends."""
        answer(200)(handler)
        while not self.released.is_set():
            handler.wfile.write(b"x" * 65536)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_request: Any) -> None:
        """Ignore the error: the sender has closed the connection, as it should."""


@contextmanager
def webhook_receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.deliveries.append(Delivery(self.headers, body))
            receiver.answer(self)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}/hooks")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        server.server_close()  # waits until every response has ended
        thread.join()
