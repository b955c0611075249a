"""Chunks: consecutive rows of a job that one worker creates. Claims and leases are in `lease`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from bulk_import.exceptions import LedgerDisagrees
from bulk_import.models.chunk_columns import ChunkColumns
from bulk_import.models.lease import LeasedChunk, calls_column
from bulk_import.models.row import line_at
from bulk_import.models.status import TERMINAL_CHUNK_STATUSES, ChunkStatus

if TYPE_CHECKING:
    from bulk_import_wire.calls import Calls
    from bulk_import_wire.contract import Finish


FINISHED_COLUMNS = (
    *("created", "updated", "unchanged", "deleted", "rejected", "failed", "unprocessed"),
    *("problems", "failures_key", "lease_expires_at", "ended_at", "calls", "status"),
)
"""The columns that change when a chunk ends."""


class ImportChunk(LeasedChunk):
    """Consecutive rows of a job. Each chunk has one SQS message, and one worker at a time works on it."""

    class Meta(ChunkColumns.Meta):
        abstract = False

    def finish(self, report: Finish, *, is_dead: bool = False, calls: Calls | None = None) -> None:
        """End the chunk, because every row has an outcome. The chunk must be `locked` with `wait_for_creates`.

        `is_dead` says that the chunk is given up. Idempotent for the same epoch, so a worker may
        repeat a finish whose response was lost.

        Raises StaleEpoch, and LedgerDisagrees if the outcomes do not add up to the chunk's rows.
        """
        if self.status in TERMINAL_CHUNK_STATUSES and self.epoch == report.epoch:
            return
        self.check_epoch(report.epoch)
        # The ledger decides how many rows are done. Example: the response to a create call was lost, so the worker
        # reports the row as failed, but the ledger has its record. The sum is then one too many. The chunk stays open,
        # and the next delivery starts from the ledger's records and reports correct numbers.
        self.count_ledger()
        reported = (report.rejected, report.failed, report.unprocessed)
        if min(reported) < 0 or self.done + sum(reported) != self.row_count:
            raise LedgerDisagrees(f"chunk {self}: {self.done} of {self.row_count} rows are in the ledger")
        self.rejected, self.failed, self.unprocessed = reported
        self.problems, self.failures_key = self._with_lines(report.problems), report.failures_key
        self.lease_expires_at, self.ended_at = None, Now()
        self.calls = calls_column(calls).get("calls", self.calls)
        self.status = ChunkStatus.DEAD if is_dead else ChunkStatus.DONE
        self.save(update_fields=FINISHED_COLUMNS)
        if not is_dead:
            self.job.mark_progress()
        job = self.job.handle_finished_chunk(self)
        if report.rows_tried:
            job.count_tried_rows(report.rows_tried, report.rows_failed)

    def _with_lines(self, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the problems with the line of the first row of each, which only we know, if it has one."""
        lines = self.read_lines() if problems else ()
        numbers = [line_at(lines, problem["first_index"] - self.first_index) for problem in problems]
        pairs = zip(problems, numbers, strict=True)
        return [{**problem, "first_line": line} if line else problem for problem, line in pairs]
