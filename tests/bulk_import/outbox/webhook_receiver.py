"""A receiver of webhooks on a free port of this machine, and the check of a signature, written from the specification.

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

SECRET = "whsec_" + base64.b64encode(b"the first secret of this receiver").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"the other secret of this receiver").decode()


@dataclass(frozen=True)
class Delivery:
    """One POST, as it came."""

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


def answer(status: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return send


@dataclass
class Receiver:
    """What came, and what the next ones are answered; `released` ends an answer that waits for it."""

    url: str
    deliveries: list[Delivery] = field(default_factory=list)
    answer: Callable[[BaseHTTPRequestHandler], None] = field(default_factory=lambda: answer(204))
    released: threading.Event = field(default_factory=threading.Event)

    def hang(self, _handler: BaseHTTPRequestHandler) -> None:
        self.released.wait()

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """A header that never ends, a letter at a time."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not self.released.wait(0.05):
            handler.wfile.write(b"x")

    def talk(self, handler: BaseHTTPRequestHandler) -> None:
        """A body that never ends."""
        answer(200)(handler)
        while not self.released.is_set():
            handler.wfile.write(b"x" * 65536)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_request: Any) -> None:
        """The sender hung up, as it should."""


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
        server.server_close()  # waits for the answers that were waiting
        thread.join()
