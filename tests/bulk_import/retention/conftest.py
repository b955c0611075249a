"""A job that has just ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bulk_import.retention.retained import (
    end,
)

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from bulk_import.models import ImportJob
    from bulk_import_wire.message import ChunkMessage
    from tests.bulk_import.conftest import Aws


@pytest.fixture
def job(aws: Aws, worker: APIClient, messages: list[ChunkMessage]) -> ImportJob:
    """A job that has just ended."""
    return end(aws, worker, messages)


@pytest.fixture
def location(job: ImportJob) -> str:
    return f"/products/bulk/{job.pk}"
