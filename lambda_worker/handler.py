"""The Lambda function behind the queue: SQS event in, the messages to deliver again out."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config as ClientConfig

from lambda_worker.chunk_session import run_chunk
from lambda_worker.config import Config
from lambda_worker.contract import ChunkMessage, MessageError
from lambda_worker.exceptions import ChunkClosed, ChunkReturned, MessageRefused
from lambda_worker.monolith_client import MonolithClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord

logger = logging.getLogger(__name__)

MAX_SETTLE_SECONDS = 30.0
"""Time kept at the end of an invocation for the calls in flight, or a fifth of it if that is less."""

SETTLE_SHARE = 0.2
REPORT_SECONDS = 1.0
"""Of those, kept for telling the queue what was not done."""


def handler(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    """Process each chunk message. Returns those to deliver again (`ReportBatchItemFailures`).

    Raises ConfigurationError when the environment is incomplete; then every message is delivered again.
    """
    return asyncio.run(_handle(event, context))


async def _handle(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    seconds_left = context.get_remaining_time_in_millis() / 1000
    settle_seconds = min(MAX_SETTLE_SECONDS, seconds_left * SETTLE_SHARE)
    now = time.monotonic()
    stop_at = now + seconds_left - settle_seconds
    end_at = now + seconds_left - min(REPORT_SECONDS, settle_seconds / 2)
    config = _config()
    async with MonolithClient(config) as monolith:
        done = [
            await _is_done(record, monolith=monolith, config=config, stop_at=stop_at, end_at=end_at)
            for record in event["Records"]
        ]
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, is_done in zip(event["Records"], done, strict=True)
            if not is_done
        ]
    }


async def _is_done(
    record: SqsRecord, *, monolith: MonolithClient, config: Config, stop_at: float, end_at: float
) -> bool:
    """Whether the message may be deleted: its chunk was finished now, or is closed already."""
    try:
        message = ChunkMessage.decode(record["body"])
        await run_chunk(message, monolith=monolith, s3=_s3(), config=config, stop_at=stop_at, end_at=end_at)
    except ChunkClosed as closed:
        logger.info("Message %s is acknowledged: %s", record["messageId"], closed)
    except (MessageError, MessageRefused) as refusal:
        logger.error("Message %s is refused: %s", record["messageId"], refusal)  # noqa: TRY400 - no stack wanted
        return False
    except ChunkReturned as returned:
        logger.warning("Message %s goes back to the queue: %s", record["messageId"], returned)
        return False
    return True


@cache
def _config() -> Config:
    return Config.from_environment()


@cache
def _s3() -> S3Client:
    """One client a process; retries of a request that S3 did not take are boto3's, see `payload_reader` for reads."""
    return boto3.client(
        "s3",
        config=ClientConfig(connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 4}),
    )
