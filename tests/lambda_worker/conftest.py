"""Fixtures of the worker's tests: a real HTTP server on loopback, a fake monolith, and S3 and SQS from moto."""

from __future__ import annotations

import asyncio
import json
import platform
import socket
import threading
import time
import uuid
import zipfile
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.config import Config as ClientConfig

from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    IDEMPOTENCY_KEY,
    VERDICT_HEADER,
    Claim,
    HeartbeatAnswer,
    ReleaseAnswer,
    RowVerdict,
)
from bulk_import_wire.message import ChunkMessage
from lambda_worker import endpoint_health, package, retries
from lambda_worker import handler as handler_module
from lambda_worker.config import Config
from lambda_worker.deadlines import Deadlines
from lambda_worker.monolith_client import MonolithClient
from lambda_worker.poller.event_source import to_record
from tests.virtual_environment import environment_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from email.message import Message

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord

WORKER_SECRET = "worker-secret-never-to-be-shown"
TOKEN = "token-never-to-be-shown"
JOB_ID = "01990000-0000-7000-8000-000000000001"
CREATE_PATH = "/products/"

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    method: str
    path: str
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """A response. With `cut_at`, the server closes the connection after that many bytes of the body.

    If `cut_at` is -1, it closes the connection before it sends anything. With `after`, it first waits for this event.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_at: int | None = None
    after: threading.Event | None = None


def json_reply(status: int, document: object, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(document).encode(), named)


class HttpServer(ThreadingHTTPServer):
    """Answers each request with the reply that `respond` returns, and records all requests."""

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
        if reply.after:
            reply.after.wait()
        if reply.cut_at is not None:
            self.close_connection = True
        if reply.cut_at == -1:
            return
        self.send_response(reply.status)
        # The worker API of the monolith marks its answers. A maintenance page in its place does not.
        marks = {} if reply.body.startswith(b"<") else {CONTRACT_HEADER: str(CONTRACT_VERSION)}
        for name, value in {"Content-Length": str(len(reply.body)), **marks, **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut_at])

    def handle_expect_100(self) -> bool:
        """Send "100 Continue" at once. boto3 would wait a second if it stayed in the buffer."""
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
    """Accept one connection, read its request, and pass the connection to `behave`. Yields the URL."""
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
    """Return a behaviour that sends data until the client closes the connection, which makes the sending fail."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(data)
        while True:
            connection.sendall(b"x" * 64 * 1024)

    return behave


class Monolith:
    """The monolith's side of the contract, over HTTP, with a ledger in memory.

    `replies` overrides the answers to a verb of the worker API or to the create calls of a row (by its index). They are
    used in order, and the last one is used for all further calls. A claimant that asks again gets the same epoch, and
    any other claimant gets a new one. A claim contains the failures key of the last release.
    """

    pause_seconds = 37  # the Retry-After of the answer to a release with a pause

    def __init__(self) -> None:
        self.ledger: dict[str, bytes] = {}
        self.created_ranges: list[list[int]] = []
        self.creates: Counter[int] = Counter()
        self.calls: list[str] = []
        self.claimants: list[str] = []
        self.failures_key = ""
        self.reported_calls: list[dict[str, Any]] = []
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
        return json_reply(
            200, HeartbeatAnswer(60, cancelled=False, paused=False, concurrency=self.concurrency).to_dict()
        )

    def _release(self, request: Request) -> Reply:
        release = request.json()
        self.reported_calls.append(release.pop("calls"))
        self.releases.append(release)
        self.failures_key = release["failures_key"]
        seconds = self.pause_seconds if release["pause"] else 0
        return json_reply(200, ReleaseAnswer(seconds).to_dict())

    def _finish(self, request: Request) -> Reply:
        finish = request.json()
        self.reported_calls.append(finish.pop("calls"))
        self.finishes.append(finish)
        return json_reply(200, {"status": "done"})

    def _dead(self, request: Request) -> Reply:
        self.deads.append(request.json())
        return json_reply(200, {"status": "dead"})

    @property
    def indexes(self) -> list[int]:
        """The indexes of the rows in the ledger."""
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
        return override or json_reply(201, {"id": index}, **{VERDICT_HEADER: verdict})


LOST = Reply(cut_at=-1)
"""The endpoint commits the row, but its answer never arrives."""


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
        "cancelled": False,
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
    """The two buckets of one test on the moto server."""

    s3: S3Client
    payloads: str
    failures: str

    def store(self, rows: list[bytes], *, first_index: int = 0, before: bytes = b"", **fields: Any) -> ChunkMessage:
        """Store a payload, and return the message of the chunk with these rows. They follow the bytes `before`."""
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
    """Yield a client without retries, so that a test sees how the worker reacts to each answer."""
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


MAX_RECEIVE_COUNT = 3
QUEUE_ARN = "arn:aws:sqs:us-east-1:123456789012:chunks"


