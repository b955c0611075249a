"""Counts the rows of a job that were rejected because their objects exist, as in a file that is sent twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_import.conf import conf

if TYPE_CHECKING:
    from bulk_import.models.job_columns import JobColumns

CODES = frozenset({"exists", "unique"})
"""The codes of DRF and of `on_existing=stop` for the error of such a row."""


def existing_count(job: JobColumns) -> int:
    """Return the number of these rows, as far as the job's problems show it.

    Only the field that identifies an object says that the object of a row exists. For example, a new product may have
    the barcode of another one. If the target names no such field, every unique field counts.
    """
    lookup = conf().targets.get(job.target, {}).get("lookup")
    return sum(
        problem["count"]
        for problem in job.problems
        if problem["code"] in CODES and (not lookup or _bare(problem["field"]) == _bare(lookup))
    )


def _bare(name: str | None) -> str:
    """Return the name of a field without case and underscores: an endpoint may write `unit_sku` as `unitSku`."""
    return (name or "").replace("_", "").casefold()
