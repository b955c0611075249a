"""One shop for the tests of several modules, because it takes long to start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.pipeline.serve import Shop, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """A running `make serve`. It uses the database of DATABASE_URL if this is set."""
    database_url = os.environ.get("DATABASE_URL")
    with serving(*(["--database-url", database_url] if database_url else [])) as process, Shop(process) as shop:
        yield shop
