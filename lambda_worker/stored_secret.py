"""The worker secret, kept in AWS Secrets Manager. Needs secretsmanager:GetSecretValue on it.

It is fetched, not resolved into the function's environment by the deployment: there everybody who may look at the
function could read it, and a rotated secret would wait for the next deployment.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from lambda_worker.exceptions import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

logger = logging.getLogger(__name__)

MAX_AGE_SECONDS = 300
"""Then it is asked for anew. An invocation keeps what it began with, so a rotated secret is the last time in use
this long plus a function's time-out after it was replaced."""


class StoredSecret:
    """One secret, remembered by an execution environment."""

    def __init__(self, client: SecretsManagerClient, secret_id: str) -> None:
        self._client, self._id = client, secret_id
        self._value = ""
        self._asked_at = float("-inf")  # by the wall clock, which goes on while an environment is frozen

    def value(self) -> str:
        """The secret, at most MAX_AGE_SECONDS old; older only while Secrets Manager is away.

        Raises ConfigurationError when it was never to be had.
        """
        now = time.time()
        if now - self._asked_at >= MAX_AGE_SECONDS:
            self._value = self._fetch() or self._value
            self._asked_at = now
        return self._value

    def _fetch(self) -> str:
        try:
            value = self._client.get_secret_value(SecretId=self._id).get("SecretString", "").strip()
            reason = "it is empty, or no text"
        except (BotoCoreError, ClientError) as error:
            value, reason = "", str(error)
        if value:
            return value
        if not self._value:
            raise ConfigurationError(f"The worker secret cannot be read: {reason}")
        logger.warning("The worker secret stays as it was read before: %s", reason)
        return ""
