"""Fixtures: a shop with two categories, users, S3 and SQS. Helpers that call the worker API as a worker does."""

from __future__ import annotations

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.db.models.functions import Now
from django.test import override_settings
from django.utils.translation import deactivate
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from rest_framework.test import APIClient

from bulk_import.middleware import ImportedRowMiddleware
from bulk_import.models import ImportChunk, ImportedRow
from bulk_import.shop_load import ShopLoad
from bulk_import.worker_api import replay
from bulk_import_wire.contract import Claim, ClaimRequest, Finish, Release
from bulk_import_wire.message import ChunkMessage
from lambda_worker import handler as worker_handler
from products.models import Category

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

WORKER_SECRET = "local-worker-secret-on-loopback-only"


def product(sku: str, **fields: Any) -> dict[str, Any]:
    """Return a row that the shop accepts."""
    return {"sku": sku, "name": "Ridge Tent", "price": "249.90", "currency": "EUR", "category": "tents", **fields}


VISIBILITY_SECONDS = 30
"""How long a received message stays invisible: the default of SQS."""


def moto(service: Any) -> Any:
    """Return the part of moto behind its server that has the buckets or the queues. The server runs in this process."""
    return get_backend(service)[DEFAULT_ACCOUNT_ID]["aws" if service == "s3" else "us-east-1"]


@dataclass(frozen=True)
class Aws:
    """The queue of this test, and the buckets that all tests share."""

    url: str
    s3: S3Client
    sqs: SQSClient
    queue_url: str

    def messages(self) -> list[ChunkMessage]:
        """Receive and delete all messages of the queue, in the order of their rows. HTTP would take 10 ms more."""
        taken: list[ChunkMessage] = []
        sqs, queue = moto("sqs"), self.queue_url.rpartition("/")[2]
        while received := sqs.receive_message(queue, 10, 0, VISIBILITY_SECONDS):
            for message in received:
                taken.append(ChunkMessage.decode(message.body))
                sqs.delete_message(queue, message.receipt_handle)
        return sorted(taken, key=lambda message: message.first_index)

    def payload(self, key: str) -> bytes:
        return self.s3.get_object(Bucket="bulk-import-payloads", Key=key)["Body"].read()

    def payload_keys(self) -> list[str]:
        return [found["Key"] for found in self.s3.list_objects_v2(Bucket="bulk-import-payloads").get("Contents", [])]


def claim_body(message: ChunkMessage) -> dict[str, Any]:
    """Return the body of a claim by a new worker."""
    return ClaimRequest(message.to_dict(), str(uuid.uuid4())).to_dict()


@pytest.fixture(autouse=True)
def _fresh_process() -> None:
    """Remove what the previous test left in the process: throttle counts, the active language, and middleware."""
    cache.clear()
    deactivate()
    replay._handler.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _alone_on_the_machine() -> None:
    """Let create calls not wait for the requests of other tests that run at the same time."""
    ImportedRowMiddleware.shop_load = ShopLoad(shared_file="")


@pytest.fixture(scope="session", autouse=True)
def _aws_settings(aws_url: str) -> Iterator[None]:
    """Let the settings name the moto server from the first test on, so that the clients of S3 and SQS are kept."""
    settings: Any = django_settings
    storages = {name: {**storage} for name, storage in settings.STORAGES.items()}
    for alias in ("bulk_import_payloads", "bulk_import_failures"):
        storages[alias]["OPTIONS"] = {**storages[alias]["OPTIONS"], "endpoint_url": aws_url}
    queue_client = {**settings.BULK_IMPORT["QUEUE_CLIENT"], "endpoint_url": aws_url}
    with override_settings(STORAGES=storages, BULK_IMPORT={**settings.BULK_IMPORT, "QUEUE_CLIENT": queue_client}):
        yield


@pytest.fixture(scope="session")
def _aws_clients(aws_url: str) -> Iterator[tuple[S3Client, SQSClient]]:
    session = boto3.Session("local", "local", region_name="us-east-1")
    s3, sqs = session.client("s3", endpoint_url=aws_url), session.client("sqs", endpoint_url=aws_url)
    yield s3, sqs
    s3.close()
    sqs.close()


@pytest.fixture
def aws(aws_url: str, _aws_clients: tuple[S3Client, SQSClient], settings: Settings) -> Aws:
    """Empty buckets and a new queue on the moto server, as the settings name them."""
    s3, sqs = _aws_clients
    moto("s3").reset()
    for bucket in ("bulk-import-payloads", "bulk-import-failures"):
        moto("s3").create_bucket(bucket, "us-east-1")
    queue_url = moto("sqs").create_queue(f"queue-{uuid.uuid4()}").url(urlsplit(aws_url))
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "QUEUE_URL": queue_url}
    return Aws(aws_url, s3, sqs, queue_url)


