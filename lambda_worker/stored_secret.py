"""Reads the worker secret from AWS Secrets Manager. Needs secretsmanager:GetSecretValue on the secret.

The worker fetches the secret at run time. If the deployment copied it into an environment variable, everyone who may
view the function's configuration could read it, and a rotated secret would take effect only with the next deployment.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from lambda_worker.aws_errors import AWS_ERRORS
from lambda_worker.config import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 300
"""Age at which the secret is fetched again.

An invocation keeps the secret that it started with. So after a rotation, the worker uses the old secret for at most
this time plus the function's timeout.
"""


class StoredSecret:
    """One secret, cached in the memory of an execution environment."""

    def __init__(self, client: SecretsManagerClient, secret_id: str) -> None:
        self._client, self._id = client, secret_id
        self._value = ""
        # Wall clock time. Lambda freezes an environment between invocations, and then a monotonic clock may stop.
        self._fetched_at = float("-inf")

    def value(self) -> str:
        """Return the secret, at most MAX_AGE_SECONDS old. If Secrets Manager is unavailable, return the last known one.

        Raises ConfigurationError if the secret has never been read.
        """
        now = time.time()
        if now - self._fetched_at >= MAX_AGE_SECONDS:
            self._value = self._fetch() or self._value
            self._fetched_at = now
        return self._value

    def _fetch(self) -> str:
        """Return the stored secret, or "" if it cannot be read but an older value is known."""
        try:
            value = self._client.get_secret_value(SecretId=self._id).get("SecretString", "").strip()
            reason = "it is empty or is not text"
        except AWS_ERRORS as error:
            value, reason = "", str(error)
        if value:
            return value
        if not self._value:
            raise ConfigurationError(f"The worker secret cannot be read: {reason}")
        logger.warning("The worker continues with the secret that it read before: %s", reason)
        return ""
