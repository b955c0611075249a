"""The monolith on a real server, with access to its memory usage."""

from __future__ import annotations

import json
import socket
import sys
import time
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

from bulk_import.local.processes import stop_process
from demo.stack import START_GUNICORN, LocalStack, local_stack

if TYPE_CHECKING:
    from collections.abc import Iterator

MEBIBYTE = 1024 * 1024
JSON = "application/json"
PATH = "/products/bulk"
AUTHORIZATION = "Basic " + b64encode(b"demo:demo").decode()

only_on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads and resets memory peaks in /proc")


class Monolith(NamedTuple):
    """gunicorn with one worker."""

    stack: LocalStack
    worker_pid: int

    @property
    def url(self) -> str:
        return self.stack.url

    def post(self, body: Any, content_type: str = JSON, query: str = "", **headers: str) -> httpx.Response:
        headers |= {"Authorization": AUTHORIZATION, "Content-Type": content_type}
        url = f"{self.url}{PATH}{query}"
        return httpx.post(url, content=body, headers=headers, timeout=60, trust_env=False)

    def converse(self, *lines: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        """Send the head of a request and perhaps a part of its body, and return the status and JSON of the answer."""
        address = urlsplit(self.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            head = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: {AUTHORIZATION}", *lines, "", ""]
            connection.sendall("\r\n".join(head).encode() + body)
            if body:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while not answer.endswith(b"}") and (piece := connection.recv(65536)):
                answer += piece
        status, document = answer.split()[1], answer.partition(b"\r\n\r\n")[2]
        return int(status), json.loads(document)

    def reset_memory_peak(self) -> int:
        """Reset the memory peak, and return the memory in use now, in bytes."""
        Path(f"/proc/{self.worker_pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def memory(self, name: str) -> int:
        status = Path(f"/proc/{self.worker_pid}/status").read_text()
        (kibibytes,) = [line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")]
        return int(kibibytes) * 1024


@contextmanager
def running_monolith(*options: str) -> Iterator[Monolith]:
    """Run the monolith with S3, SQS and a new database. `options` are options of gunicorn."""
    with local_stack() as stack:
        arguments = [argument for argument in START_GUNICORN if not argument.startswith("--workers")]
        process = stack._start([*arguments, "--workers=1", *options, f"--bind={urlsplit(stack.url).netloc}"])
        try:
            while True:
                assert process.poll() is None, stack.log
                try:
                    httpx.get(f"{stack.url}/admin/login/", trust_env=False)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield Monolith(stack, int(child))
        finally:
            stop_process(process)
