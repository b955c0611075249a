"""Keeps the lease of a chunk while its rows are created."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bulk_import_wire.contract import Heartbeat, PauseCode
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, StaleEpoch, WorkerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bulk_import_wire.contract import Claim
    from bulk_import_wire.message import ChunkMessage
    from lambda_worker.call_statistics import CallStatistics
    from lambda_worker.monolith_client import MonolithClient
    from lambda_worker.row_dispatch import RowDispatch

logger = logging.getLogger(__name__)


@asynccontextmanager
async def heartbeats(
    monolith: MonolithClient, message: ChunkMessage, claim: Claim, dispatch: RowDispatch, calls: CallStatistics
) -> AsyncIterator[None]:
    """Send heartbeats while the block runs. Each one reports the create calls so far.

    The responses control the dispatch. Each one sets the cap of the dispatch's limit. The dispatch is cancelled if the
    job was cancelled. It is stopped if the job is paused until somebody resumes it, or if another worker has the chunk.
    """
    task = asyncio.create_task(_send_heartbeats(monolith, message, claim, dispatch, calls))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _send_heartbeats(
    monolith: MonolithClient, message: ChunkMessage, claim: Claim, dispatch: RowDispatch, calls: CallStatistics
) -> None:
    while True:
        await asyncio.sleep(claim.heartbeat_seconds)
        try:
            answer = await monolith.heartbeat(message, Heartbeat(claim.epoch, calls.report().to_dict()))
        except (StaleEpoch, ChunkClosed) as lost:
            dispatch.stop(lost)
            return
        except WorkerError as error:
            # A missed heartbeat is no reason to stop. If the lease ends meanwhile, the ledger refuses every create call
            # of this epoch as stale.
            logger.warning("Heartbeat for chunk %s failed: %s", message.chunk_id, error)
        else:
            dispatch.calls.health.record_heartbeat()
            dispatch.calls.limit.set_cap(answer.concurrency)
            if answer.cancelled:
                dispatch.cancel()
            elif answer.paused:
                dispatch.stop(ChunkDeferred("The job is paused until somebody resumes it.", pause=PauseCode.STAFF))
