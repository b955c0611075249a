"""The database of the tests, and how many examples Hypothesis generates on it."""

from __future__ import annotations

import os


def is_postgresql() -> bool:
    """Return whether the tests run on PostgreSQL."""
    return os.environ.get("DATABASE_URL", "").startswith("postgres")


def examples(count: int) -> int:
    """Return how many examples a test generates on this database: all on SQLite, and a quarter of them on PostgreSQL.

    The databases differ in how they run our statements. A few examples show this, because the statements of all
    examples are the same.
    """
    return max(count // 4, 1) if is_postgresql() else count
