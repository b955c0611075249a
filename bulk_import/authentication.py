"""The two credentials of a worker.

The worker secret gives access to the worker API and to nothing else. A worker gets an import token with each claim. The
token gives access to one create endpoint and to nothing else, as the job's submitter. So whoever steals an import token
can create only the rows of one chunk. The token is valid until the chunk is claimed again, and for at most an hour.
"""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.core import signing
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from bulk_import.conf import conf

if TYPE_CHECKING:
    from rest_framework.request import Request

TOKEN_SALT = "bulk_import.authentication.ImportToken"  # noqa: S105 - a salt is not secret
PROBE_PREFIX = "probe."
"""First characters of a probe token. An import token never starts with them, because base64 has no period."""

PROBE_SALT = "bulk_import.authentication.ProbeToken"
PROBE_MAX_AGE_SECONDS = 60
"""How long a probe token is valid. The doctor uses it at once."""

TOKEN_MAX_AGE_SECONDS = 3600
"""How long an import token is valid. A Lambda runs for at most 900 s, so a worker never needs it longer.

Usually a token ends sooner: a newer claim of the chunk makes its epoch stale.
"""

VERIFIED_FOR_SECONDS = 10
"""How long the result of verifying an import token is used again, because hundreds of create calls have the same token.

So a token may be valid for ten seconds longer.
"""


def matches_any_secret(given: bytes, secrets: list[str]) -> bool:
    """Return whether `given` is one of the secrets. An empty secret never matches."""
    # Compare with every secret, each in constant time. If the loop stopped at the first match or the first wrong byte,
    # the response time would tell an attacker how much of a guess is right.
    matches = [hmac.compare_digest(given, secret.encode()) for secret in secrets if secret]
    return any(matches)


def sign(content: list[Any], salt: str) -> str:
    """Return the content as text, signed with the first of TOKEN_KEYS. Raises ImproperlyConfigured if there is none.

    The key is not SECRET_KEY. Anyone who knows SECRET_KEY can forge sessions, and replacing it would log everybody out.
    """
    if not conf().token_keys:
        raise ImproperlyConfigured("BULK_IMPORT needs TOKEN_KEYS.")
    return signing.dumps(content, key=conf().token_keys[0], salt=salt)


def verify(text: str, salt: str, max_age_seconds: int) -> Any:
    """Return the content of a signed text. Raises BadSignature if none of TOKEN_KEYS signed it or it is too old."""
    if not conf().token_keys:
        raise signing.BadSignature("There are no TOKEN_KEYS.")
    key, *older_keys = conf().token_keys
    return signing.loads(text, key=key, fallback_keys=[*older_keys], salt=salt, max_age=max_age_seconds)


@dataclass(frozen=True, slots=True)
class ProbeToken:
    """The right to try a create endpoint once as a user. What the endpoint does in a database is rolled back."""

    target: str
    user_id: str
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def sign(self) -> str:
        """Return the token as signed text for `Authorization: Import <token>`."""
        return PROBE_PREFIX + sign([self.target, self.user_id, self.nonce], PROBE_SALT)

    @classmethod
    def verify(cls, text: str) -> Self:
        """Return the token of a signed text. Raises django.core.signing.BadSignature if it is forged or too old."""
        return cls(*verify(text.removeprefix(PROBE_PREFIX), PROBE_SALT, PROBE_MAX_AGE_SECONDS))

    def use_up(self) -> bool:
        """Return whether the token was not used before, and remember it in the default cache while it is valid."""
        return bool(cache.add(f"bulk_import:probe:{self.nonce}", True, PROBE_MAX_AGE_SECONDS))


class Worker:
    """The user of a request to the worker API."""

    is_authenticated = True


class WorkerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <worker secret>`, where the secret is one of `BULK_IMPORT["WORKER_SECRETS"]`."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        scheme, _, given = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        if not matches_any_secret(given, conf().worker_secrets):
            raise AuthenticationFailed("This worker secret is not valid.")
        return Worker(), None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        return "Bearer"


@dataclass(frozen=True, slots=True)
class ImportToken:
    """The right to create the rows of one chunk as the job's submitter, while `epoch` is the chunk's current epoch."""

    chunk_id: UUID
    epoch: int

    def sign(self) -> str:
        """Return the token as signed text for `Authorization: Import <token>`."""
        return sign([self.chunk_id.hex, self.epoch], TOKEN_SALT)

    @staticmethod
    def verify(text: str) -> ImportToken:
        """Return the token of a signed text. Raises django.core.signing.BadSignature if it is forged or too old.

        A text that was signed with an old key is valid while TOKEN_KEYS lists that key.
        """
        return _verified_token(text, tuple(conf().token_keys), int(time.time() / VERIFIED_FOR_SECONDS))


@lru_cache(maxsize=64)
def _verified_token(text: str, _keys: tuple[str, ...], _period: int) -> ImportToken:
    """Return the token of a signed text. The result is cached for these TOKEN_KEYS and this period."""
    chunk_id, epoch = verify(text, TOKEN_SALT, TOKEN_MAX_AGE_SECONDS)
    return ImportToken(UUID(hex=chunk_id), epoch)
