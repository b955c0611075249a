"""Sorts the rows of a chunk by what earlier deliveries and the validation have found out about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import read_refused_line
from lambda_worker.failure_file import RowFailure, now

if TYPE_CHECKING:
    from bulk_import_wire.contract import Claim


def created_indexes(claim: Claim) -> set[int]:
    """Return the indexes of the rows that the ledger already records."""
    return {index for first, last in claim.created for index in range(first, last + 1)}


def sort_rows(lines: list[bytes], first_index: int, done: set[int]) -> tuple[list[tuple[int, bytes]], list[RowFailure]]:
    """Return the rows to create with their indexes, and the failures of the rows that validation refused.

    `done` are the indexes of the rows that have an outcome from an earlier delivery. They are in neither list.
    """
    to_create: list[tuple[int, bytes]] = []
    refused: list[RowFailure] = []
    for index, line in enumerate(lines, first_index):
        if index in done:
            continue
        if refusal := read_refused_line(line):
            row, errors = refusal
            refused.append(RowFailure(index, row, Outcome.REJECTED, None, errors, attempts=0, at=now()))
        else:
            to_create.append((index, line))
    return to_create, refused


def with_control_row(rows: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return the rows with the middle row moved to the end, where it serves as a control.

    The endpoint may answer the last rows of a file with 403. The reason is either these rows, or that the submitter may
    no longer create any row. If the endpoint then creates the control, the reason is these rows. The last rows of a
    file are often similar, so a row from the middle is a better control. It is also sent if the first rows have a wrong
    status (see `RowDispatch.run`).
    """
    middle = len(rows) // 2
    return rows[:middle] + rows[middle + 1 :] + rows[middle : middle + 1]


def split_failures(stored: list[RowFailure], created: set[int]) -> tuple[list[RowFailure], list[RowFailure]]:
    """Return the failures among the stored rows, and the unfinished rows.

    A failure is final, and its row is not sent again. An unfinished row was tried by an earlier delivery, but it has no
    outcome yet. An unprocessed row that was never tried is in neither list, because this delivery starts it.

    Rows in `created` are left out: a row that failed because its answer was lost may have been created all the same.
    """
    left = [failure for failure in stored if failure.index not in created]
    failures = [failure for failure in left if failure.outcome != Outcome.UNPROCESSED]
    return failures, [failure for failure in left if failure.outcome == Outcome.UNPROCESSED and failure.attempts]
