"""Fixtures of the tests of the worker API."""

from __future__ import annotations

import pytest

from bulk_import.worker_api import batch


@pytest.fixture(autouse=True)
def _time_for_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch does not end before its last row, however busy the machine is. The test of the limit sets its own."""
    monkeypatch.setattr(batch, "MAX_BATCH_SECONDS", 600)
