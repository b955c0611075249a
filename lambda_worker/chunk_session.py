"""One chunk, from claim to finish. Each step that fails leaves the message on the queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lambda_worker.concurrency import ConcurrencyLimit
from lambda_worker.contract import Finish, Outcome, read_refused_line
from lambda_worker.exceptions import ChunkClosed, ChunkReturned, StaleEpoch, WorkerError
from lambda_worker.failure_log import RowFailure, group_failures, now, write_failures
from lambda_worker.payload_reader import read_rows
from lambda_worker.row_dispatch import RowDispatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mypy_boto3_s3 import S3Client

    from lambda_worker.config import Config
    from lambda_worker.contract import ChunkMessage, Claim
    from lambda_worker.monolith_client import Answer, MonolithClient

logger = logging.getLogger(__name__)


async def run_chunk(
    message: ChunkMessage,
    *,
    monolith: MonolithClient,
    s3: S3Client,
    config: Config,
    stop_at: float,
    end_at: float,
) -> None:
    """Bring every row of the chunk to an outcome and report it; then the message may be acknowledged.

    `stop_at` and `end_at` are of time.monotonic(): no row is taken after the first, no call lasts beyond
    the second. Raises ChunkClosed, MessageRefused, ChunkReturned.
    """
    if time.monotonic() >= stop_at:  # a claim would only keep the next delivery from it
        raise ChunkReturned("The time is over before the chunk was claimed.")
    try:
        async with asyncio.timeout(end_at - time.monotonic()):
            await _run_in_time(message, monolith=monolith, s3=s3, config=config, stop_at=stop_at, end_at=end_at)
    except TimeoutError as error:
        raise ChunkReturned("The time is over; the next delivery goes on.") from error


async def _run_in_time(
    message: ChunkMessage, *, monolith: MonolithClient, s3: S3Client, config: Config, stop_at: float, end_at: float
) -> None:
    claim = await monolith.claim(message)

    async def create(index: int, row: bytes, timeout_seconds: float) -> Answer:
        return await monolith.create(claim, f"{message.job_id}:{index}", row, timeout_seconds)

    limit = ConcurrencyLimit(claim.concurrency)
    dispatch = RowDispatch(create=create, limit=limit, stop_at=stop_at, end_at=end_at)
    async with _heartbeat(message, claim, monolith, dispatch):
        rows = await asyncio.to_thread(read_rows, s3, config.payloads_bucket, message)
        to_create, refused = sort_rows(rows, message.first_index, claim.created)
        failures = refused + await dispatch.run(to_create)
        failures_key = await asyncio.to_thread(
            write_failures, s3, config.failures_bucket, message, claim.epoch, failures
        )
    outcomes = Counter(failure.outcome for failure in failures)
    finish = Finish(
        epoch=claim.epoch,
        rejected=outcomes[Outcome.REJECTED],
        failed=outcomes[Outcome.FAILED],
        unprocessed=outcomes[Outcome.UNPROCESSED],
        failures_key=failures_key,
        problems=group_failures(failures),
    )
    await monolith.finish(message, finish)
    logger.info(
        "Finished chunk %s of job %s, epoch %d: %d rows, %d not created",
        message.chunk_id,
        message.job_id,
        claim.epoch,
        message.row_count,
        len(failures),
    )


def sort_rows(
    lines: list[bytes], first_index: int, created_ranges: list[list[int]]
) -> tuple[list[tuple[int, bytes]], list[RowFailure]]:
    """The rows to create, with their indexes, and those that were refused before they were stored.

    Rows in one of the ledger's ranges are neither: they are created.
    """
    created = {index for first, last in created_ranges for index in range(first, last + 1)}
    to_create: list[tuple[int, bytes]] = []
    refused: list[RowFailure] = []
    for index, line in enumerate(lines, first_index):
        if refusal := read_refused_line(line):
            row, errors = refusal
            refused.append(RowFailure(index, row, Outcome.REJECTED, None, errors, attempts=0, at=now()))
        elif index not in created:
            to_create.append((index, line))
    return to_create, refused


@asynccontextmanager
async def _heartbeat(
    message: ChunkMessage, claim: Claim, monolith: MonolithClient, dispatch: RowDispatch
) -> AsyncIterator[None]:
    """Keep the lease while the block runs; stop the dispatch when it is lost or the job is cancelled."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(claim.heartbeat_seconds)
            try:
                answer = await monolith.heartbeat(message, claim.epoch)
            except (StaleEpoch, ChunkClosed) as over:
                dispatch.stop(over)
                return
            except WorkerError as error:
                # One heartbeat more or less is no reason to stop: the ledger still guards every create.
                logger.warning("Heartbeat for chunk %s failed: %s", message.chunk_id, error)
            else:
                dispatch.cancelled = answer.cancelled
                dispatch.limit.set_cap(answer.concurrency)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
