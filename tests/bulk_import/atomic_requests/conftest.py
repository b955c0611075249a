"""The tests in this folder run with ATOMIC_REQUESTS, so that Django would wrap each view in a transaction."""

from __future__ import annotations

import pytest
from django.db import connections


@pytest.fixture(autouse=True)
def _atomic_requests(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without `transactional_db`, the transaction around each test would hide the ones that the views begin.
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
