"""The Lambda function behind the dead-letter queue: makes the job of each message tell the truth.

Whatever was created or settled of the chunk stays; the rows that are left become unprocessed, with the
reason. From then on the chunk is dead, and can be redriven. A message that is none of the monolith's stays in
the queue, for people to look at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from bulk_import_wire.contract import ChunkMessage, MessageError
from bulk_import_wire.logs import add_log_context
from lambda_worker.chunk_session import ChunkSession
from lambda_worker.deadlines import Deadlines
from lambda_worker.exceptions import ChunkClosed, ChunkReturned, MessageRefused
from lambda_worker.handler import config, for_each_record, s3

if TYPE_CHECKING:
    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent, SqsRecord
    from lambda_worker.monolith_client import MonolithClient

logger = logging.getLogger(__name__)


def handler(event: SqsEvent, context: LambdaContext) -> BatchResponse:
    """Report each chunk as dead. Returns the messages to deliver again, as long as the monolith does not know.

    Raises ConfigurationError when the environment is incomplete (on Lambda the import already does), or the worker
    secret cannot be read.
    """
    deadlines = Deadlines.of(context, time.monotonic())
    worker_config = config()

    async def is_done(record: SqsRecord, monolith: MonolithClient) -> bool:
        try:
            message = ChunkMessage.decode(record["body"])
            add_log_context(job_id=message.job_id, chunk_id=message.chunk_id)
            await ChunkSession(message, monolith, s3(), worker_config, deadlines).report_dead()
        except ChunkClosed as closed:
            logger.info("Message %s is acknowledged: %s", record["messageId"], closed)
        except (MessageError, MessageRefused) as refusal:
            logger.error("Message %s stays in the dead-letter queue: %s", record["messageId"], refusal)  # noqa: TRY400 - no stack wanted
            return False
        except ChunkReturned as returned:
            logger.warning("Message %s is reported later: %s", record["messageId"], returned)
            return False
        return True

    return asyncio.run(for_each_record(event, context, worker_config, is_done))
