"""Types of the event and the context that Lambda passes to a handler of SQS messages, and of the handler's response.

The names are AWS's. The types are defined here, so that annotating a handler needs no AWS package.
"""

from __future__ import annotations

from typing import Any, Protocol, TypedDict


class SqsRecord(TypedDict):
    """One SQS message of the batch."""

    messageId: str
    receiptHandle: str
    body: str
    attributes: dict[str, str]  # ApproximateReceiveCount, SentTimestamp and so on, all of them as strings
    messageAttributes: dict[str, dict[str, Any]]  # stringValue or binaryValue (base64), and dataType
    md5OfBody: str
    eventSource: str  # "aws:sqs"
    eventSourceARN: str
    awsRegion: str


class SqsEvent(TypedDict):
    """The event of one invocation: 1 to 10 messages."""

    Records: list[SqsRecord]


class BatchResponse(TypedDict):
    """The response: `{"itemIdentifier": <messageId>}` for each message that SQS must deliver again."""

    batchItemFailures: list[dict[str, str]]


class LambdaContext(Protocol):
    """The handler's second argument: the attributes that both AWS's runtime and our poller provide."""

    @property
    def aws_request_id(self) -> str: ...

    @property
    def function_name(self) -> str: ...

    @property
    def function_version(self) -> str: ...

    @property
    def memory_limit_in_mb(self) -> str:
        """A string, because AWS's runtime takes it from an environment variable."""

    @property
    def invoked_function_arn(self) -> str: ...

    def get_remaining_time_in_millis(self) -> int: ...