def make_user(name: str, *codenames: str, **fields: Any) -> Any:
    user = get_user_model().objects.create_user(name, f"{name}@shop.example", "secret", **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return user


@pytest.fixture
def shop(db: None) -> None:
    Category.objects.create(slug="tents", name="Tents")
    Category.objects.create(slug="cookware", name="Cookware")


@pytest.fixture
def merchandiser(shop: None) -> Any:
    """A user who may create products."""
    return make_user("merchandiser", "add_product", "view_product")


@pytest.fixture
def client_of_merchandiser(merchandiser: Any) -> APIClient:
    client = APIClient()
    client.force_login(merchandiser)
    return client


@pytest.fixture
def worker() -> APIClient:
    """A client with the worker secret."""
    return APIClient(headers={"Authorization": f"Bearer {WORKER_SECRET}"})


@pytest.fixture
def site(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws) -> Any:
    """A client, and a worker that carries out its jobs in this process."""
    from tests.bulk_import.site import Site  # noqa: PLC0415 - it imports this module

    return Site(client_of_merchandiser, worker, aws)


class Context:
    """A Lambda context with a minute left."""

    aws_request_id = function_name = function_version = memory_limit_in_mb = invoked_function_arn = ""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


@pytest.fixture
def run_worker(aws: Aws, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs the Lambda handler on all messages of the queue, against the monolith on a real server."""
    for name, value in {
        "BULK_IMPORT_BASE_URL": live_server.url,
        "BULK_IMPORT_WORKER_SECRET": WORKER_SECRET,
        "BULK_IMPORT_PAYLOADS_BUCKET": "bulk-import-payloads",
        "BULK_IMPORT_FAILURES_BUCKET": "bulk-import-failures",
        "BULK_IMPORT_QUEUE_URL": aws.queue_url,
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for cached in (worker_handler._environment, worker_handler.s3, worker_handler._sqs, worker_handler._limiters):
        cached.cache_clear()

    def run() -> None:
        assert deliver(aws.messages()) == {"batchItemFailures": []}

    return run


def deliver(messages: list[ChunkMessage]) -> Any:
    """Deliver these messages to the real handler, as SQS does when the delay of a copy is over. Return its response."""
    records: Any = [
        {
            "messageId": message.chunk_id,
            "receiptHandle": "handle",
            "body": message.encode(),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
        }
        for message in messages
    ]
    return worker_handler.handler({"Records": records}, Context())


def post_bytes(client: Any, path: str, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> Any:
    """POST these bytes as they are. `client.post` would encode them as a form if there is no content type."""
    return client.generic("POST", path, body, content_type=content_type, headers=headers or {})


def post_rows(client: APIClient, rows: Any, path: str = "/products/bulk", **extra: Any) -> Any:
    # Without blanks, like the JSON of a browser and of DRF's test client: a create call must have exactly these bytes.
    body = rows if isinstance(rows, bytes) else json.dumps(rows, separators=(",", ":")).encode()
    return client.post(path, body, content_type="application/json", **extra)


@pytest.fixture
def messages(client_of_merchandiser: APIClient, aws: Aws) -> list[ChunkMessage]:
    """The two messages of a job of four rows: rows 0 to 2, and row 3."""
    assert post_rows(client_of_merchandiser, [product(str(n)) for n in range(4)]).status_code == 202
    return aws.messages()


def call(worker: APIClient, verb: str, message: ChunkMessage, body: dict[str, Any] | None = None) -> Any:
    """Call the worker API. The default body is that of a claim."""
    path = f"/bulk-import/worker/chunks/{message.chunk_id}/{verb}"
    return worker.post(path, claim_body(message) if body is None else body, format="json")


def claim(worker: APIClient, message: ChunkMessage) -> Claim:
    return Claim.from_dict(call(worker, "claim", message).json())


def expire_lease(message: ChunkMessage) -> None:
    chunks = ImportChunk.objects.filter(pk=message.chunk_id)
    chunks.update(lease_expires_at=Now() - timedelta(seconds=1))


def record(message: ChunkMessage, *indexes: int) -> None:
    """Write the ledger records of these rows, as create calls do."""
    for index in indexes:
        ImportedRow.objects.create(job_id=message.job_id, index=index, body_sha256=b"")


def finish(epoch: int, **fields: Any) -> dict[str, Any]:
    none = Finish(epoch=epoch, rejected=0, failed=0, unprocessed=0, failures_key="", problems=[])
    return replace(none, **fields).to_dict()


def release(epoch: int, **fields: Any) -> dict[str, Any]:
    return replace(Release(epoch=epoch, failures_key="", pause="", retry_after_seconds=0), **fields).to_dict()


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Start the calls at the same moment, each with its own database connection, and return their results."""
    together = threading.Barrier(len(calls))

    def call_together(one: Callable[[], Any]) -> Any:
        try:
            together.wait()
            return one()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(call_together, calls))
