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
from bulk_import_wire.logs import add_log_context
from bulk_import_wire.problems import merge_problems
from lambda_worker.batches import BatchSize
from lambda_worker.call_statistics import CallStatistics
from lambda_worker.chunk_rows import created_indexes, sort_rows, split_failures, with_control_row
from lambda_worker.exceptions import ChunkDeferred, ChunkReturned, MonolithAway, PayloadLost, WorkerError
from lambda_worker.failure_file import RowFailure, group_failures, now, read_failures, write_failures
from lambda_worker.heartbeats import heartbeats
from lambda_worker.limiter import Limiters
from lambda_worker.metrics import put_metrics
from lambda_worker.payload_reader import check_own_bucket, read_rows
from lambda_worker.row_calls import RowCalls
from lambda_worker.row_dispatch import RowDispatch
from lambda_worker.worker_api_errors import AWAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from mypy_boto3_s3 import S3Client

    from bulk_import_wire.contract import Claim
    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.config import Config
    from lambda_worker.deadlines import Deadlines
    from lambda_worker.monolith_client import Answer, MonolithClient
    from lambda_worker.row import Row

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
    """One delivery of a chunk. `limiters` has what earlier chunks found out about the create endpoint."""

    def __init__(
        self,
        message: ChunkMessage,
        monolith: MonolithClient,
        s3: S3Client,
        config: Config,
        deadlines: Deadlines,
        *,
        limiters: Limiters | None = None,
    ) -> None:
        self.message, self.monolith, self.s3, self.config = message, monolith, s3, config
        self.deadlines, self.limiters = deadlines, limiters or Limiters()
        self.statistics = CallStatistics()

    async def run(self) -> None:
        """Process the chunk until every row has an outcome, and report it. Then the message may be acknowledged.

        Raises ChunkClosed, MessageRefused, ChunkDeferred or ChunkReturned.
        """
        claim = await self._claim()
        if claim.give_up:
            logger.error("Chunk %s is given up: %s", self.message.chunk_id, claim.give_up.get("code"))
            await self._report_dead(claim)
            return
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
        await self._report_dead(await self._claim(creates=False))

    async def _report_dead(self, claim: Claim) -> None:
        """Report a claimed chunk as dead. Raises the same exceptions as `report_dead`."""
        try:
            async with self._until_report_by():
                await self.monolith.finish(self.message, await self._dead_report(claim), is_dead=True)
        except ChunkReturned:
            await self._release_lease(claim)
            raise

    async def _dead_report(self, claim: Claim) -> Finish:
        """Return the report for a dead chunk, and store its failures."""
        error = claim.give_up or DEAD_ERROR
        created = created_indexes(claim)
        try:
            failures, _unfinished = await self._read_earlier_failures(claim, created)
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
            unlisted = [{**error, "count": left, "first_index": self.message.first_index}] if left else []
            return replace(report, unprocessed=left, problems=merge_problems([report.problems, unlisted]))
        to_create, refused = sort_rows(lines, self.message.first_index, done)
        failures += refused
        failures += [
            RowFailure(index, row, Outcome.UNPROCESSED, None, [error], attempts=0, at=now()) for index, row in to_create
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
            reason = "The worker API is unavailable: it did not answer the claim before the time was over."
            raise MonolithAway(reason, delay_seconds=AWAY_SECONDS) from error
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
            key = f"{self.message.job_id}:{index}"
            return await self.monolith.create(claim, key, row, timeout_seconds)

        def create_batch(rows: Sequence[Row], settle_by: float) -> AsyncGenerator[list[Answer]]:
            return self.monolith.create_batch(self.message, claim, rows, settle_by)

        limit = self.limiters.limiter(claim.create_path, claim.concurrency)
        calls = RowCalls(create, limit, self.deadlines.settle_by, statistics=self.statistics)
        calls.create_batch, calls.batch_size = create_batch, BatchSize(claim.batch_rows)
        dispatch = RowDispatch(calls, self.deadlines.stop_at)
        dispatch.has_created_before = bool(claim.created)
        if claim.cancelled:
            dispatch.cancel()
        async with heartbeats(self.monolith, self.message, claim, dispatch, self.statistics):
            lines = await self._in_thread(read_rows, self.s3, self.config.payloads_bucket, self.message)
            created = created_indexes(claim)
            earlier, unfinished = await self._read_earlier_failures(claim, created)
            done = created.union(failure.index for failure in earlier)
            known = done.union(failure.index for failure in unfinished)
            to_create, refused = sort_rows(lines, self.message.first_index, known)
            started = time.monotonic()
            await dispatch.run(with_control_row(to_create), unfinished)
            put_metrics(dispatch, self.message, claim.epoch, time.monotonic() - started)
        failures = earlier + dispatch.failures
        if dispatch.stopped_by:
            await self._release(claim, failures + dispatch.unfinished, dispatch)
        failures += refused
        # Store the failures before the report. Otherwise, if the worker died in between, the failures would be lost.
        report = finish_report(claim.epoch, failures, await self._write(claim, failures))
        tried, failed = tried_rows(dispatch)
        report = replace(report, rows_tried=tried, rows_failed=failed, calls=self.statistics.report().to_dict())
        try:
            await self.monolith.finish(self.message, report)
        except ChunkDeferred as unavailable:
            # The monolith accepted the claim, so this delivery counts as failed. Otherwise the chunk would be delivered
            # again and again if the monolith accepts claims but no reports.
            raise ChunkReturned(str(unavailable)) from unavailable
        logger.info(
            "Finished chunk %s of job %s, epoch %d: %d rows, %d not created",
            self.message.chunk_id,
            self.message.job_id,
            claim.epoch,
            self.message.row_count,
            len(failures),
        )

    async def _read_earlier_failures(
        self, claim: Claim, created: set[int]
    ) -> tuple[list[RowFailure], list[RowFailure]]:
        """Return the failures and the unfinished rows that earlier deliveries stored, as `split_failures` does."""
        if not claim.failures_key:
            return [], []
        bucket = self.config.failures_bucket
        return split_failures(
            await self._in_thread(read_failures, self.s3, bucket, self.message, claim.failures_key), created
        )

    async def _release(self, claim: Claim, failures: list[RowFailure], dispatch: RowDispatch) -> NoReturn:
        """Store the failures for the next delivery, release the chunk, and raise the reason why this one stopped.

        A deferred delivery does not count as failed. So it must have made progress, or the reason must
        concern the whole job. Otherwise a chunk without progress would be delivered again and again.
        """
        reason = dispatch.stopped_by
        if not isinstance(reason, ChunkDeferred):
            raise reason or ChunkReturned("The dispatch stopped without a reason.")
        if not reason.pause and not dispatch.made_progress:
            raise ChunkReturned("The time was over before any row had an outcome.")
        tried, failed = tried_rows(dispatch)
        release = Release(
            epoch=claim.epoch,
            failures_key=await self._write(claim, failures),
            pause=reason.pause.value if reason.pause else "",
            retry_after_seconds=math.ceil(reason.delay_seconds),
            rows_tried=tried,
            rows_failed=failed,
            calls=self.statistics.report().to_dict(),
        )
        answer = await self.monolith.release(self.message, release)
        raise ChunkDeferred(
            str(reason), delay_seconds=max(reason.delay_seconds, answer.retry_after_seconds), pause=reason.pause
        )

    async def _release_lease(self, claim: Claim) -> None:
        """End the lease of a delivery that failed, and report that it failed.

        The monolith counts failed deliveries. The next delivery does not have to wait until the lease expires.

        The failures of this delivery are not stored. The chunk keeps the failures of the earlier deliveries.
        """
        release = Release(claim.epoch, claim.failures_key, pause="", retry_after_seconds=0, has_failed=True)
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


def tried_rows(dispatch: RowDispatch) -> tuple[int, int]:
    """Return how many rows got an outcome from the endpoint in this delivery, and how many of them failed."""
    outcomes = Counter(failure.outcome for failure in dispatch.failures)
    return dispatch.finished_rows - outcomes[Outcome.UNPROCESSED], outcomes[Outcome.FAILED]


def _loop_time(monotonic: float) -> float:
    """Convert a time of `time.monotonic()` to the clock of the running event loop."""
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()
