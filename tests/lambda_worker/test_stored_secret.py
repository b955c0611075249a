"""The worker secret comes from Secrets Manager, and a rotated one is taken up without a restart."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config as ClientConfig

from lambda_worker import stored_secret
from lambda_worker.exceptions import ConfigurationError
from lambda_worker.handler import handler
from lambda_worker.stored_secret import StoredSecret
from tests.lambda_worker.conftest import Buckets, Context, HttpServer, Monolith, Queue, a_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_secretsmanager import SecretsManagerClient


@pytest.fixture
def client(aws_url: str) -> Iterator[SecretsManagerClient]:
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


@pytest.fixture
def secret_id(client: SecretsManagerClient) -> str:
    return client.create_secret(Name=f"worker-{uuid.uuid4()}", SecretString="first")["ARN"]


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a secret be too old as soon as it was read."""
    monkeypatch.setattr(stored_secret, "MAX_AGE_SECONDS", 0)


def test_it_is_asked_for_once_in_a_while(client: SecretsManagerClient, secret_id: str) -> None:
    stored = StoredSecret(client, secret_id)
    assert stored.value() == "first"

    client.put_secret_value(SecretId=secret_id, SecretString="second")

    assert stored.value() == "first"


@pytest.mark.usefixtures("_at_once")
def test_a_rotated_one_is_taken_up(client: SecretsManagerClient, secret_id: str) -> None:
    stored = StoredSecret(client, secret_id)
    assert stored.value() == "first"

    client.put_secret_value(SecretId=secret_id, SecretString="second\n")

    assert stored.value() == "second"


@pytest.mark.usefixtures("_at_once")
@pytest.mark.parametrize("mishap", ["deleted", "emptied"])
def test_one_that_was_read_is_kept_while_there_is_no_other(
    client: SecretsManagerClient, secret_id: str, caplog: pytest.LogCaptureFixture, mishap: str
) -> None:
    stored = StoredSecret(client, secret_id)
    assert stored.value() == "first"

    if mishap == "deleted":
        client.delete_secret(SecretId=secret_id, ForceDeleteWithoutRecovery=True)
    else:
        client.put_secret_value(SecretId=secret_id, SecretString=" ")

    assert stored.value() == "first"
    assert "stays as it was" in caplog.text
    assert "first" not in caplog.text


def test_one_that_was_never_to_be_had_is_an_error_that_says_why(client: SecretsManagerClient) -> None:
    with pytest.raises(ConfigurationError, match="ResourceNotFoundException"):
        StoredSecret(client, "missing").value()


@pytest.mark.usefixtures("_no_backoff", "_environment", "_at_once")
def test_a_function_goes_on_with_the_rotated_secret_in_the_same_process(
    monkeypatch: pytest.MonkeyPatch,
    client: SecretsManagerClient,
    secret_id: str,
    buckets: Buckets,
    queue: Queue,
    monolith: Monolith,
    monolith_server: HttpServer,
) -> None:
    monkeypatch.delenv("BULK_IMPORT_WORKER_SECRET")
    monkeypatch.setenv("BULK_IMPORT_WORKER_SECRET_ID", secret_id)
    used = []
    for secret in ("first", "second"):
        client.put_secret_value(SecretId=secret_id, SecretString=secret)
        monolith_server.requests.clear()
        queue.send(buckets.store([a_row(0)]).encode())
        assert queue.deliver(handler, Context()) == []
        used.append({request.headers["Authorization"] for request in monolith_server.requests})

    assert ["Bearer first" in first for first in used] == [True, False]
    assert ["Bearer second" in first for first in used] == [False, True]
