"""The worker's configuration, from environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bulk_import_wire.contract import WORKER_API_PATH
from bulk_import_wire.urls import is_http_url

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = {
    "BULK_IMPORT_BASE_URL": "the monolith's URL, for example https://shop.example",
    "BULK_IMPORT_PAYLOADS_BUCKET": "the bucket in which the monolith stores payloads",
    "BULK_IMPORT_FAILURES_BUCKET": "the bucket for the rows that were not created",
    "BULK_IMPORT_QUEUE_URL": "the queue that this worker reads, for the copies of deferred messages",
}
"""Variables that must be set, with their meaning for the error message."""

SECRETS = {
    "BULK_IMPORT_WORKER_SECRET": "one of the monolith's WORKER_SECRETS",
    "BULK_IMPORT_WORKER_SECRET_ID": "ARN or name of the secret in AWS Secrets Manager that contains one",
}
"""Variables of which at least one must be set, with their meaning for the error message."""


class ConfigurationError(Exception):
    """The worker is not configured completely. The message names what an operator has to set.

    It ends the invocation, and Lambda logs it under this name.
    """


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """The URLs and buckets that the worker may use. It uses no others, even if a message names them.

    The class has no repr, so that no log line can contain the secret.
    """

    base_url: str
    worker_secret: str  # "" if it is still to be fetched from Secrets Manager
    payloads_bucket: str
    failures_bucket: str
    queue_url: str
    worker_api_path: str = WORKER_API_PATH
    worker_secret_id: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the configuration. Raises ConfigurationError, which names all missing variables at once."""
        missing = [f"{name} ({meaning})" for name, meaning in REQUIRED.items() if not environ.get(name)]
        if not any(environ.get(name) for name in SECRETS):
            missing.append(" or ".join(f"{name} ({meaning})" for name, meaning in SECRETS.items()))
        if missing:
            raise ConfigurationError("Set " + ", ".join(missing))
        base_url = environ["BULK_IMPORT_BASE_URL"].rstrip("/")
        if not is_http_url(base_url):
            raise ConfigurationError("BULK_IMPORT_BASE_URL must be like https://shop.example, with http:// or https://")
        return cls(
            base_url=base_url,
            worker_secret=environ.get("BULK_IMPORT_WORKER_SECRET", ""),
            payloads_bucket=environ["BULK_IMPORT_PAYLOADS_BUCKET"],
            failures_bucket=environ["BULK_IMPORT_FAILURES_BUCKET"],
            queue_url=environ["BULK_IMPORT_QUEUE_URL"],
            worker_api_path=environ.get("BULK_IMPORT_WORKER_API_PATH", WORKER_API_PATH).rstrip("/") + "/",
            worker_secret_id=environ.get("BULK_IMPORT_WORKER_SECRET_ID", ""),
        )
