"""The Lambda function behind the dead-letter queue. It reports the chunk of each message as dead.

Rows that were created, rejected or failed keep their outcome. The remaining rows become unprocessed, and the reason is
stored with them. After that the chunk is dead, and staff can redrive it. A message that does not belong to this
monolith stays in the queue, so that an operator can look at it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from bulk_import_wire.json_object import MessageError
from bulk_import_wire.logs import add_log_context
from bulk_import_wire.message import ChunkMessage
from lambda_worker.chunk_session import ChunkSession
from lambda_worker.deadlines import Deadlines
from lambda_worker.exceptions import ChunkClosed, ChunkReturned, MessageRefused
from lambda_worker.handler import for_each_record, services

if TYPE_CHECKING:
    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord
    from lambda_worker.handler import Services
    from lambda_worker.monolith_client import MonolithClient

logger = logging.getLogger(__name__)


def handler(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    """Report each chunk as dead. Return the messages that SQS must deliver again: those that could not be reported.

    Raises ConfigurationError if the environment is incomplete (on Lambda, importing this module raises it already) or
    the worker secret cannot be read.
    """
    return asyncio.run(process_event(event, context, services()))


async def process_event(event: SqsEvent, context: LambdaContext, services: Services) -> BatchResponse:
    """Do the work of `handler` with these services."""
    deadlines = Deadlines.of(context, time.monotonic())

    async def is_done(record: SqsRecord, monolith: MonolithClient) -> bool:
        try:
            message = ChunkMessage.decode(record["body"])
            add_log_context(job_id=message.job_id, chunk_id=message.chunk_id)
            await ChunkSession(message, monolith, services.s3, services.config, deadlines).report_dead()
        except ChunkClosed as closed:
            logger.info("Message %s is acknowledged: %s", record["messageId"], closed)
        except (MessageError, MessageRefused) as refusal:
            logger.error("Message %s stays in the dead-letter queue: %s", record["messageId"], refusal)  # noqa: TRY400 - no stack wanted
            return False
        except ChunkReturned as returned:
            logger.warning("Message %s is reported later: %s", record["messageId"], returned)
            return False
        return True

    return await for_each_record(event, context, services, is_done)
