"""The SQS queue as the poller sees it: it receives messages, deletes them and returns them. It never sends one.

IAM permissions: sqs:GetQueueAttributes, sqs:ReceiveMessage, sqs:DeleteMessage, sqs:ChangeMessageVisibility.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from bulk_import_wire.queue_rules import (
    MIN_RECEIVE_COUNT,
    VISIBILITY_FACTOR,
    is_delivered_twice,
    read_redrive_policy,
    recommended_visibility_seconds,
    visibility_seconds,
)
from lambda_worker.aws_errors import AWS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        DeleteMessageBatchRequestEntryTypeDef,
        MessageAttributeValueOutputTypeDef,
        MessageTypeDef,
    )

    from lambda_worker.events import SqsRecord

CONNECT_TIMEOUT_SECONDS = 5

READ_TIMEOUT_SECONDS = 10
"""How long we wait for a response. A receive call waits for the duration of its long poll in addition."""

logger = logging.getLogger(__name__)


class QueueError(Exception):
    """The configuration is wrong, so retrying does not help. A person has to correct it."""


class QueueUnavailableError(Exception):
    """SQS did not respond, or its response is unusable. Wait, then retry."""


class EventSource:
    """Client of one queue. Threads may share an instance."""

    def __init__(self, queue_url: str, *, batch_size: int, wait_seconds: int, connections: int) -> None:
        """Create the clients. A long poll takes `wait_seconds`. Raises QueueError if AWS is not configured."""
        self._url = queue_url
        self._batch_size = batch_size
        self._wait_seconds = wait_seconds
        # Every call is retried in one place only. The poller retries a failed receive itself, with its own backoff, so
        # botocore makes one attempt. The poller does not retry a failed delete, so botocore makes up to three attempts.
        self._receiving = _client(connections, attempts=1, wait_seconds=wait_seconds)
        self._answering = _client(connections, attempts=3)

    def attributes(self) -> dict[str, str]:
        """Return the queue's ARN, visibility timeout and redrive policy, under SQS's names for them.

        Raises QueueError if the queue does not exist, and QueueUnavailableError.
        """
        try:
            answer = self._receiving.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["QueueArn", "VisibilityTimeout", "RedrivePolicy"]
            )
        except self._receiving.exceptions.QueueDoesNotExist as error:
            raise QueueError(f"the queue does not exist: {self._url}") from error
        except AWS_ERRORS as error:
            raise QueueUnavailableError(_one_line(error)) from error
        if "Attributes" not in answer:  # botocore parses a truncated response as an empty one
            raise QueueUnavailableError("the response is incomplete")
        return {str(name): value for name, value in answer["Attributes"].items()}

    def receive(self) -> list[MessageTypeDef]:
        """Wait for messages and return them, at most one batch. Raises QueueUnavailableError."""
        try:
            answer = self._receiving.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=self._batch_size,
                WaitTimeSeconds=self._wait_seconds,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
        except AWS_ERRORS as error:
            raise QueueUnavailableError(_one_line(error)) from error
        return answer.get("Messages", [])

    def delete(self, messages: Sequence[MessageTypeDef]) -> None:
        """Acknowledge messages.

        A failure is only logged. SQS then delivers the message again, and the handler finds its work already done.
        """
        if not messages:
            return
        ids = [message["MessageId"] for message in messages]
        entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
            {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)
        ]
        try:
            answer = self._answering.delete_message_batch(QueueUrl=self._url, Entries=entries)
        except AWS_ERRORS as error:
            logger.warning("not deleted, SQS will redeliver messages=%s: %s", ",".join(ids), _one_line(error))
            return
        for entry in answer.get("Failed", []):
            logger.warning("not deleted, SQS will redeliver message=%s: %s", ids[int(entry["Id"])], entry["Code"])

    def return_to_queue(self, messages: Sequence[MessageTypeDef]) -> None:
        """Make messages visible at once, so that another poller can receive them.

        The poller uses this for messages that arrive while it is stopping.
        """
        for message in messages:
            message_id = message["MessageId"]
            try:
                self._answering.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                )
            except AWS_ERRORS as error:
                logger.warning(
                    "not returned to the queue, SQS will redeliver it later message=%s: %s",
                    message_id,
                    _one_line(error),
                )
            else:
                logger.info("returned to the queue message=%s", message_id)


def check_queue(
    attributes: Mapping[str, str], function_timeout_seconds: int, *, is_dead_letter_queue: bool = False
) -> None:
    """Log a warning for each attribute that differs from AWS's recommendation.

    A dead-letter queue needs no redrive policy.

    Raises QueueError for a visibility timeout with which AWS would refuse to create an event source mapping.
    """
    visibility = visibility_seconds(attributes)
    if is_delivered_twice(visibility, function_timeout_seconds):
        raise QueueError(
            f"the queue's visibility timeout ({visibility} s) is shorter than the function's timeout "
            f"({function_timeout_seconds} s): SQS would redeliver messages that are still being processed"
        )
    if visibility < recommended_visibility_seconds(function_timeout_seconds):
        logger.warning(
            "the queue's visibility timeout (%d s) is less than %d times the function's timeout (%d s)",
            visibility,
            VISIBILITY_FACTOR,
            function_timeout_seconds,
        )
    if is_dead_letter_queue:
        return
    policy = read_redrive_policy(attributes)
    if policy is None:
        logger.warning("the queue has no RedrivePolicy: SQS redelivers a failing message until it expires")
    elif policy.allows_too_few_deliveries:
        logger.warning("the queue's maxReceiveCount (%d) is less than %d", policy.max_receive_count, MIN_RECEIVE_COUNT)


def to_record(message: MessageTypeDef, queue_arn: str) -> SqsRecord:
    """Convert a received message to a record of a Lambda event, in the format of the event source mapping."""
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
    except (BotoCoreError, ValueError) as error:  # for example, no region, or an endpoint that is not a URL
        raise QueueError(f"AWS is not configured: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
