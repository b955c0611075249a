"""An import token is verified for the first of many create calls, and again from time to time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from django.core import signing

from bulk_import.authentication import TOKEN_MAX_AGE_SECONDS, VERIFIED_FOR_SECONDS, ImportToken

if TYPE_CHECKING:
    from pytest_django import Settings


def test_a_token_that_was_verified_expires_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    token, now = ImportToken(uuid4(), 3), time.time()
    text = token.sign()
    assert ImportToken.verify(text) == token

    monkeypatch.setattr(time, "time", lambda: now + TOKEN_MAX_AGE_SECONDS + VERIFIED_FOR_SECONDS)
    with pytest.raises(signing.SignatureExpired):
        ImportToken.verify(text)


def test_a_token_that_was_verified_is_forged_once_its_key_is_removed(settings: Settings) -> None:
    text = ImportToken(uuid4(), 3).sign()
    assert ImportToken.verify(text)

    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TOKEN_KEYS": ["another-key-of-at-least-32-characters"]}
    with pytest.raises(signing.BadSignature):
        ImportToken.verify(text)
