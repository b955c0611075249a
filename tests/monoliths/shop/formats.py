"""Parsers, renderers and an authentication of the monoliths. Settings name them, so they are not in `urls`."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth import get_user_model
from django.core import signing
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer


def snake_case(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def camel_case(name: str) -> str:
    return re.sub("_([a-z])", lambda letter: letter[1].upper(), name)


class CamelCaseParser(JSONParser):
    def parse(self, *args: Any, **kwargs: Any) -> Any:
        return {snake_case(name): value for name, value in super().parse(*args, **kwargs).items()}


class CamelCaseRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(data, dict):
            data = {camel_case(name): value for name, value in data.items()}
        return super().render(data, *args, **kwargs)


class JsonApiParser(JSONParser):
    media_type = "application/vnd.api+json"


class JsonApiRenderer(JSONRenderer):
    media_type = "application/vnd.api+json"


class SignedTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <signed ID of the user>`, as a JWT."""

    def authenticate(self, request: Any) -> tuple[Any, str] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        try:
            return get_user_model()._default_manager.get(pk=signing.loads(token)), token
        except signing.BadSignature as error:
            raise AuthenticationFailed from error

    def authenticate_header(self, request: Any) -> str:  # noqa: ARG002 - DRF's signature
        return "Bearer"
