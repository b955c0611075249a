"""The counts of a job, as the API shows them."""

from __future__ import annotations

NAMES = ("created", "updated", "unchanged", "deleted", "rejected", "failed", "unprocessed", "pending")


def counts(**known: int) -> dict[str, int]:
    """Return the number of rows by outcome: those that are given, and 0 for all others."""
    assert known.keys() <= set(NAMES)
    return dict.fromkeys(NAMES, 0) | known