@dataclass(frozen=True)
class Queue:
    """The queue of one test on the moto server, with its dead-letter queue."""

    sqs: SQSClient
    url: str
    dead_letter_url: str

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def receive(self, url: str = "") -> list[SqsRecord]:
        """Receive the messages that are visible now, as records of an event."""
        answer = self.sqs.receive_message(
            QueueUrl=url or self.url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [to_record(message, QUEUE_ARN) for message in answer.get("Messages", [])]

    def deliver(
        self,
        handler: Callable[[SqsEvent, LambdaContext], BatchResponse],
        context: LambdaContext | None = None,
        url: str = "",
    ) -> list[str]:
        """Pass the visible messages to the handler and delete those that are done. Return the bodies of the others."""
        records = self.receive(url)
        answer = handler({"Records": records}, context or Context())
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                self.sqs.delete_message(QueueUrl=url or self.url, ReceiptHandle=record["receiptHandle"])
        return [record["body"] for record in records if record["messageId"] in failed]

    def _count(self, name: QueueAttributeNameType, url: str = "") -> int:
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=[name])
        return int(answer["Attributes"][name])

    @property
    def waiting(self) -> int:
        """The number of messages that can be received now."""
        return self._count("ApproximateNumberOfMessages")

    @property
    def delayed(self) -> int:
        """The number of messages that were sent with a delay which is not over."""
        return self._count("ApproximateNumberOfMessagesDelayed")

    @property
    def resting(self) -> int:
        """The number of messages that were received and are invisible until their visibility timeout ends."""
        return self._count("ApproximateNumberOfMessagesNotVisible")

    @property
    def dead(self) -> int:
        """The number of messages in the dead-letter queue, received or not."""
        names: tuple[QueueAttributeNameType, ...] = (
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
        )
        return sum(self._count(name, self.dead_letter_url) for name in names)


@contextmanager
def sqs_at(url: str) -> Iterator[SQSClient]:
    """Yield a client without retries."""
    sqs = boto3.client(
        "sqs",
        endpoint_url=url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        region_name="us-east-1",
        config=ClientConfig(retries={"total_max_attempts": 1}),
    )
    yield sqs
    sqs.close()


@pytest.fixture
def queue(aws_url: str) -> Iterator[Queue]:
    with sqs_at(aws_url) as sqs:
        name = f"chunks-{uuid.uuid4()}"
        dead_letter_url = sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=dead_letter_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVE_COUNT})
        url = sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
        yield Queue(sqs, url, dead_letter_url)


@pytest.fixture
def secrets(aws_url: str) -> Iterator[SecretsManagerClient]:
    """Yield a client without retries."""
    client = boto3.client(
        "secretsmanager",
        endpoint_url=aws_url,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        region_name="us-east-1",
        config=ClientConfig(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@dataclass(frozen=True)
class Context:
    """The context of an invocation with this much time left."""

    milliseconds_left: int = 60_000
    aws_request_id: str = "request"
    function_name: str = "lambda_worker"
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "1024"
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:lambda_worker"

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds_left


HERE = Path(__file__).parent
ARCHITECTURE = package.MACHINES[platform.machine()]
"""This machine's architecture, under the name that Lambda uses."""


@pytest.fixture(scope="session")
def lambda_python() -> Path:
    """Return the interpreter of the Python version that the Lambda package is for."""
    try:
        return package.find_interpreter()
    except package.PackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def runtime_python(lambda_python: Path) -> Path:
    """Return an interpreter with the packages of Lambda's runtime, awslambdaric and boto3."""
    return environment_of(HERE / "runtime" / "requirements.txt", lambda_python)


@pytest.fixture(scope="session")
def lambda_zip(lambda_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package that is deployed, for this machine's architecture."""
    return package.build(ARCHITECTURE, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def task_root(lambda_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory in which the package is unpacked."""
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(lambda_zip) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def _cold_start() -> Iterator[None]:
    """Give each test an execution environment of its own, without cached configuration and clients."""
    clients = (handler_module.s3, handler_module._sqs)
    made_once = (handler_module._environment, handler_module._stored_secret, handler_module._limiters, *clients)
    for function in made_once:
        function.cache_clear()
    yield
    if handler_module._stored_secret.cache_info().currsize:
        handler_module._stored_secret()._client.close()
    for client in clients:
        if client.cache_info().currsize:
            client().close()
    for function in made_once:
        function.cache_clear()


@pytest.fixture
def function_environment(monolith_server: HttpServer, aws_url: str, buckets: Buckets, queue: Queue) -> dict[str, str]:
    """Return the environment variables of a Lambda function."""
    return {
        "BULK_IMPORT_BASE_URL": monolith_server.url,
        "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
        "BULK_IMPORT_PAYLOADS_BUCKET": buckets.payloads,
        "BULK_IMPORT_FAILURES_BUCKET": buckets.failures,
        "BULK_IMPORT_QUEUE_URL": queue.url,
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture
def _environment(_cold_start: None, monkeypatch: pytest.MonkeyPatch, function_environment: dict[str, str]) -> None:
    """Set these variables for a handler in this process."""
    monkeypatch.delenv("BULK_IMPORT_WORKER_API_PATH", raising=False)
    for name, value in function_environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def monolith() -> Monolith:
    return Monolith()


@pytest.fixture
def monolith_server(monolith: Monolith) -> Iterator[HttpServer]:
    with serving(monolith.respond) as server:
        yield server


@pytest.fixture
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backoff and the retry budget nearly instant. A Retry-After still counts."""
    monkeypatch.setattr(retries, "BACKOFF_BASE_SECONDS", 0.0001)
    monkeypatch.setattr(retries, "MAX_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(retries, "RETRIES_PER_SECOND", 1e6)


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the endpoint count as away after AWAY_AFTER_CALLS, however little time they take."""
    monkeypatch.setattr(endpoint_health, "AWAY_AFTER_SECONDS", 0.0)


ENOUGH_SECONDS = 60.0
"""Longer than any test takes."""


def times(**seconds: float) -> Deadlines:
    """Return deadlines that are so many seconds from now. The default of each is ENOUGH_SECONDS."""
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
    """Return the result of `use`, called with a client of the monolith at this URL."""

    async def run() -> T:
        async with MonolithClient(a_config(url), "the-invocation") as client:
            return await use(client)

    return asyncio.run(run())
