"""The worker's configuration: environment variables, read once per process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bulk_import_wire.contract import WORKER_API_PATH
from bulk_import_wire.urls import is_http_url
from lambda_worker.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUIRED = {
    "BULK_IMPORT_BASE_URL": "the monolith's URL, for example https://shop.example",
    "BULK_IMPORT_PAYLOADS_BUCKET": "the bucket that the monolith stores payloads in",
    "BULK_IMPORT_FAILURES_BUCKET": "the bucket for the rows that were not created",
    "BULK_IMPORT_QUEUE_URL": "the queue that this worker is fed from, to put back what comes too early",
}

SECRETS = {
    "BULK_IMPORT_WORKER_SECRET": "one of the monolith's WORKER_SECRETS",
    "BULK_IMPORT_WORKER_SECRET_ID": "ARN or name of the secret in AWS Secrets Manager that holds one",
}
"""Of these, one is needed."""


@dataclass(frozen=True, slots=True, repr=False)
class Config:
    """Where the worker may go: it calls `base_url` and reads `payloads_bucket`, whatever a message says."""

    base_url: str
    worker_secret: str  # "" when it is to be fetched
    payloads_bucket: str
    failures_bucket: str
    queue_url: str
    worker_api_path: str = WORKER_API_PATH
    worker_secret_id: str = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Raises ConfigurationError, naming every variable that is missing."""
        missing = [f"{name} ({meaning})" for name, meaning in REQUIRED.items() if not environ.get(name)]
        if not any(environ.get(name) for name in SECRETS):
            missing.append(" or ".join(f"{name} ({meaning})" for name, meaning in SECRETS.items()))
        if missing:
            raise ConfigurationError("Set " + ", ".join(missing))
        base_url = environ["BULK_IMPORT_BASE_URL"].rstrip("/")
        if not is_http_url(base_url):
            raise ConfigurationError("BULK_IMPORT_BASE_URL must be like https://shop.example")
        return cls(
            base_url=base_url,
            worker_secret=environ.get("BULK_IMPORT_WORKER_SECRET", ""),
            payloads_bucket=environ["BULK_IMPORT_PAYLOADS_BUCKET"],
            failures_bucket=environ["BULK_IMPORT_FAILURES_BUCKET"],
            queue_url=environ["BULK_IMPORT_QUEUE_URL"],
            worker_api_path=environ.get("BULK_IMPORT_WORKER_API_PATH", WORKER_API_PATH).rstrip("/") + "/",
            worker_secret_id=environ.get("BULK_IMPORT_WORKER_SECRET_ID", ""),
        )
