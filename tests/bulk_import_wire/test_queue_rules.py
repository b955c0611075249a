"""The rules for the attributes of the import queue, which the poller and the doctor share."""

from __future__ import annotations

import pytest

from bulk_import_wire.queue_rules import (
    RedrivePolicy,
    is_delivered_twice,
    read_redrive_policy,
    recommended_visibility_seconds,
    visibility_seconds,
)

ARN = "arn:aws:sqs:eu-west-1:123456789012:dead"


def test_the_recommended_visibility_timeout_is_six_function_timeouts() -> None:
    assert recommended_visibility_seconds(300) == 1800


def test_the_visibility_timeout_is_read_as_a_number() -> None:
    assert visibility_seconds({"VisibilityTimeout": "1800"}) == 1800


@pytest.mark.parametrize(("visibility", "expected"), [(9, True), (10, False), (11, False)])
def test_a_message_is_delivered_twice_if_it_takes_longer_than_its_visibility(visibility: int, expected: bool) -> None:
    assert is_delivered_twice(visibility, processing_seconds=10) is expected


@pytest.mark.parametrize("count", ["5", '"5"'], ids=["a number", "a string"])
def test_a_redrive_policy_is_read_with_either_type_of_count(count: str) -> None:
    attributes = {"RedrivePolicy": f'{{"deadLetterTargetArn": "{ARN}", "maxReceiveCount": {count}}}'}

    assert read_redrive_policy(attributes) == RedrivePolicy(ARN, 5)


@pytest.mark.parametrize(
    "policy", ["", "{}", "null", "[]", '{"maxReceiveCount": 5}', f'{{"deadLetterTargetArn": "{ARN}"}}']
)
def test_an_empty_or_incomplete_redrive_policy_is_none(policy: str) -> None:
    assert read_redrive_policy({"RedrivePolicy": policy}) is None


def test_a_queue_without_a_redrive_policy_has_none() -> None:
    assert read_redrive_policy({}) is None


@pytest.mark.parametrize(("count", "expected"), [(4, True), (5, False)])
def test_fewer_than_five_deliveries_are_too_few(count: int, expected: bool) -> None:
    assert RedrivePolicy(ARN, count).allows_too_few_deliveries is expected
