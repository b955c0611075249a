"""One chunk, from claim to finish, or to release when rows are left."""

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
from typing import TYPE_CHECKING, Any

from bulk_import_wire.contract import DEAD_LETTER, Finish, Outcome, PauseCode, Release, read_refused_line
from bulk_import_wire.logs import add_log_context
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, PayloadLost, StaleEpoch, WorkerError
from lambda_worker.failure_file import RowFailure, group_failures, now, read_failures, write_failures
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
    from lambda_worker.monolith_client import Answer, MonolithClient

logger = logging.getLogger(__name__)

DEAD = {
    "field": None,
    "code": DEAD_LETTER,
    "message": "Every attempt to work on this part of the import failed; staff can run it again.",
}

# asyncio's own executor makes a loop wait for its threads; a read of S3 must not hold an invocation beyond its time.
S3_THREADS = ThreadPoolExecutor(thread_name_prefix="s3")


async def run_chunk(
    message: ChunkMessage, *, monolith: MonolithClient, s3: S3Client, config: Config, deadlines: Deadlines
) -> None:
    """Bring every row of the chunk to an outcome and report it; then the message may be acknowledged.

    Raises ChunkClosed, MessageRefused, ChunkDeferred, ChunkReturned.
    """
    await ChunkSession(message, monolith, s3, config, deadlines).run()


