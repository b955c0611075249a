"""Who a worker is, and in whose name it creates rows.

Two credentials, never mixed: the worker secret opens the worker API and nothing else; an import token,
which the worker gets with a claim, opens one create endpoint in the name of the job's submitter.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.core import signing
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed

from bulk_import.conf import conf

if TYPE_CHECKING:
    from rest_framework.request import Request

TOKEN_SALT = "bulk_import.authentication.ImportToken"  # noqa: S105 - a salt is no secret
TOKEN_SECONDS = 3600
"""Longer than any worker can hold a chunk (a Lambda ends after 900 s); a newer claim ends it sooner."""


def matches_any_secret(given: bytes, secrets: list[str]) -> bool:
    """Whether it is one of the secrets, of which an empty one is none."""
    # Every secret is compared, in constant time, so that timing tells nothing of any of them.
    matches = [hmac.compare_digest(given, secret.encode()) for secret in secrets if secret]
    return any(matches)


class Worker:
    """The user of a request to the worker API."""

    is_authenticated = True


class WorkerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <worker secret>`, any one of `BULK_IMPORT["WORKER_SECRETS"]`."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        scheme, _, given = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        if not matches_any_secret(given, conf().worker_secrets):
            raise AuthenticationFailed("This is not a worker secret of this monolith.")
        return Worker(), None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        return "Bearer"


@dataclass(frozen=True, slots=True)
class ImportToken:
    """The right to create the rows of one chunk, as long as its epoch lasts, as the job's submitter."""

    chunk_id: UUID
    epoch: int

    def sign(self) -> str:
        return signing.dumps([self.chunk_id.hex, self.epoch], salt=TOKEN_SALT)

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises django.core.signing.BadSignature. Old keys count as long as SECRET_KEY_FALLBACKS has them."""
        chunk_id, epoch = signing.loads(text, salt=TOKEN_SALT, max_age=TOKEN_SECONDS)
        return cls(UUID(hex=chunk_id), epoch)
