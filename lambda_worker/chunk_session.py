"""Works on one chunk, from its claim to its finish, or to its release if some rows have no outcome yet."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from bulk_import_wire.contract import DEAD_LETTER, Finish, Outcome, Release
from bulk_import_wire.lines import read_refused_line
from bulk_import_wire.logs import add_log_context
from lambda_worker.exceptions import ChunkDeferred, ChunkReturned, PayloadLost, WorkerError
from lambda_worker.failure_file import RowFailure, group_failures, now, read_failures, write_failures
from lambda_worker.heartbeats import heartbeats
from lambda_worker.limiter import ConcurrencyLimiter
from lambda_worker.metrics import put_metrics
from lambda_worker.monolith_client import AWAY_SECONDS
from lambda_worker.payload_reader import check_own_bucket, read_rows
from lambda_worker.row_dispatch import RowDispatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.contract import ChunkMessage, Claim
    from lambda_worker.config import Config
    from lambda_worker.deadlines import Deadlines
    from lambda_worker.exceptions import ChunkClosed
    from lambda_worker.monolith_client import Answer, MonolithClient

logger = logging.getLogger(__name__)

DEAD_ERROR = {
    "field": None,
    "code": DEAD_LETTER,
    "message": "Every attempt to import this part of the file failed. Staff can retry it.",
}
"""The error of a row that had no outcome when its chunk's message ran out of deliveries."""

S3_THREADS = ThreadPoolExecutor(thread_name_prefix="s3")
"""Threads for the calls of boto3, which block.

They are not asyncio's default threads: `asyncio.run` waits for those before it returns, so a read of S3 that hangs
would keep the invocation from ending in time.
"""


