"""The Lambda function behind the queue: SQS event in, the messages to deliver again out."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config as ClientConfig

from bulk_import_wire.contract import ChunkMessage, MessageError
from bulk_import_wire.logs import add_log_context, carry_fields, log_context
from lambda_worker.chunk_session import run_chunk
from lambda_worker.config import Config
from lambda_worker.deadlines import Deadlines
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, MessageRefused
from lambda_worker.monolith_client import MonolithClient
from lambda_worker.redelivery import defer, give_up, retry_later
from lambda_worker.stored_secret import StoredSecret
from lambda_worker.tracing import continued_trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord

logger = logging.getLogger(__name__)
carry_fields()

# Short, because an invocation cannot wait for long; what S3 or SQS does not take now, the next delivery brings.
CLIENT = ClientConfig(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


def handler(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    """Process each chunk message. Returns those to deliver again (`ReportBatchItemFailures`).

    Raises ConfigurationError when the environment is incomplete (on Lambda the import already does), or the worker
    secret cannot be read; then every message is delivered again.
    """
    deadlines = Deadlines.of(context, time.monotonic())
    worker_config = config()

    async def is_done(record: SqsRecord, monolith: MonolithClient) -> bool:
        return await _is_done(record, monolith, worker_config, deadlines)

    return asyncio.run(for_each_record(event, context, worker_config, is_done))


async def for_each_record(
    event: SqsEvent,
    context: LambdaContext,
    worker_config: Config,
    is_done: Callable[[SqsRecord, MonolithClient], Awaitable[bool]],
) -> BatchResponse:
    """One message after the other: a worker's calls in flight are bounded by its chunk's limit."""
    async with MonolithClient(worker_config, context.aws_request_id) as monolith:
        done = []
        for record in event["Records"]:
            with log_context(message_id=record["messageId"]), continued_trace(record):
                done.append(await is_done(record, monolith))
    return {
        "batchItemFailures": [
            {"itemIdentifier": record["messageId"]}
            for record, is_over in zip(event["Records"], done, strict=True)
            if not is_over
        ]
    }


async def _is_done(record: SqsRecord, monolith: MonolithClient, worker_config: Config, deadlines: Deadlines) -> bool:
    """Whether the message may be deleted: its chunk is finished, or closed already, or comes again as a copy."""
    queue_url = worker_config.queue_url
    try:
        message = ChunkMessage.decode(record["body"])
        add_log_context(job_id=message.job_id, chunk_id=message.chunk_id)
        await run_chunk(message, monolith=monolith, s3=s3(), config=worker_config, deadlines=deadlines)
    except ChunkClosed as closed:
        logger.info("Message %s is acknowledged: %s", record["messageId"], closed)
    except (MessageError, MessageRefused) as refusal:
        logger.error("Message %s is refused: %s", record["messageId"], refusal)  # noqa: TRY400 - no stack wanted
        give_up(_sqs(), queue_url, record)
        return False
    except ChunkDeferred as deferred:
        logger.info("Message %s comes again in %.0f s: %s", record["messageId"], deferred.delay_seconds, deferred)
        return defer(_sqs(), queue_url, record, deferred.delay_seconds)
    except ChunkReturned as returned:
        logger.warning("The delivery of message %s failed: %s", record["messageId"], returned)
        retry_later(_sqs(), queue_url, record)
        return False
    return True


def config() -> Config:
    """The environment's, with the worker secret as it is now. Once an invocation: it may ask Secrets Manager."""
    configured = _environment()
    if configured.worker_secret:
        return configured
    return replace(configured, worker_secret=_stored_secret().value())


@cache
def _environment() -> Config:
    return Config.from_environment()


@cache
def _stored_secret() -> StoredSecret:
    return StoredSecret(boto3.client("secretsmanager", config=CLIENT), _environment().worker_secret_id)


@cache
def s3() -> S3Client:
    return boto3.client("s3", config=CLIENT)


@cache
def _sqs() -> SQSClient:
    return boto3.client("sqs", config=CLIENT)


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # On Lambda: a function that cannot work fails at its start, and costs no message a delivery. What takes time is
    # done where Lambda grants more of the processor.
    config(), s3(), _sqs()
