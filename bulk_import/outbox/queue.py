"""Sends one SQS message for each chunk. Needs the permission sqs:SendMessage."""

from __future__ import annotations

import hashlib
import json
import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from bulk_import.aws_errors import AWS_ERRORS
from bulk_import.conf import conf
from bulk_import.exceptions import QueueUnavailable
from bulk_import_wire.message import message_attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import SendMessageBatchResultTypeDef

    from bulk_import.models import ImportChunk

logger = logging.getLogger(__name__)

GROUP_CHARACTERS = 32
"""Length of a MessageGroupId. SQS allows 128 characters."""

MAX_BATCH_MESSAGES = 10
"""Maximum number of messages in one SendMessageBatch request (an SQS quota)."""

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
"""Timeouts of a request to SQS. They are short, because SQS normally responds within milliseconds, and because the
client that sends the import waits for its response."""

REFUSED_GROUP = "InvalidParameterValue"
"""Error code of a queue without fair queues. As SQS did before it had them, it accepts groups on FIFO queues only."""


def send_messages(chunks: Sequence[ImportChunk]) -> list[ImportChunk]:
    """Send the messages of at most MAX_BATCH_MESSAGES chunks. Return the chunks whose messages SQS accepted.

    SQS may accept some messages and reject others. The rejected ones are logged with the reason and sent again later.
    Raises QueueUnavailable if SQS confirmed no message. It may have accepted some anyway, for example when the
    response was lost. Sending a message twice is harmless.
    """
    entries = [
        {
            "Id": str(chunk.pk),
            "MessageBody": chunk.message().encode(),
            "MessageAttributes": message_attributes(chunk.job.traceparent),
            "MessageGroupId": message_group(chunk.job.submitter_id),
        }
        for chunk in chunks
    ]
    try:
        answer = _send(entries)
    except AWS_ERRORS as error:
        raise QueueUnavailable("SQS did not accept the messages.") from error
    for failed in answer.get("Failed", []):
        reason = failed.get("Message", "")
        logger.error("SQS rejected the message of chunk %s: %s %s", failed["Id"], failed["Code"], reason)
    accepted = {entry["Id"] for entry in answer.get("Successful", [])}
    if not accepted:
        raise QueueUnavailable("SQS rejected every message.")
    return [chunk for chunk in chunks if str(chunk.pk) in accepted]


def message_group(submitter_id: Any) -> str:
    """Return the MessageGroupId of a submitter's messages: a hash, so that the queue contains no personal data.

    With it, SQS delivers the messages of other submitters first while one submitter has many messages on the queue
    ("fair queues"). The window prevents that already within one target. The group helps if targets share a queue.
    """
    return hashlib.sha256(f"submitter {submitter_id}".encode()).hexdigest()[:GROUP_CHARACTERS]


def without_groups(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "MessageGroupId"} for entry in entries]


def _send(entries: list[dict[str, Any]]) -> SendMessageBatchResultTypeDef:
    """Send the messages. If the queue refuses them because of their groups, send them without groups."""
    client = _configured_client()
    have_groups = "MessageGroupId" in entries[0]
    try:
        answer = client.send_message_batch(QueueUrl=conf().queue_url, Entries=entries)  # type: ignore[arg-type] # boto3 accepts plain dicts
    except ClientError as error:
        if not have_groups or error.response["Error"]["Code"] != REFUSED_GROUP:
            raise
        return _send(without_groups(entries))
    if have_groups and any(failed["Code"] == REFUSED_GROUP for failed in answer.get("Failed", [])):
        return _send(without_groups(entries))
    return answer


def _configured_client() -> SQSClient:
    return _client(json.dumps(conf().queue_client, sort_keys=True))


@cache
def _client(options: str) -> SQSClient:
    """Return the SQS client for these options (JSON). It is thread-safe. It is cached: creating one takes 50 ms."""
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
    )
    return boto3.client("sqs", config=config, **json.loads(options))
