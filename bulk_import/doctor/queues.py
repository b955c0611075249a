"""SQS: the queue and its dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from bulk_import.conf import conf
from bulk_import.doctor.findings import DENIED, Finding, Level, aws_finding, code_of, denied
from bulk_import_wire.queue_rules import (
    MIN_RECEIVE_COUNT,
    VISIBILITY_FACTOR,
    is_delivered_twice,
    read_redrive_policy,
    recommended_visibility_seconds,
    visibility_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TIMEOUT_SECONDS = 10
"""For each call."""
MAX_DEAD_VISIBILITY_SECONDS = 300  # so long a chunk may be dead before its job says so
NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue"}


def examine_queue(function_timeout_seconds: int) -> Iterator[Finding]:
    queue_url = conf().queue_url
    options = Config(connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 2})
    sqs = boto3.client("sqs", config=options, **conf().queue_client)
    try:
        # Two entries of the same id: SQS refuses the whole of it, so nothing is ever sent.
        entry: Any = {"Id": "doctor", "MessageBody": "doctor"}
        sqs.send_message_batch(QueueUrl=queue_url, Entries=[entry, entry])
    except (BotoCoreError, ClientError) as error:
        code = code_of(error)
        if code in NO_QUEUE:
            yield Finding("queue", Level.ERROR, f"There is no queue {queue_url}", "Make it, or mend QUEUE_URL.")
            return
        if code in DENIED:
            yield denied("queue", "sqs:SendMessage", "the monolith's role", Level.ERROR)
        elif not code.endswith("BatchEntryIdsNotDistinct"):
            yield aws_finding("queue", code, error)
            return
    try:
        attributes: Any = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    except (BotoCoreError, ClientError) as error:
        if code_of(error) in DENIED:
            yield denied("queue", "sqs:GetQueueAttributes", "whoever runs this", Level.WARNING)
        else:
            yield aws_finding("queue", code_of(error), error)
        return
    findings = [
        *_judge_visibility(visibility_seconds(attributes), function_timeout_seconds),
        *_judge_redrive(sqs, attributes),
    ]
    yield from findings
    if not findings:
        yield Finding("queue", Level.OK, "It is there, and so is its dead-letter queue.")


def _judge_visibility(visibility: int, function_timeout: int) -> Iterator[Finding]:
    lease, recommended = conf().lease_seconds, recommended_visibility_seconds(function_timeout)
    if is_delivered_twice(visibility, max(lease, function_timeout) + 1):
        yield Finding(
            "queue",
            Level.ERROR,
            f"VisibilityTimeout is {visibility} s: a chunk comes again while it is worked on (lease {lease} s, "
            f"function {function_timeout} s).",
            f"Set VisibilityTimeout to {max(lease + 1, recommended)}.",
        )
    elif visibility < recommended:
        yield Finding(
            "queue",
            Level.WARNING,
            f"VisibilityTimeout is {visibility} s, less than {VISIBILITY_FACTOR} times the function's time-out.",
            f"Set it to {recommended}, or say --function-timeout if it is not {function_timeout}.",
        )


def _judge_redrive(sqs: Any, attributes: Mapping[str, str]) -> Iterator[Finding]:
    policy = read_redrive_policy(attributes)
    if policy is None:
        yield Finding(
            "queue",
            Level.ERROR,
            "It has no redrive policy: a chunk that fails comes again for ever, and its job never ends.",
            f"Make a dead-letter queue and set RedrivePolicy, with maxReceiveCount {MIN_RECEIVE_COUNT}.",
        )
        return
    if policy.allows_too_few_deliveries:
        yield Finding(
            "queue",
            Level.WARNING,
            f"maxReceiveCount is {policy.max_receive_count}: a moment of trouble is enough to make a chunk dead.",
            f"Set it to {MIN_RECEIVE_COUNT} or more.",
        )
    name = policy.dead_letter_queue_arn.rpartition(":")[2]
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        dead = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except (BotoCoreError, ClientError) as error:
        code = code_of(error)
        if code in DENIED:
            yield denied("dead-letter queue", "sqs:GetQueueUrl and GetQueueAttributes", "whoever runs this")
        elif code in NO_QUEUE:
            message = f"The redrive policy names {name}, which is not there: SQS keeps such messages on the queue."
            yield Finding("dead-letter queue", Level.ERROR, message, "Make it, or mend the RedrivePolicy.")
        else:
            yield aws_finding("dead-letter queue", code, error)
        return
    yield from _judge_dead_letter_queue(attributes, dead)


def _judge_dead_letter_queue(queue: Mapping[str, str], dead: Mapping[str, str]) -> Iterator[Finding]:
    kept, kept_dead = int(queue["MessageRetentionPeriod"]), int(dead["MessageRetentionPeriod"])
    if kept_dead <= kept:
        yield Finding(
            "dead-letter queue",
            Level.ERROR,
            f"It keeps messages for {kept_dead} s, the queue for {kept} s. A dead letter keeps the time that it was "
            "sent at: one that waited long may be gone before anybody knows.",
            "Set its MessageRetentionPeriod to 1209600 (14 days), and that of the queue to 604800.",
        )
    if int(dead["VisibilityTimeout"]) > MAX_DEAD_VISIBILITY_SECONDS:
        yield Finding(
            "dead-letter queue",
            Level.WARNING,
            f"Its VisibilityTimeout is {dead['VisibilityTimeout']} s: so long a chunk may be dead before its job says "
            "so.",
            f"Set it to {MAX_DEAD_VISIBILITY_SECONDS} or less.",
        )
    if dead.get("RedrivePolicy"):
        yield Finding(
            "dead-letter queue",
            Level.ERROR,
            "It has a redrive policy of its own: dead letters go where nobody reads them.",
            "Remove its RedrivePolicy.",
        )
