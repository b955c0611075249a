"""What the code of a run reaches instead of the network: the simulated S3, SQS, mail server and webhook receiver.

Django and boto3 create their clients by name, so they find the objects of the current run here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
from django.core.mail.backends.base import BaseEmailBackend
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed
from storages.backends.s3 import S3Storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.core.mail import EmailMessage

    from tests.simulation.world import World

_worlds: list[World] = []


def current() -> World:
    """Return the world of the run that is executed now."""
    return _worlds[-1]


def set_current(world: World) -> None:
    _worlds[:] = [world]


def forget_current() -> None:
    _worlds.clear()


class SimulatedS3Storage(S3Storage):  # type: ignore[misc] # the package has no type hints
    """A storage of django-storages whose client is the simulated S3."""

    @property
    def connection(self) -> Any:
        return SimpleNamespace(meta=SimpleNamespace(client=current().s3))


class SimulatedMail(BaseEmailBackend):
    """Django's mail backend: hands each email to the simulated mail server."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        for message in email_messages:
            current().receivers.take_email(message)
        return len(email_messages)


class NameAuthentication(BasicAuthentication):
    """The authentication of the site: it believes that a user has the name in the header."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[Any, None]:  # noqa: ARG002 - DRF's signature
        from django.contrib.auth.models import User  # noqa: PLC0415 - this module is imported before Django is ready

        user = User.objects.filter(username=userid, is_active=True).first()
        if user is None:
            raise AuthenticationFailed
        return user, None


class SimulatedSession:
    """boto3's default session: `boto3.client("sqs")` returns the simulated SQS."""

    def client(self, name: str, **_options: Any) -> Any:
        return LateBoundClient(name)


class LateBoundClient:
    """A client that the code creates once and keeps. It calls the service of the current run."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        return getattr(getattr(current(), self._name), method)


def install() -> None:
    """Make boto3 create simulated clients in this process."""
    boto3.DEFAULT_SESSION = SimulatedSession()  # type: ignore[assignment]
