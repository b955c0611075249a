"""The Lambda function behind the queue. It takes an SQS event and returns the messages that SQS must deliver again."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config as ClientConfig

from bulk_import_wire.json_object import MessageError
from bulk_import_wire.logs import add_log_context, install_log_context, log_context
from bulk_import_wire.message import ChunkMessage, UnknownVersion
from lambda_worker.chunk_session import ChunkSession
from lambda_worker.config import Config
from lambda_worker.deadlines import Deadlines
from lambda_worker.exceptions import ChunkClosed, ChunkDeferred, ChunkReturned, MessageRefused, MonolithAway
from lambda_worker.limiter import Limiters
from lambda_worker.monolith_client import MonolithClient
from lambda_worker.redelivery import MAX_AWAY_DELAY_SECONDS, MAX_AWAY_SECONDS, away_since, defer, give_up, retry_later
from lambda_worker.stored_secret import StoredSecret
from lambda_worker.tracing import continued_trace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord

logger = logging.getLogger(__name__)
install_log_context()

# Timeouts of the AWS clients. They are short, because an invocation has little time. If S3 or SQS does not respond, the
# next delivery of the message tries again.
CLIENT = ClientConfig(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3})


@dataclass(frozen=True, slots=True)
class Services:
    """What an invocation needs from outside: its configuration, and the clients of S3, SQS and the monolith.

    `limiters` has what earlier invocations of the process found out about the create endpoints.
    """

    config: Config
    s3: S3Client
    sqs: SQSClient
    transport: httpx.AsyncBaseTransport | None = None  # carries the calls of the monolith; None makes connections
    limiters: Limiters = field(default_factory=Limiters)


def handler(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    """Process each chunk message. Return the messages that SQS must deliver again (`ReportBatchItemFailures`).

    Raises ConfigurationError if the environment is incomplete (on Lambda, importing this module raises it already) or
    the worker secret cannot be read. Then SQS delivers every message again.
    """
    return asyncio.run(process_event(event, context, services()))


async def process_event(event: SqsEvent, context: LambdaContext, services: Services) -> BatchResponse:
    """Do the work of `handler` with these services."""
    deadlines = Deadlines.of(context, time.monotonic())

    async def is_done(record: SqsRecord, monolith: MonolithClient) -> bool:
        return await _is_done(record, monolith, services, deadlines)

    return await for_each_record(event, context, services, is_done)


async def for_each_record(
    event: SqsEvent,
    context: LambdaContext,
    services: Services,
    is_done: Callable[[SqsRecord, MonolithClient], Awaitable[bool]],
) -> BatchResponse:
    """Call `is_done` for one message after the other, and return those for which it returned False.

    The messages of a batch are not processed in parallel: the concurrency limit of a chunk then also limits the calls
    of the whole invocation.
    """
    failures = []
    async with MonolithClient(services.config, context.aws_request_id, services.transport) as monolith:
        for record in event["Records"]:
            with log_context(message_id=record["messageId"]), continued_trace(record):
                if not await is_done(record, monolith):
                    failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


async def _is_done(record: SqsRecord, monolith: MonolithClient, services: Services, deadlines: Deadlines) -> bool:
    """Process one message and return whether SQS may delete it.

    SQS may delete it if the chunk is finished or was closed before, or if a copy of the message has been sent.
    """
    sqs, queue_url = services.sqs, services.config.queue_url
    try:
        message = ChunkMessage.decode(record["body"])
        add_log_context(job_id=message.job_id, chunk_id=message.chunk_id)
        session = ChunkSession(message, monolith, services.s3, services.config, deadlines, limiters=services.limiters)
        await session.run()
    except ChunkClosed as closed:
        logger.info("Message %s is acknowledged: %s", record["messageId"], closed)
    except UnknownVersion as unknown:
        # During a deployment, a worker of the other release may read it, so do not use up its deliveries at once.
        logger.error("Message %s is delivered again: %s", record["messageId"], unknown)  # noqa: TRY400 - no stack wanted
        retry_later(sqs, queue_url, record)
        return False
    except (MessageError, MessageRefused) as refusal:
        logger.error("Message %s is refused: %s", record["messageId"], refusal)  # noqa: TRY400 - no stack wanted
        give_up(sqs, queue_url, record)
        return False
    except ChunkDeferred as deferred:
        return _defer(sqs, queue_url, record, deferred)
    except ChunkReturned as returned:
        logger.warning("The delivery of message %s failed: %s", record["messageId"], returned)
        retry_later(sqs, queue_url, record)
        return False
    return True


def _defer(sqs: SQSClient, queue_url: str, record: SqsRecord, deferred: ChunkDeferred) -> bool:
    """Put a copy of the message on the queue, and return whether SQS may delete the message itself.

    If the monolith has been unavailable for too long, there is no copy. SQS delivers the message itself again, up to
    maxReceiveCount times.
    """
    since, delay = None, deferred.delay_seconds
    if isinstance(deferred, MonolithAway):
        now = time.time()
        since = away_since(record, now)
        if now - since > MAX_AWAY_SECONDS:
            logger.error("The delivery of message %s failed: %s", record["messageId"], deferred)
            retry_later(sqs, queue_url, record)
            return False
        delay = max(delay, min(now - since, MAX_AWAY_DELAY_SECONDS))  # the longer it is away, the rarer the attempts
    logger.info("Message %s is deferred for %.0f s: %s", record["messageId"], delay, deferred)
    return defer(sqs, queue_url, record, delay, since=since)


def services() -> Services:
    """Return the services of this environment. Call it once per invocation, see `config`."""
    return Services(config(), s3(), _sqs(), limiters=_limiters())


def config() -> Config:
    """Return the configuration with the current worker secret. Call it once per invocation.

    It may call Secrets Manager. A second call could return a new secret in the middle of an invocation.
    """
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


@cache
def _limiters() -> Limiters:
    return Limiters()


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Do the slow work when Lambda starts the environment, because Lambda grants more CPU time then. If the
    # configuration is incomplete, the function fails here. It has not received a message yet, so no delivery is wasted.
    services()
