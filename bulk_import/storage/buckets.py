"""Opens the buckets, with timeouts of our own: a web thread must not wait for long when S3 does not answer."""

from __future__ import annotations

from typing import Any

from botocore.config import Config
from django.core.files.storage import storages

CONNECT_TIMEOUT_SECONDS = 1
READ_TIMEOUT_SECONDS = 3
"""Timeouts of one attempt. S3 normally answers within a fraction of a second."""

ATTEMPTS = 2
"""Attempts for each request. Two attempts of 4 s and the delay between them take less than 10 s."""

LIMITS = Config(
    connect_timeout=CONNECT_TIMEOUT_SECONDS,
    read_timeout=READ_TIMEOUT_SECONDS,
    retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
)


def open_bucket(alias: str) -> tuple[Any, Any]:
    """Return the storage with this alias in STORAGES, and its S3 client, which respects LIMITS.

    The storage's own timeouts and retries, if STORAGES sets any, have no effect. Its other options stay.
    """
    storage: Any = storages[alias]
    if storage.client_config.connect_timeout != CONNECT_TIMEOUT_SECONDS:  # the client is built once for each thread
        storage.client_config = storage.client_config.merge(LIMITS)
    return storage, storage.connection.meta.client
