"""Stores the rows of a chunk that were not created, with the reasons, in the failures bucket.

    <failures bucket>/
        <job id>/<first index of the chunk>-<epoch>.jsonl

The file has one JSON object per line, in the order of the input: index, outcome, status, errors, attempts, at, row.
`row` has the same bytes as in the payload. The worker writes the file before it finishes or releases the chunk.
Each epoch has its own key, so that a stale worker cannot overwrite the file of its successor. Needs s3:PutObject and
s3:GetObject on the failures bucket.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from bulk_import_wire.contract import Outcome
from bulk_import_wire.lines import failure_line, read_failure_line
from bulk_import_wire.problems import merge_problems, problem
from lambda_worker.aws_errors import AWS_ERRORS
from lambda_worker.exceptions import ChunkReturned

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.message import ChunkMessage


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row that was not created, and why. Each of `errors` has the keys field, code and message."""

    index: int
    row: bytes
    outcome: Outcome
    status: int | None  # HTTP status of the last response; None if there was none
    errors: list[dict[str, Any]]
    attempts: int  # number of create calls
    at: str  # ISO 8601, UTC

    def line(self) -> bytes:
        """Return the line of this failure in the file."""
        description = {
            "index": self.index,
            "outcome": self.outcome,
            "status": self.status,
            "errors": self.errors,
            "attempts": self.attempts,
            "at": self.at,
        }
        return failure_line(description, self.row)

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read a line that `RowFailure.line` returned. Raises ValueError, KeyError or TypeError if it is malformed."""
        values, row = read_failure_line(line)
        return cls(row=row, outcome=Outcome(values.pop("outcome")), **values)


def now() -> str:
    """Return the current time in the format of `RowFailure.at`."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")


def write_failures(s3: S3Client, bucket: str, message: ChunkMessage, epoch: int, failures: list[RowFailure]) -> str:
    """Store the failures of a chunk and return their key. If there are none, store nothing and return "".

    Raises ChunkReturned if the bucket does not accept them.
    """
    if not failures:
        return ""
    key = f"{message.job_id}/{message.first_index:09}-{epoch}.jsonl"
    lines = (failure.line() for failure in sorted(failures, key=lambda failure: failure.index))
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=b"".join(lines), ContentType="application/x-ndjson")
    except AWS_ERRORS as error:
        raise ChunkReturned("The failures cannot be stored in the failures bucket.") from error
    return key


def read_failures(s3: S3Client, bucket: str, message: ChunkMessage, key: str) -> list[RowFailure]:
    """Return the failures that an earlier delivery of the chunk stored under this key.

    Raises ChunkReturned if they cannot be read.
    """
    if not key.startswith(f"{message.job_id}/"):
        raise ChunkReturned("The failures key does not belong to this job.")
    try:
        # Not splitlines(): a row may contain a carriage return or another character that ends a line for Python.
        lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().split(b"\n")
        return [RowFailure.from_line(line) for line in lines if line]
    except AWS_ERRORS as error:
        raise ChunkReturned("The earlier failures cannot be read from the failures bucket.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ChunkReturned("The object under the failures key is not a failures file.") from error


def group_failures(failures: list[RowFailure]) -> list[dict[str, Any]]:
    """Group the failures into problems. A row with several errors counts in the problem of each error."""
    return merge_problems(
        [problem(error["field"], error["code"], error["message"], failure.index)]
        for failure in failures
        for error in failure.errors
    )
