"""A webhook receiver that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bulk_import.outbox import webhooks
from tests.bulk_import.outbox.webhook_receiver import SECRET, Receiver, use_receiver, webhook_receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings


@pytest.fixture
def receiver(settings: Settings) -> Iterator[Receiver]:
    with webhook_receiver() as receiver:
        use_receiver(settings, receiver.url, SECRET)
        yield receiver


@pytest.fixture
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(webhooks, "SWEEP_SECONDS", 0.3)
