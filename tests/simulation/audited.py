"""The jobs of a run as the database, S3 and the API show them afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bulk_import_wire.lines import read_refused_line
from tests.simulation.monolith import Request
from tests.simulation.network import basic_authentication
from tests.simulation.plan import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.plan import Job
    from tests.simulation.world import World

DONE = ("created", "updated", "unchanged", "deleted")
"""The outcomes of rows that have a ledger record."""

NOT_DONE = ("rejected", "failed", "unprocessed")
OUTCOMES = DONE + NOT_DONE
RUNS, UNDOES = 100, 200
"""What is added to the number of a job for the job that imports its rows after a rehearsal, or that undoes it."""

REFUSALS = {
    "update": {"not_found", "superseded"},
    "upsert": {"superseded"},
    "undo": {"not_found", "changed_since", "only_updated", "superseded"},
}
"""Codes of the rows that bulk import itself refuses, by mode."""


@dataclass
class Audited:
    """A job of the plan as the database and the API show it after the run."""

    world: World
    job: Job
    id: str
    status: str
    has_submitter: bool
    is_cancelled: bool
    is_expired: bool
    created_at: str
    runs: str = ""  # ID of the rehearsal whose rows this job imports
    undoes: str = ""  # ID of the job whose objects this job deletes
    chunks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def hex_id(self) -> str:
        return self.id.replace("-", "")

    @property
    def refusals(self) -> set[str]:
        """The codes with which bulk import itself may refuse rows of this job."""
        # An undo may be accepted just before the ledger of its import is deleted.
        has_expired = any(other.id == self.undoes and other.is_expired for other in self.world.audited)
        return REFUSALS.get(self.job.mode, set()) | ({"expired"} if has_expired else set())

    @cached_property
    def ledger(self) -> dict[int, str]:
        """The object ID of each ledger record, by index."""
        rows = self.world.sql('SELECT "index", object_id FROM bulk_import_importedrow WHERE job_id = ?', self.hex_id)
        return dict(rows)

    @cached_property
    def outcomes(self) -> dict[int, str]:
        """The outcome of each ledger record, by index."""
        return dict(
            self.world.sql('SELECT "index", outcome FROM bulk_import_importedrow WHERE job_id = ?', self.hex_id)
        )

    @cached_property
    def counts(self) -> dict[str, int]:
        return {outcome: sum(chunk[outcome] for chunk in self.chunks) for outcome in OUTCOMES}

    @cached_property
    def failures(self) -> list[dict[str, Any]]:
        """The lines of the failures files that the job's chunks name, in order."""
        lines = []
        for chunk in self.chunks:
            if chunk["failures_key"]:
                content = self.world.s3.objects["failures", chunk["failures_key"]]
                lines += [json.loads(line) for line in content.splitlines()]
        return lines

    def get(self, suffix: str = "") -> Any:
        """Return the answer of the API to the submitter."""
        path = f"/{self.job.target}/bulk/{self.id}{suffix}"
        return self.world.monolith.handle(Request("GET", path, basic_authentication(self.job.user)))


def audited_jobs(world: World) -> list[Audited]:
    """Return every job in the database whose data has not expired."""
    return [audited for audited in world.audited if not audited.is_expired]


def read_jobs(world: World) -> Iterator[Audited]:
    by_key = {job.key: job for job in world.plan.jobs}
    columns = ("id", "status", "row_count", *OUTCOMES, "failures_key", "problems")
    jobs: dict[str, Job] = {}
    for job_id, key, status, has_submitter, is_cancelled, is_expired, created_at, runs, undoes, payload in world.sql(
        "SELECT id, idempotency_key, status, submitter_id IS NOT NULL, cancel_requested_at IS NOT NULL,"
        " payload_expired_at IS NOT NULL, created_at, coalesce(runs_id, ''), coalesce(undoes_id, ''), payload_key"
        " FROM bulk_import_importjob ORDER BY rowid"
    ):
        if runs:
            job = replace(jobs[runs], number=jobs[runs].number + RUNS, rehearse=False)
        elif undoes:
            rows = _undone_rows(world.s3.objects.get(("payloads", payload), b""))
            job = replace(jobs[undoes], number=jobs[undoes].number + UNDOES, mode="undo", rows=rows)
        else:
            job = by_key[key]
        jobs[job_id] = job
        rows_of_chunks = world.sql(
            f"SELECT {', '.join(columns)} FROM bulk_import_importchunk WHERE job_id = ? ORDER BY number",  # noqa: S608 - constants
            job_id,
        )
        chunks = [dict(zip(columns, row, strict=True)) for row in rows_of_chunks]
        if undoes and is_expired:
            job.rows = [Row("", {})] * sum(chunk["row_count"] for chunk in chunks)
        flags = bool(has_submitter), bool(is_cancelled), bool(is_expired)
        ids = _dashed(runs), _dashed(undoes)
        yield Audited(world, job, _dashed(job_id), status, *flags, created_at, *ids, chunks)


def _undone_rows(payload: bytes) -> list[Row]:
    """Return the rows of an undo. Its payload also has rows that the worker does not send."""
    rows = []
    for line in payload.splitlines():
        refused = read_refused_line(line)
        body = json.loads(refused[0] if refused else line)
        rows.append(Row(body["lookup"], body))
    return rows


def _dashed(hex_id: str) -> str:
    parts = (hex_id[:8], hex_id[8:12], hex_id[12:16], hex_id[16:20], hex_id[20:])
    return "-".join(parts) if hex_id else ""