class ChunkSession:
    """One delivery of a chunk."""

    def __init__(
        self, message: ChunkMessage, monolith: MonolithClient, s3: S3Client, config: Config, deadlines: Deadlines
    ) -> None:
        self.message, self.monolith, self.s3, self.config = message, monolith, s3, config
        self.deadlines = deadlines

    async def run(self) -> None:
        """Process the chunk until every row has an outcome, and report it. Then the message may be acknowledged.

        Raises ChunkClosed, MessageRefused, ChunkDeferred or ChunkReturned.
        """
        claim = await self._claim()
        try:
            async with self._until_report_by():
                await self._create_rows(claim)
        except ChunkDeferred:
            raise  # the lease has been released already, or the monolith is unavailable
        except ChunkReturned:
            # StaleEpoch arrives here too. Then the lease belongs to another worker, and our release has no effect.
            await self._release_lease(claim)
            raise

    async def report_dead(self) -> None:
        """Report the chunk as dead. Its rows without an outcome become unprocessed.

        Raises ChunkClosed if the monolith knows the outcome of the chunk already. Raises MessageRefused or
        ChunkReturned if the chunk could not be reported.
        """
        claim = await self._claim(creates=False)
        try:
            async with self._until_report_by():
                await self.monolith.finish(self.message, await self._dead_report(claim), is_dead=True)
        except ChunkReturned:
            await self._release_lease(claim)
            raise

    async def _dead_report(self, claim: Claim) -> Finish:
        """Return the report for a dead chunk, and store its failures."""
        created = created_indexes(claim)
        try:
            failures = await self._read_earlier_failures(claim, created)
        except ChunkReturned as unreadable:
            # Another delivery would send these rows again, but no delivery is left. So they become unprocessed.
            logger.warning("The earlier failures of dead chunk %s are lost: %s", self.message.chunk_id, unreadable)
            failures = []
        done = created.union(failure.index for failure in failures)
        try:
            lines = await self._in_thread(read_rows, self.s3, self.config.payloads_bucket, self.message)
        except PayloadLost as lost:
            # The failures file cannot list the rows that are left. The report says how many there are.
            logger.warning("The rows of dead chunk %s are lost: %s", self.message.chunk_id, lost)
            report = finish_report(claim.epoch, failures, await self._write(claim, failures))
            left = self.message.row_count - len(done)
            unlisted = [{**DEAD_ERROR, "count": left, "first_index": self.message.first_index}] if left else []
            return replace(report, unprocessed=left, problems=report.problems + unlisted)
        to_create, refused = sort_rows(lines, self.message.first_index, done)
        failures += refused
        failures += [
            RowFailure(index, row, Outcome.UNPROCESSED, None, [DEAD_ERROR], attempts=0, at=now())
            for index, row in to_create
        ]
        return finish_report(claim.epoch, failures, await self._write(claim, failures))

    async def _claim(self, *, creates: bool = True) -> Claim:
        """Claim the chunk. Raises ChunkClosed, MessageRefused, ChunkDeferred or ChunkReturned."""
        check_own_bucket(self.config.payloads_bucket, self.message)
        # Do not claim the chunk if no time is left to create rows. The lease would only delay the next delivery.
        if time.monotonic() >= self.deadlines.stop_at:
            raise ChunkDeferred("The time was over before the chunk was claimed.")
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.stop_at)):
                claim = await self.monolith.claim(self.message, str(uuid.uuid4()), creates=creates)
        except TimeoutError as error:
            reason = "The worker API is unavailable: it did not respond to the claim before the time was over."
            raise ChunkDeferred(reason, delay_seconds=AWAY_SECONDS) from error
        add_log_context(epoch=claim.epoch)
        return claim

    @asynccontextmanager
    async def _until_report_by(self) -> AsyncIterator[None]:
        """Interrupt the block at the deadline for the report, and raise ChunkReturned."""
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.report_by)):
                yield
        except TimeoutError as error:
            raise ChunkReturned("The time was over before the chunk was reported.") from error

    async def _create_rows(self, claim: Claim) -> None:
        """Create the rows that have no outcome yet, store the failures, and finish or release the chunk."""

        async def create(index: int, row: bytes, timeout_seconds: float) -> Answer:
            return await self.monolith.create(claim, f"{self.message.job_id}:{index}", row, timeout_seconds)

        limit = ConcurrencyLimiter(claim.concurrency)
        dispatch = RowDispatch(create, limit, self.deadlines.stop_at, self.deadlines.settle_by)
        if claim.cancelled:
            dispatch.cancel()
        async with heartbeats(self.monolith, self.message, claim, dispatch):
            lines = await self._in_thread(read_rows, self.s3, self.config.payloads_bucket, self.message)
            created = created_indexes(claim)
            earlier = await self._read_earlier_failures(claim, created)
            done = created.union(failure.index for failure in earlier)
            to_create, refused = sort_rows(lines, self.message.first_index, done)
            started = time.monotonic()
            await dispatch.run(to_create)
            put_metrics(dispatch, self.message, claim.epoch, time.monotonic() - started)
        failures = earlier + dispatch.failures
        if dispatch.stopped_by:
            await self._release(claim, failures, dispatch.stopped_by, dispatch.finished_rows)
        failures += refused
        # Store the failures before the report. Otherwise, if the worker died in between, the failures would be lost.
        failures_key = await self._write(claim, failures)
        try:
            await self.monolith.finish(self.message, finish_report(claim.epoch, failures, failures_key))
        except ChunkDeferred as away:
            # The monolith accepted the claim, so this delivery counts as failed. Otherwise the chunk would be delivered
            # again and again if the monolith accepts claims but no reports.
            raise ChunkReturned(str(away)) from away
        logger.info(
            "Finished chunk %s of job %s, epoch %d: %d rows, %d not created",
            self.message.chunk_id,
            self.message.job_id,
            claim.epoch,
            self.message.row_count,
            len(failures),
        )

    async def _read_earlier_failures(self, claim: Claim, created: set[int]) -> list[RowFailure]:
        """Return the failures that earlier deliveries stored. Their rows are not sent again.

        Rows in `created` are left out. For example, a row failed because its response was lost, but it was created.
        Unprocessed rows are left out as well, because this delivery processes them.
        """
        if not claim.failures_key:
            return []
        failures = await self._in_thread(
            read_failures, self.s3, self.config.failures_bucket, self.message, claim.failures_key
        )
        return [
            failure
            for failure in failures
            if failure.outcome in {Outcome.REJECTED, Outcome.FAILED} and failure.index not in created
        ]

    async def _release(
        self, claim: Claim, failures: list[RowFailure], reason: ChunkReturned | ChunkClosed, finished_rows: int
    ) -> NoReturn:
        """Store the failures for the next delivery, release the chunk, and raise the reason why this one stopped.

        A deferred delivery does not count towards maxReceiveCount. So a delivery is deferred only if it has finished a
        row, or if the whole job is paused. Otherwise a chunk without progress would be delivered again and again.
        """
        if not isinstance(reason, ChunkDeferred):
            raise reason
        if not reason.pause and not finished_rows:
            raise ChunkReturned("The time was over before any row had an outcome.")
        release = Release(
            epoch=claim.epoch,
            failures_key=await self._write(claim, failures),
            pause=reason.pause.value if reason.pause else "",
            retry_after_seconds=math.ceil(reason.delay_seconds),
        )
        answer = await self.monolith.release(self.message, release)
        if answer.is_too_long:
            raise ChunkReturned(f"The job has been paused for too long. {reason}")
        raise ChunkDeferred(
            str(reason), delay_seconds=max(reason.delay_seconds, answer.retry_after_seconds), pause=reason.pause
        )

    async def _release_lease(self, claim: Claim) -> None:
        """End the lease of a delivery that failed, so that the next one does not have to wait until it expires.

        The failures of this delivery are not stored. The chunk keeps the failures of the earlier deliveries.
        """
        release = Release(epoch=claim.epoch, failures_key=claim.failures_key, pause="", retry_after_seconds=0)
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.end_at)):
                await self.monolith.release(self.message, release)
        except (WorkerError, TimeoutError) as error:
            logger.warning("Could not end the lease of chunk %s before it expires: %r", self.message.chunk_id, error)

    async def _write(self, claim: Claim, failures: list[RowFailure]) -> str:
        """Store the failures and return their key."""
        bucket, epoch = self.config.failures_bucket, claim.epoch
        key: str = await self._in_thread(write_failures, self.s3, bucket, self.message, epoch, failures)
        return key

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(S3_THREADS, function, *args)


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


def finish_report(epoch: int, failures: list[RowFailure], failures_key: str) -> Finish:
    """Return the report that counts and groups these failures."""
    outcomes = Counter(failure.outcome for failure in failures)
    return Finish(
        epoch=epoch,
        rejected=outcomes[Outcome.REJECTED],
        failed=outcomes[Outcome.FAILED],
        unprocessed=outcomes[Outcome.UNPROCESSED],
        failures_key=failures_key,
        problems=group_failures(failures),
    )


def _loop_time(monotonic: float) -> float:
    """Convert a time of `time.monotonic()` to the clock of the running event loop."""
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()
