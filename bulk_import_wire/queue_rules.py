"""The values that the SQS attributes of the import queue should have.

The poller checks the queue with these rules when it starts, and so does `manage.py bulk_import_doctor`. The functions
take the attributes that GetQueueAttributes returns. This module uses the standard library only, so that both sides can
import it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VISIBILITY_FACTOR = 6
"""Recommended visibility timeout, as a multiple of the function's timeout. AWS recommends 6, because Lambda may retry a
throttled invocation for several timeouts before it returns the message to the queue."""

MIN_RECEIVE_COUNT = 5
"""Smallest recommended maxReceiveCount. AWS recommends 5. With fewer deliveries, a message can reach the dead-letter
queue only because Lambda was throttled for a short time."""


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    """Where SQS moves a message, and after how many failed deliveries."""

    dead_letter_queue_arn: str
    max_receive_count: int

    @property
    def allows_too_few_deliveries(self) -> bool:
        """Whether SQS gives up a message after fewer deliveries than AWS recommends."""
        return self.max_receive_count < MIN_RECEIVE_COUNT


def visibility_seconds(attributes: Mapping[str, str]) -> int:
    """Return the queue's visibility timeout: how long SQS hides a message after it was received."""
    return int(attributes["VisibilityTimeout"])


def is_delivered_twice(visibility: int, processing_seconds: int) -> bool:
    """Return whether SQS may deliver a message again while its first delivery is still being processed."""
    return visibility < processing_seconds


def recommended_visibility_seconds(function_timeout_seconds: int) -> int:
    """Return the shortest visibility timeout that AWS recommends for a function with this timeout."""
    return VISIBILITY_FACTOR * function_timeout_seconds


def read_redrive_policy(attributes: Mapping[str, str]) -> RedrivePolicy | None:
    """Return the queue's redrive policy, or None if it has none or an incomplete one.

    SQS returns the policy as JSON text, in which maxReceiveCount is a number or a string.
    """
    try:
        policy = json.loads(attributes["RedrivePolicy"])
        return RedrivePolicy(str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"]))
    except (KeyError, TypeError, ValueError):
        return None
