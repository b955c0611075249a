"""The SQS queue, as the poller sees it: events in, acknowledgements out. Nothing is ever sent to a queue.

IAM permissions: sqs:GetQueueAttributes, sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility.
"""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from lambda_worker.sqs import SQS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        DeleteMessageBatchRequestEntryTypeDef,
        MessageAttributeValueOutputTypeDef,
        MessageTypeDef,
    )

    from lambda_worker.events import SqsRecord

RECOMMENDED_VISIBILITY_FACTOR = 6
"""Visibility time-out over function time-out, as AWS advises."""

RECOMMENDED_MAX_RECEIVE_COUNT = 5
"""As AWS advises: with fewer, a throttled moment is enough to dead-letter a message."""

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 10
"""Beyond the long poll, where there is one."""

logger = logging.getLogger(__name__)


class QueueError(Exception):
    """The queue cannot be polled as things are: a person has to change something."""


class QueueAwayError(Exception):
    """SQS gave no usable answer. Wait, then try again."""


class EventSource:
    """One queue. May be shared by threads. Raises QueueError when AWS is not configured."""

    def __init__(self, queue_url: str, *, batch_size: int, wait_seconds: int, connections: int) -> None:
        self._url = queue_url
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        # After a failed receive the poller tries again, after a failed acknowledgement botocore does.
        self._receiving = _client(connections, attempts=1, wait_seconds=wait_seconds)
        self._answering = _client(connections, attempts=3)

    def attributes(self) -> dict[str, str]:
        """What the queue says of itself. Raises QueueError when there is none, QueueAwayError."""
        try:
            answer = self._receiving.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn", "VisibilityTimeout", "RedrivePolicy"]
            )
        except self._receiving.exceptions.QueueDoesNotExist as error:
            raise QueueError(f"the queue does not exist: {self._url}") from error
        except SQS_ERRORS as error:
            raise QueueAwayError(_one_line(error)) from error
        if "Attributes" not in answer:  # botocore takes the first half of an answer for an empty one
            raise QueueAwayError("the answer broke off")
        return {str(name): value for name, value in answer["Attributes"].items()}

    def receive(self) -> list[MessageTypeDef]:
        """Wait for messages, up to a batch of them. Raises QueueAwayError."""
        try:
            answer = self._receiving.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=self._batch_size,
                WaitTimeSeconds=self._wait_seconds,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except SQS_ERRORS as error:
            raise QueueAwayError(_one_line(error)) from error
        return answer.get("Messages", [])

    def delete(self, messages: Sequence[MessageTypeDef]) -> None:
        """Acknowledge. What cannot be deleted comes again, and the handler finds it already done."""
        if not messages:
            return
        ids = [message["MessageId"] for message in messages]
        entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)
        ]
        try:
            answer = self._answering.delete_message_batch(QueueUrl=self._url, Entries=entries)
        except SQS_ERRORS as error:
            logger.warning("not deleted, will come again messages=%s: %s", ",".join(ids), _one_line(error))
            return
        for entry in answer.get("Failed", []):
            logger.warning("not deleted, will come again message=%s: %s", ids[int(entry["Id"])], entry["Code"])

    def hand_back(self, messages: Sequence[MessageTypeDef]) -> None:
        """Let someone else receive messages at once that were received too late to be worked on."""
        for message in messages:
            message_id = message["MessageId"]
            try:
                self._answering.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            except SQS_ERRORS as error:
                logger.warning("not handed back, will come later message=%s: %s", message_id, _one_line(error))
            else:
                logger.info("handed back message=%s", message_id)


def check_queue(attributes: Mapping[str, str], function_timeout_seconds: int) -> None:
    """Refuse what AWS refuses, warn of what AWS advises against. Raises QueueError."""
    visibility_seconds = int(attributes["VisibilityTimeout"])
    if visibility_seconds < function_timeout_seconds:
        raise QueueError(
            f"the queue's visibility time-out ({visibility_seconds} s) is less than the function's time-out "
            f"({function_timeout_seconds} s): messages would come again while they are being worked on"
        )
    if visibility_seconds < RECOMMENDED_VISIBILITY_FACTOR * function_timeout_seconds:
        logger.warning(
            "the queue's visibility time-out (%d s) is less than %d times the function's time-out (%d s)",
            visibility_seconds,
            RECOMMENDED_VISIBILITY_FACTOR,
            function_timeout_seconds,
        )
    redrive = json.loads(attributes.get("RedrivePolicy", "{}"))
    if not redrive:
        logger.warning("the queue has no RedrivePolicy: what always fails comes again until it expires")
    elif int(redrive["maxReceiveCount"]) < RECOMMENDED_MAX_RECEIVE_COUNT:
        logger.warning(
            "the queue's maxReceiveCount (%s) is less than %d",
            redrive["maxReceiveCount"],
            RECOMMENDED_MAX_RECEIVE_COUNT,
        )


def to_record(message: MessageTypeDef, queue_arn: str) -> SqsRecord:
    """Shape a received message as the event source mapping does."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": {str(name): value for name, value in message.get("Attributes", {}).items()},
        "messageAttributes": {
            name: _to_message_attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }


def _to_message_attribute(value: MessageAttributeValueOutputTypeDef) -> dict[str, Any]:
    attribute: dict[str, Any] = {
        "dataType": value["DataType"],
        "stringListValues": value.get("StringListValues", []),
        "binaryListValues": [base64.b64encode(item).decode() for item in value.get("BinaryListValues", [])],
    }
    if "StringValue" in value:
        attribute["stringValue"] = value["StringValue"]
    if "BinaryValue" in value:
        attribute["binaryValue"] = base64.b64encode(value["BinaryValue"]).decode()
    return attribute


def _client(connections: int, *, attempts: int, wait_seconds: int = 0) -> SQSClient:
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS + wait_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=connections,
    )
    try:
        return boto3.client("sqs", config=config)
    except (BotoCoreError, ValueError) as error:  # no region, an endpoint that is no URL
        raise QueueError(f"AWS is not configured: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
