"""The worker secret comes from Secrets Manager. A rotated secret takes effect without a restart."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from lambda_worker import stored_secret
from lambda_worker.config import ConfigurationError
from lambda_worker.handler import handler
from lambda_worker.stored_secret import StoredSecret
from tests.lambda_worker.conftest import Buckets, Context, HttpServer, Queue, a_row

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@pytest.fixture
def secret_id(secrets: SecretsManagerClient) -> str:
    return secrets.create_secret(Name=f"worker-{uuid.uuid4()}", SecretString="first")["ARN"]


@pytest.fixture
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the cached secret expire at once."""
    monkeypatch.setattr(stored_secret, "MAX_AGE_SECONDS", 0)


def test_the_secret_is_cached(secrets: SecretsManagerClient, secret_id: str) -> None:
    stored = StoredSecret(secrets, secret_id)
    assert stored.value() == "first"

    secrets.put_secret_value(SecretId=secret_id, SecretString="second")

    assert stored.value() == "first"


@pytest.mark.usefixtures("_no_cache")
def test_a_rotated_secret_is_used_after_the_cache_expires(secrets: SecretsManagerClient, secret_id: str) -> None:
    stored = StoredSecret(secrets, secret_id)
    assert stored.value() == "first"

    secrets.put_secret_value(SecretId=secret_id, SecretString="second\n")

    assert stored.value() == "second"


@pytest.mark.usefixtures("_no_cache")
@pytest.mark.parametrize("mishap", ["deleted", "emptied"])
def test_the_last_known_secret_is_used_while_no_other_can_be_read(
    secrets: SecretsManagerClient, secret_id: str, caplog: pytest.LogCaptureFixture, mishap: str
) -> None:
    stored = StoredSecret(secrets, secret_id)
    assert stored.value() == "first"

    if mishap == "deleted":
        secrets.delete_secret(SecretId=secret_id, ForceDeleteWithoutRecovery=True)
    else:
        secrets.put_secret_value(SecretId=secret_id, SecretString=" ")

    assert stored.value() == "first"
    assert "continues with the secret that it read before" in caplog.text
    assert "first" not in caplog.text


def test_a_secret_that_has_never_been_read_is_an_error_that_says_why(secrets: SecretsManagerClient) -> None:
    with pytest.raises(ConfigurationError, match="ResourceNotFoundException"):
        StoredSecret(secrets, "missing").value()


@pytest.fixture
def _stored(monkeypatch: pytest.MonkeyPatch, _environment: None, secret_id: str) -> None:
    """Configure the function with the ID of the secret instead of the secret."""
    monkeypatch.delenv("BULK_IMPORT_WORKER_SECRET")
    monkeypatch.setenv("BULK_IMPORT_WORKER_SECRET_ID", secret_id)


@pytest.mark.usefixtures("_no_backoff", "_stored", "_no_cache")
def test_a_function_uses_the_rotated_secret_in_the_same_process(
    secrets: SecretsManagerClient, secret_id: str, buckets: Buckets, queue: Queue, monolith_server: HttpServer
) -> None:
    used = []
    for secret in ("first", "second"):
        secrets.put_secret_value(SecretId=secret_id, SecretString=secret)
        monolith_server.requests.clear()
        queue.send(buckets.store([a_row(0)]).encode())
        assert queue.deliver(handler, Context()) == []
        used.append({request.headers["Authorization"] for request in monolith_server.requests})

    assert ["Bearer first" in first for first in used] == [True, False]
    assert ["Bearer second" in first for first in used] == [False, True]