class ChunkSession:
    """One delivery of a chunk."""

    def __init__(
        self, message: ChunkMessage, monolith: MonolithClient, s3: S3Client, config: Config, deadlines: Deadlines
    ) -> None:
        self.message, self.monolith, self.s3, self.config = message, monolith, s3, config
        self.deadlines = deadlines

    async def run(self) -> None:
        claim = await self._claim()
        try:
            async with self._time_to_report():
                await self._work(claim)
        except ChunkDeferred:
            raise
        except ChunkReturned:  # also where it seemed stale: if it is, letting go changes nothing
            await self._let_go(claim)
            raise

    async def report_dead(self) -> None:
        """End the chunk as dead: the rows that are left are unprocessed, with the reason, as far as they can be read.

        Raises ChunkClosed, MessageRefused, ChunkReturned; of these, only the first says that the monolith knows.
        """
        claim = await self._claim(creates=False)
        try:
            async with self._time_to_report():
                await self.monolith.finish(self.message, await self._report_of_dead(claim), is_dead=True)
        except ChunkReturned:
            await self._let_go(claim)
            raise

    async def _report_of_dead(self, claim: Claim) -> Finish:
        created = created_indexes(claim)
        try:
            failures = await self._settled_before(claim, created)
        except ChunkReturned as unreadable:  # a delivery would ask the endpoint again; here is none left
            logger.warning("What was settled of dead chunk %s is lost: %s", self.message.chunk_id, unreadable)
            failures = []
        over = created.union(failure.index for failure in failures)
        try:
            lines = await self._in_thread(read_rows, self.s3, self.config.payloads_bucket, self.message)
        except PayloadLost as lost:  # the rows cannot be listed; the job tells how many they are
            logger.warning("The rows of dead chunk %s are lost: %s", self.message.chunk_id, lost)
            report = finish_report(claim.epoch, failures, await self._write(claim, failures))
            left = self.message.row_count - len(over)
            unlisted = [{**DEAD, "count": left, "first_index": self.message.first_index}] if left else []
            return replace(report, unprocessed=left, problems=report.problems + unlisted)
        to_create, refused = sort_rows(lines, self.message.first_index, over)
        failures += refused
        failures += [
            RowFailure(index, row, Outcome.UNPROCESSED, None, [DEAD], attempts=0, at=now()) for index, row in to_create
        ]
        return finish_report(claim.epoch, failures, await self._write(claim, failures))

    async def _claim(self, *, creates: bool = True) -> Claim:
        """Raises ChunkClosed, MessageRefused, ChunkDeferred, ChunkReturned."""
        check_own_bucket(self.config.payloads_bucket, self.message)
        if time.monotonic() >= self.deadlines.stop_at:  # a claim would only keep the next delivery from it
            raise ChunkDeferred("The time was over before the chunk was claimed.")
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.stop_at)):
                claim = await self.monolith.claim(self.message, str(uuid.uuid4()), creates=creates)
        except TimeoutError as error:
            reason = "The worker API is away: the time is over without an answer to claim."
            raise ChunkDeferred(reason, delay_seconds=AWAY_SECONDS) from error
        add_log_context(epoch=claim.epoch)
        return claim

    @asynccontextmanager
    async def _time_to_report(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.report_by)):
                yield
        except TimeoutError as error:
            raise ChunkReturned("The time is over, and nothing was reported.") from error

    async def _work(self, claim: Claim) -> None:
        async def create(index: int, row: bytes, timeout_seconds: float) -> Answer:
            return await self.monolith.create(claim, f"{self.message.job_id}:{index}", row, timeout_seconds)

        limit = ConcurrencyLimiter(claim.concurrency)
        dispatch = RowDispatch(create, limit, self.deadlines.stop_at, self.deadlines.settle_by)
        if claim.cancelled:
            dispatch.cancel()
        async with self._heartbeat(claim, dispatch):
            lines = await self._in_thread(read_rows, self.s3, self.config.payloads_bucket, self.message)
            created = created_indexes(claim)
            settled = await self._settled_before(claim, created)
            over = created.union(failure.index for failure in settled)
            to_create, refused = sort_rows(lines, self.message.first_index, over)
            started = time.monotonic()
            await dispatch.run(to_create)
            put_metrics(dispatch, self.message, claim.epoch, time.monotonic() - started)
        failures = settled + dispatch.failures
        if dispatch.stopped_by:
            await self._release(claim, failures, dispatch)
        failures += refused
        failures_key = await self._write(claim, failures)
        try:
            await self.monolith.finish(self.message, finish_report(claim.epoch, failures, failures_key))
        except ChunkDeferred as away:
            # It took the claim. Were it to refuse nothing but reports, chunks would come again without end.
            raise ChunkReturned(str(away)) from away
        logger.info(
            "Finished chunk %s of job %s, epoch %d: %d rows, %d not created",
            self.message.chunk_id,
            self.message.job_id,
            claim.epoch,
            self.message.row_count,
            len(failures),
        )

    async def _settled_before(self, claim: Claim, created: set[int]) -> list[RowFailure]:
        """The failures of deliveries before, of rows that need not be tried again."""
        if not claim.failures_key:
            return []
        failures = await self._in_thread(
            read_failures, self.s3, self.config.failures_bucket, self.message, claim.failures_key
        )
        # One that failed for want of an answer may have been created all the same.
        return [
            failure
            for failure in failures
            if failure.outcome in {Outcome.REJECTED, Outcome.FAILED} and failure.index not in created
        ]

    async def _release(self, claim: Claim, failures: list[RowFailure], dispatch: RowDispatch) -> None:
        """Keep what was settled for the next delivery, and raise what stopped this one."""
        reason = dispatch.stopped_by
        if not isinstance(reason, ChunkDeferred):
            raise reason or AssertionError
        if not reason.pause and not dispatch.settled:
            raise ChunkReturned("The time was over before any row was settled.")
        failures_key = await self._write(claim, failures)
        release = Release(
            epoch=claim.epoch,
            failures_key=failures_key,
            pause=reason.pause.value if reason.pause else "",
            retry_after_seconds=math.ceil(reason.delay_seconds),
        )
        answer = await self.monolith.release(self.message, release)
        if answer.is_too_long:
            raise ChunkReturned(f"The job has been paused for too long. {reason}")
        raise ChunkDeferred(
            str(reason), delay_seconds=max(reason.delay_seconds, answer.retry_after_seconds), pause=reason.pause
        )

    async def _let_go(self, claim: Claim) -> None:
        """End the lease of a delivery that failed, so that the next one need not wait for its end."""
        release = Release(epoch=claim.epoch, failures_key=claim.failures_key, pause="", retry_after_seconds=0)
        try:
            async with asyncio.timeout_at(_loop_time(self.deadlines.end_at)):
                await self.monolith.release(self.message, release)
        except (WorkerError, TimeoutError) as error:
            logger.warning("The lease of chunk %s runs on to its end: %r", self.message.chunk_id, error)

    async def _write(self, claim: Claim, failures: list[RowFailure]) -> str:
        bucket, epoch = self.config.failures_bucket, claim.epoch
        key: str = await self._in_thread(write_failures, self.s3, bucket, self.message, epoch, failures)
        return key

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(S3_THREADS, function, *args)

    @asynccontextmanager
    async def _heartbeat(self, claim: Claim, dispatch: RowDispatch) -> AsyncIterator[None]:
        """Keep the lease while the block runs; stop the dispatch when it is lost or the job is cancelled."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(claim.heartbeat_seconds)
                try:
                    answer = await self.monolith.heartbeat(self.message, claim.epoch)
                except (StaleEpoch, ChunkClosed) as over:
                    dispatch.stop(over)
                    return
                except WorkerError as error:
                    # One heartbeat more or less is no reason to stop: the ledger still guards every create.
                    logger.warning("Heartbeat for chunk %s failed: %s", self.message.chunk_id, error)
                else:
                    dispatch.heartbeats += 1
                    dispatch.limit.set_cap(answer.concurrency)
                    if answer.cancelled:
                        dispatch.cancel()
                    elif answer.paused:
                        dispatch.stop(ChunkDeferred("Staff paused the job.", pause=PauseCode.STAFF))

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


def created_indexes(claim: Claim) -> set[int]:
    return {index for first, last in claim.created for index in range(first, last + 1)}


def sort_rows(lines: list[bytes], first_index: int, over: set[int]) -> tuple[list[tuple[int, bytes]], list[RowFailure]]:
    """The rows to create, with their indexes, and those that were refused before they were stored.

    Rows that are `over`, because an earlier delivery created or settled them, are neither.
    """
    to_create: list[tuple[int, bytes]] = []
    refused: list[RowFailure] = []
    for index, line in enumerate(lines, first_index):
        if index in over:
            continue
        if refusal := read_refused_line(line):
            row, errors = refusal
            refused.append(RowFailure(index, row, Outcome.REJECTED, None, errors, attempts=0, at=now()))
        else:
            to_create.append((index, line))
    return to_create, refused


def finish_report(epoch: int, failures: list[RowFailure], failures_key: str) -> Finish:
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
    """The same moment on the clock of the running loop."""
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()
