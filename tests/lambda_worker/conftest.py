"""A real HTTP server on loopback, a monolith and S3 behind the wire, for the tests of the worker."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.config import Config as ClientConfig
from hypothesis import settings

from lambda_worker import retries, row_dispatch
from lambda_worker.config import Config
from lambda_worker.contract import (
    IDEMPOTENCY_KEY,
    ROW_HEADER,
    ChunkMessage,
    Claim,
    HeartbeatAnswer,
    ReleaseAnswer,
    RowVerdict,
)
from lambda_worker.deadlines import Deadlines
from lambda_worker.monolith_client import MonolithClient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from email.message import Message

    from mypy_boto3_s3 import S3Client

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

WORKER_SECRET = "worker-secret-never-to-be-shown"
TOKEN = "token-never-to-be-shown"
JOB_ID = "01990000-0000-7000-8000-000000000001"
CREATE_PATH = "/products/"

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request as the server got it."""

    method: str
    path: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A response; `cut_at` closes the connection after that many bytes of the body, -1 before anything is sent."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: int | None = None


def json_reply(status: int, document: object, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(document).encode(), named)


class HttpServer(ThreadingHTTPServer):
    """Answers with what `respond` makes of a request, and remembers all requests."""

    daemon_threads = True
    request_queue_size = 128  # as many connections as come at once

    def __init__(self, respond: Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        self.respond = respond
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HttpServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers, body)
        self.server.requests.append(request)
        reply = self.server.respond(request)
        if reply.cut_at is not None:
            self.close_connection = True
        if reply.cut_at == -1:
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut_at])

    def handle_expect_100(self) -> bool:
        """Say "100 Continue" at once: what is buffered would make boto3 wait a second."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the base class calls them so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass


@contextmanager
def serving(respond: Callable[[Request], Reply]) -> Iterator[HttpServer]:
    with HttpServer(respond) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def misbehaving(behave: Callable[[socket.socket], object]) -> Iterator[str]:
    """Serve one connection: read its request, then let `behave` have it. Yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(64 * 1024)
                behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def say_without_end(data: bytes) -> Callable[[socket.socket], object]:
    """Until the client hangs up, which makes the sending fail."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(data)
        while True:
            connection.sendall(b"x" * 64 * 1024)

    return behave


class Monolith:
    """The monolith's side of the contract, over HTTP, with a ledger in memory.

    `replies` overrides the answer to a path or to a row's create call (by its index); the last one stays.
    A claimant that asks again has the same epoch, any other a new one; what was released is told to it.
    """

    pause_seconds = 37  # what the answer to a release with a pause asks for

    def __init__(self) -> None:
        self.ledger: dict[str, bytes] = {}
        self.created_ranges: list[list[int]] = []
        self.creates: Counter[int] = Counter()
        self.calls: list[str] = []
        self.claimants: list[str] = []
        self.failures_key = ""
        self.releases: list[dict[str, Any]] = []
        self.finishes: list[dict[str, Any]] = []
        self.deads: list[dict[str, Any]] = []
        self.replies: dict[str | int, list[Reply]] = {}
        self.concurrency = 4
        self._lock = threading.Lock()

    def respond(self, request: Request) -> Reply:
        with self._lock:
            if request.path == CREATE_PATH:
                return self._create(request)
            verb = request.path.rpartition("/")[2]
            self.calls.append(verb)
            if override := self._override(verb):
                return override
            answer: Callable[[Request], Reply] = getattr(self, f"_{verb}")
            return answer(request)

    def _override(self, name: str | int) -> Reply | None:
        replies = self.replies.get(name)
        return None if not replies else replies[0] if len(replies) == 1 else replies.pop(0)

    def _claim(self, request: Request) -> Reply:
        claimant = request.json()["claimant"]
        if claimant not in self.claimants:
            self.claimants.append(claimant)
        claim = a_claim(
            epoch=len(self.claimants),
            created=self.created_ranges or [[index, index] for index in self.indexes],
            failures_key=self.failures_key,
            concurrency=self.concurrency,
        )
        return json_reply(200, claim.to_dict())

    def _heartbeat(self, _request: Request) -> Reply:
        return json_reply(200, HeartbeatAnswer(60, cancelled=False, concurrency=self.concurrency).to_dict())

    def _release(self, request: Request) -> Reply:
        release = request.json()
        self.releases.append(release)
        self.failures_key = release["failures_key"]
        return json_reply(200, ReleaseAnswer(self.pause_seconds if release["pause"] else 0).to_dict())

    def _finish(self, request: Request) -> Reply:
        self.finishes.append(request.json())
        return json_reply(200, {"status": "done"})

    def _dead(self, request: Request) -> Reply:
        self.deads.append(request.json())
        return json_reply(200, {"status": "dead"})

    @property
    def indexes(self) -> list[int]:
        """Of the rows in the ledger."""
        return sorted(int(key.rpartition(":")[2]) for key in self.ledger)

    def _create(self, request: Request) -> Reply:
        key = request.headers[IDEMPOTENCY_KEY]
        index = int(key.rpartition(":")[2])
        self.creates[index] += 1
        override = self._override(index)
        if override and override.cut_at != -1:
            return override
        verdict = RowVerdict.REPLAYED if key in self.ledger else RowVerdict.CREATED
        self.ledger[key] = request.body
        return override or json_reply(201, {"id": index}, **{ROW_HEADER: verdict})


LOST = Reply(cut_at=-1)
"""The endpoint commits, but its answer never arrives."""


def a_claim(**fields: Any) -> Claim:
    known: dict[str, Any] = {
        "epoch": 1,
        "lease_seconds": 60,
        "heartbeat_seconds": 60,
        "create_path": CREATE_PATH,
        "token": TOKEN,
        "language": "en",
        "created": [],
        "failures_key": "",
        "concurrency": 4,
    }
    return Claim(**(known | fields))


def a_message(**fields: Any) -> ChunkMessage:
    known: dict[str, Any] = {
        "job_id": JOB_ID,
        "chunk_id": "01990000-0000-7000-8000-000000000002",
        "bucket": "payloads",
        "key": "payload.jsonl",
        "etag": '"etag"',
        "first_byte": 0,
        "byte_count": 10,
        "first_index": 0,
        "row_count": 1,
    }
    return ChunkMessage(**(known | fields))


def a_row(index: int) -> bytes:
    return b'{"sku":"TENT-%d","price":12.50}' % index


@dataclass(frozen=True)
class Buckets:
    """The test's own two buckets on the moto server."""

    s3: S3Client
    payloads: str
    failures: str

    def store(self, rows: list[bytes], *, first_index: int = 0, before: bytes = b"", **fields: Any) -> ChunkMessage:
        """Store a payload, and return the message of the chunk that holds these rows, `before` being others."""
        lines = b"".join(row + b"\n" for row in rows)
        key = f"{uuid.uuid4()}.jsonl"
        etag = self.s3.put_object(Bucket=self.payloads, Key=key, Body=before + lines + b"{}\n")["ETag"]
        place = {
            "bucket": self.payloads,
            "key": key,
            "etag": etag,
            "first_byte": len(before),
            "byte_count": len(lines),
            "first_index": first_index,
            "row_count": len(rows),
        }
        return a_message(chunk_id=str(uuid.uuid4()), **(place | fields))

    def failure_keys(self) -> list[str]:
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket=self.failures).get("Contents", [])]

    def failure_lines(self, key: str) -> list[dict[str, Any]]:
        body = self.s3.get_object(Bucket=self.failures, Key=key)["Body"].read()
        return [json.loads(line) for line in body.splitlines()]


