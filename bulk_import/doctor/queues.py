"""Examines the SQS queue and its dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from bulk_import.aws_errors import AWS_ERRORS
from bulk_import.conf import conf
from bulk_import.doctor.findings import DENIED, aws_finding, code_of, denied
from bulk_import_wire.findings import Finding, Level
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
"""Timeout of each call to SQS."""

MAX_DEAD_VISIBILITY_SECONDS = 300
"""Largest recommended visibility timeout of the dead-letter queue.

If the dead-letter function fails, it runs again only after this time, and the job of the dead chunk ends only then.
"""

NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue"}


def examine_queue(function_timeout_seconds: int) -> Iterator[Finding]:
    """Check that we can send to the queue, without sending a message, and that its attributes fit an import."""
    queue_url = conf().queue_url
    options = Config(connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 2})
    sqs = boto3.client("sqs", config=options, **conf().queue_client)
    try:
        # Both entries have the same ID, so SQS rejects the batch and sends nothing, but it checks our permission first.
        entry: Any = {"Id": "doctor", "MessageBody": "doctor"}
        sqs.send_message_batch(QueueUrl=queue_url, Entries=[entry, entry])
    except AWS_ERRORS as error:
        code = code_of(error)
        if code in NO_QUEUE:
            message = f"The queue {queue_url} does not exist in {sqs.meta.region_name}."
            fix = "Create it, correct QUEUE_URL, or correct the region (AWS_DEFAULT_REGION)."
            yield Finding("queue", Level.ERROR, message, fix)
            return
        if code in DENIED:
            yield denied("queue", "sqs:SendMessage", "the monolith's role", Level.ERROR)
        elif not code.endswith("BatchEntryIdsNotDistinct"):
            yield aws_finding("queue", code, error)
            return
    try:
        attributes: Any = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    except AWS_ERRORS as error:
        if code_of(error) in DENIED:
            yield denied("queue", "sqs:GetQueueAttributes", "the role that runs this command", Level.WARNING)
        else:
            yield aws_finding("queue", code_of(error), error)
        return
    findings = [
        *_judge_visibility(visibility_seconds(attributes), function_timeout_seconds),
        *_judge_redrive(sqs, attributes),
    ]
    yield from findings
    if not findings:
        yield Finding("queue", Level.OK, "The queue and its dead-letter queue exist, and their attributes are correct.")


def _judge_visibility(visibility: int, function_timeout: int) -> Iterator[Finding]:
    lease, recommended = conf().lease_seconds, recommended_visibility_seconds(function_timeout)
    if is_delivered_twice(visibility, max(lease, function_timeout) + 1):
        yield Finding(
            "queue",
            Level.ERROR,
            f"VisibilityTimeout is {visibility} s: SQS delivers a chunk again while a worker still processes it (lease "
            f"{lease} s, function timeout {function_timeout} s).",
            f"Set VisibilityTimeout to {max(lease + 1, recommended)}.",
        )
    elif visibility < recommended:
        yield Finding(
            "queue",
            Level.WARNING,
            f"VisibilityTimeout is {visibility} s, less than {VISIBILITY_FACTOR} times the function's timeout.",
            f"Set it to {recommended}. If the function's timeout is not {function_timeout} s, pass --function-timeout.",
        )


def _judge_redrive(sqs: Any, attributes: Mapping[str, str]) -> Iterator[Finding]:
    policy = read_redrive_policy(attributes)
    if policy is None:
        yield Finding(
            "queue",
            Level.ERROR,
            "The queue has no redrive policy: SQS delivers a failing chunk again and again, and its job never ends.",
            f"Create a dead-letter queue and set RedrivePolicy, with maxReceiveCount {MIN_RECEIVE_COUNT}.",
        )
        return
    if policy.allows_too_few_deliveries:
        yield Finding(
            "queue",
            Level.WARNING,
            f"maxReceiveCount is {policy.max_receive_count}: a short outage moves a chunk to the dead-letter queue.",
            f"Set it to {MIN_RECEIVE_COUNT} or more.",
        )
    name = policy.dead_letter_queue_arn.rpartition(":")[2]
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        dead = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except AWS_ERRORS as error:
        code = code_of(error)
        if code in DENIED:
            yield denied(
                "dead-letter queue", "sqs:GetQueueUrl and GetQueueAttributes", "the role that runs this command"
            )
        elif code in NO_QUEUE:
            message = f"The redrive policy names {name}, which does not exist: SQS keeps failing messages on the queue."
            yield Finding("dead-letter queue", Level.ERROR, message, "Create it, or correct RedrivePolicy.")
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
            f"The dead-letter queue keeps messages for {kept_dead} s, the queue for {kept} s. The time counts from the "
            "first send, so SQS can delete a dead letter before anybody sees it.",
            "Set MessageRetentionPeriod of the dead-letter queue to 1209600 (14 days), and of the queue to 604800.",
        )
    if int(dead["VisibilityTimeout"]) > MAX_DEAD_VISIBILITY_SECONDS:
        yield Finding(
            "dead-letter queue",
            Level.WARNING,
            f"VisibilityTimeout is {dead['VisibilityTimeout']} s: the job of a dead chunk can end this much later.",
            f"Set it to {MAX_DEAD_VISIBILITY_SECONDS} or less.",
        )
    if dead.get("RedrivePolicy"):
        yield Finding(
            "dead-letter queue",
            Level.ERROR,
            "The dead-letter queue has its own redrive policy: dead letters move to a queue that no worker reads.",
            "Remove its RedrivePolicy.",
        )
