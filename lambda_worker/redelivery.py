"""How a message comes again, where SQS's own way (the visibility time-out, then one delivery less) is too crude.

Needs sqs:SendMessage and sqs:ChangeMessageVisibility on the queue.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from bulk_import_wire.contract import message_attributes
from lambda_worker.tracing import traceparent_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from lambda_worker.events import SqsRecord

SQS_ERRORS = (BotoCoreError, ClientError, ResponseParserError)

logger = logging.getLogger(__name__)

MAX_DELAY_SECONDS = 900
"""SQS's limit for a delayed message."""

FIRST_RETRY_SECONDS = 10
MAX_RETRY_SECONDS = 600
"""Between the deliveries of a message whose deliveries fail."""


def defer(sqs: SQSClient, queue_url: str, record: SqsRecord, delay_seconds: float) -> bool:
    """Put a copy of the message on the queue, for later; returns whether this one may be deleted.

    The copy has all its deliveries before it. Should this one be delivered again all the same, nothing is
    done twice: a claim is exclusive.
    """
    delay = min(math.ceil(delay_seconds), MAX_DELAY_SECONDS)
    try:
        sqs.send_message(
            QueueUrl=queue_url,
            MessageBody=record["body"],
            MessageAttributes=message_attributes(traceparent_of(record)),  # type: ignore[arg-type] # plain dicts are what boto3 takes
            DelaySeconds=delay,
        )
    except SQS_ERRORS as error:
        logger.warning("SQS did not take a copy of message %s: %s", record["messageId"], type(error).__name__)
        return False
    return True


def retry_later(sqs: SQSClient, queue_url: str, record: SqsRecord) -> None:
    """Let a message whose delivery failed come again soon, and less soon each time."""
    failures = int(record["attributes"].get("ApproximateReceiveCount", "1"))
    _show_again(sqs, queue_url, record, min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 4 ** (failures - 1)))


def give_up(sqs: SQSClient, queue_url: str, record: SqsRecord) -> None:
    """Let a message that no delivery can help run out of them at once: its place is the dead-letter queue."""
    _show_again(sqs, queue_url, record, 0)


def _show_again(sqs: SQSClient, queue_url: str, record: SqsRecord, seconds: int) -> None:
    try:
        sqs.change_message_visibility(
            QueueUrl=queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds
        )
    except SQS_ERRORS as error:  # then the queue's own visibility time-out counts
        logger.warning("The visibility of message %s stays: %s", record["messageId"], type(error).__name__)