@contextmanager
def s3_at(url: str) -> Iterator[S3Client]:
    """A client that tries once, so that a test sees what the worker makes of each answer."""
    s3 = boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        region_name="us-east-1",
        config=ClientConfig(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    yield s3
    s3.close()


@pytest.fixture
def buckets(aws_url: str) -> Iterator[Buckets]:
    with s3_at(aws_url) as s3:
        names = f"payloads-{uuid.uuid4()}", f"failures-{uuid.uuid4()}"
        for name in names:
            s3.create_bucket(Bucket=name)
        yield Buckets(s3, *names)


@pytest.fixture
def monolith() -> Monolith:
    return Monolith()


@pytest.fixture
def monolith_server(monolith: Monolith) -> Iterator[HttpServer]:
    with serving(monolith.respond) as server:
        yield server


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries wait for nothing but what the endpoint asks for."""
    monkeypatch.setattr(retries, "BACKOFF_BASE_SECONDS", 0.0001)
    monkeypatch.setattr(retries, "BACKOFF_CAP_SECONDS", 0.001)
    monkeypatch.setattr(retries, "RETRIES_PER_SECOND", 1e6)


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the endpoint count as away after AWAY_AFTER_CALLS, however fast they come."""
    monkeypatch.setattr(row_dispatch, "AWAY_AFTER_SECONDS", 0.0)


ENOUGH_SECONDS = 60.0
"""More than any test takes."""


def times(**seconds: float) -> Deadlines:
    """So many seconds from now on; those that are not said, ENOUGH_SECONDS."""
    names = ("stop_at", "settle_by", "report_by", "end_at")
    now = time.monotonic()
    return Deadlines(**{name: now + seconds.get(name, ENOUGH_SECONDS) for name in names})


def a_config(base_url: str, **fields: str) -> Config:
    known = {
        "worker_secret": WORKER_SECRET,
        "payloads_bucket": "payloads",
        "failures_bucket": "failures",
        "queue_url": "http://127.0.0.1:1/queue",
    }
    return Config(base_url=base_url, **(known | fields))


def with_client(url: str, use: Callable[[MonolithClient], Awaitable[T]]) -> T:
    """What `use` makes of a client of the monolith at this URL."""

    async def run() -> T:
        async with MonolithClient(a_config(url)) as client:
            return await use(client)

    return asyncio.run(run())
