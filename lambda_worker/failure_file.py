"""The rows that were not created, with the reason, in the failures bucket.

    <failures bucket>/
        <job id>/<first index of the chunk>-<epoch>.jsonl

One JSON object a line, in input order: index, outcome, status, errors, attempts, at, row. The row is what
was sent, byte for byte. Written before the chunk is finished or released, under a key of its own per epoch,
so that a stale worker cannot overwrite what counts. Needs s3:PutObject and s3:GetObject on the failures bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from bulk_import_wire.contract import Outcome, failure_line, read_failure_line
from bulk_import_wire.problems import merge_problems, problem
from lambda_worker.exceptions import ChunkReturned

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.contract import ChunkMessage


@dataclass(frozen=True, slots=True)
class RowFailure:
    """A row that was not created, and why. `errors` are `{"field", "code", "message"}`."""

    index: int
    row: bytes
    outcome: Outcome
    status: int | None  # HTTP status of the last answer; None when there was none
    errors: list[dict[str, Any]]
    attempts: int
    at: str  # ISO 8601, UTC

    def line(self) -> bytes:
        known = {
            "index": self.index,
            "outcome": self.outcome,
            "status": self.status,
            "errors": self.errors,
            "attempts": self.attempts,
            "at": self.at,
        }
        return failure_line(known, self.row)

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """What `line` wrote. Raises ValueError, KeyError, TypeError."""
        values, row = read_failure_line(line)
        return cls(row=row, outcome=Outcome(values.pop("outcome")), **values)


def now() -> str:
    """The time for `RowFailure.at`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_failures(s3: S3Client, bucket: str, message: ChunkMessage, epoch: int, failures: list[RowFailure]) -> str:
    """Store the failures of a chunk; returns their key, "" when there are none. Raises ChunkReturned."""
    if not failures:
        return ""
    key = f"{message.job_id}/{message.first_index:09}-{epoch}.jsonl"
    lines = (failure.line() for failure in sorted(failures, key=lambda failure: failure.index))
    try:
        s3.put_object(Bucket=bucket, Key=key, Body=b"".join(lines), ContentType="application/x-ndjson")
    except (BotoCoreError, ClientError) as error:
        raise ChunkReturned("The failures bucket does not take the failures.") from error
    return key


def read_failures(s3: S3Client, bucket: str, message: ChunkMessage, key: str) -> list[RowFailure]:
    """What an earlier delivery of the chunk stored under the key. Raises ChunkReturned."""
    if not key.startswith(f"{message.job_id}/"):
        raise ChunkReturned("The failures key is not of this job.")
    try:
        lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().split(b"\n")
        return [RowFailure.from_line(line) for line in lines if line]
    except (BotoCoreError, ClientError) as error:
        raise ChunkReturned("The failures bucket does not give what it took.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ChunkReturned("The failures bucket holds something else under the failures key.") from error


def group_failures(failures: list[RowFailure]) -> list[dict[str, Any]]:
    """The failures as problems. A row with several errors counts in each of them."""
    return merge_problems(
        [problem(error["field"], error["code"], error["message"], failure.index)]
        for failure in failures
        for error in failure.errors
    )
