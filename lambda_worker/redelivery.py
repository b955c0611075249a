"""Controls when SQS delivers a message again.

By itself, SQS delivers a message again when its visibility timeout ends, and counts each delivery. That is too slow for
a short interruption and uses up the deliveries in a long one. Needs sqs:SendMessage and sqs:ChangeMessageVisibility on
the queue.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from bulk_import_wire.message import message_attributes, retry_seconds
from lambda_worker.aws_errors import AWS_ERRORS
from lambda_worker.tracing import traceparent_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

    from lambda_worker.events import SqsRecord

logger = logging.getLogger(__name__)

MAX_DELAY_SECONDS = 900
"""Longest delay of a message. SQS does not accept more."""

MAX_AWAY_SECONDS = 24 * 3600
"""Longest time for which a message is deferred while the monolith is unavailable.

After this time, the message is no longer replaced by a copy. Each delivery then counts towards maxReceiveCount.
"""

MAX_AWAY_DELAY_SECONDS = 300
"""Longest delay of a message while the monolith is unavailable, unless the monolith asks for more."""

AWAY_SINCE = "bulk-import-away-since"
"""Message attribute of a copy: the Unix time since which the monolith has been unavailable.

This is the time of the first delivery that could not reach the monolith. Each further copy keeps it.
"""

MESSAGE_GROUP = "MessageGroupId"
"""SQS's name for the group of a message: both the attribute of a received message and the parameter of a new one."""


def away_since(record: SqsRecord, now: float) -> float:
    """Return the Unix time since which the monolith is unavailable. This delivery found that out at the time `now`."""
    try:
        return min(now, float(record["messageAttributes"][AWAY_SINCE]["stringValue"]))
    except (KeyError, ValueError):
        return now


def defer(
    sqs: SQSClient, queue_url: str, record: SqsRecord, delay_seconds: float, *, since: float | None = None
) -> bool:
    """Send a copy of the message with a delay, and return whether SQS accepted it.

    If SQS accepted the copy, the caller may delete the original. SQS counts the deliveries of the copy from zero.
    `since` is the result of `away_since` if the monolith is unavailable, and None otherwise.

    If the original is delivered again all the same, no row is created twice,
    because only one worker at a time can claim a chunk.
    """
    delay = min(math.ceil(delay_seconds), MAX_DELAY_SECONDS)
    attributes = message_attributes(traceparent_of(record))
    if since is not None:
        attributes[AWAY_SINCE] = {"DataType": "Number", "StringValue": str(int(since))}
    # The copy stays in the group of its submitter. A queue without groups delivers none, so it gets none.
    group = {name: value for name, value in record["attributes"].items() if name == MESSAGE_GROUP}
    try:
        sqs.send_message(
            QueueUrl=queue_url,
            MessageBody=record["body"],
            MessageAttributes=attributes,  # type: ignore[arg-type] # plain dicts are what boto3 takes
            DelaySeconds=delay,
            **group,  # type: ignore[arg-type] # mypy takes it for all other parameters
        )
    except AWS_ERRORS as error:
        logger.warning("SQS did not accept a copy of message %s: %s", record["messageId"], type(error).__name__)
        return False
    return True


def retry_later(sqs: SQSClient, queue_url: str, record: SqsRecord) -> None:
    """Have SQS deliver the message again after 10 s, and after 40, 160 and 600 s if that fails, too."""
    failures = int(record["attributes"].get("ApproximateReceiveCount", "1"))
    _set_visibility(sqs, queue_url, record, retry_seconds(failures))


def give_up(sqs: SQSClient, queue_url: str, record: SqsRecord) -> None:
    """Have SQS deliver the message again at once. It runs out of deliveries, and SQS moves it to the dead-letter queue.

    Use this for a message that can never be processed.
    """
    _set_visibility(sqs, queue_url, record, 0)


def _set_visibility(sqs: SQSClient, queue_url: str, record: SqsRecord, seconds: int) -> None:
    """Have SQS deliver the message again after `seconds`. If that fails, the queue's own visibility timeout applies."""
    try:
        sqs.change_message_visibility(
            QueueUrl=queue_url, ReceiptHandle=record["receiptHandle"], VisibilityTimeout=seconds
        )
    except AWS_ERRORS as error:
        logger.warning("The visibility of message %s cannot be set: %s", record["messageId"], type(error).__name__)
