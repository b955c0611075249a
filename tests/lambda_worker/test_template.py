"""The SAM template: the queues, functions and event source mappings that it creates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cfnlint.api import lint_all

from bulk_import.conf import Conf
from bulk_import_wire.queue_rules import MIN_RECEIVE_COUNT, recommended_visibility_seconds
from lambda_worker.__main__ import MAX_BATCH_SIZE, MAX_CONCURRENCY, MAX_FUNCTION_TIMEOUT_SECONDS
from tests.lambda_worker.sam_template import (
    BEHIND,
    PARAMETERS,
    QUEUES,
    TIMEOUTS,
    Stack,
    expanded,
    source,
)

CONTEXT_BLOCK = "I4010"
"""Rule of cfn-lint that demands a metadata block for each resource. We use comments instead."""

DAY = 24 * 3600
MAX_VISIBILITY_SECONDS = 12 * 3600  # SQS's limit
MAX_RETENTION_SECONDS = 14 * DAY  # SQS's limit
MAX_BATCH_WITHOUT_WINDOW = 10  # Lambda requires a batching window above this, which cfn-lint does not check
MAX_DEAD_VISIBILITY_SECONDS = 300  # docs/guarantees.md promises that a failed report is retried within this time


def lint(template: dict[str, Any]) -> list[str]:
    found = lint_all(json.dumps(template))
    return [str(finding) for finding in found if finding.rule.id != CONTEXT_BLOCK]


def test_cfn_lint_finds_nothing_in_the_expanded_template() -> None:
    assert lint(expanded()) == []


@pytest.mark.parametrize(
    ("resource", "name", "value"),
    [
        ("WorkerFunctionQueue", "ScalingConfig", {"MaximumConcurrency": 1}),
        ("WorkerFunctionQueue", "BatchSize", 20_000),
        ("WorkerFunctionQueue", "FunctionResponseTypes", ["ReportBatchFailures"]),
        ("DeadLetterQueue", "VisibilityTimeout", 49),
    ],
)
def test_cfn_lint_finds_values_that_aws_would_refuse(resource: str, name: str, value: Any) -> None:
    template = expanded()
    template["Resources"][resource]["Properties"][name] = value

    assert lint(template)


def test_every_parameter_has_a_description_and_only_the_base_url_has_no_default() -> None:
    grouped = [
        name
        for group in source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        for name in group["Parameters"]
    ]

    assert sorted(grouped) == sorted(PARAMETERS)
    assert all(len(parameter["Description"]) > 40 for parameter in PARAMETERS.values())
    assert [name for name, parameter in PARAMETERS.items() if "Default" not in parameter] == ["BaseUrl"]


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize(("queue", "function"), BEHIND.items())
def test_the_visibility_timeout_is_six_function_timeouts(queue: str, function: str, timeout: str) -> None:
    stack = Stack(FunctionTimeoutSeconds=timeout)
    seconds = int(stack.properties(function)["Timeout"])
    invisible = stack.properties(queue)["VisibilityTimeout"]

    assert seconds <= MAX_FUNCTION_TIMEOUT_SECONDS
    assert recommended_visibility_seconds(seconds) <= invisible <= MAX_VISIBILITY_SECONDS


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_the_visibility_timeout_is_longer_than_a_lease(timeout: str) -> None:
    assert Stack(FunctionTimeoutSeconds=timeout).properties("Queue")["VisibilityTimeout"] > Conf().lease_seconds


def test_a_failed_report_of_a_dead_chunk_is_retried_within_five_minutes() -> None:
    assert Stack().properties("DeadLetterQueue")["VisibilityTimeout"] <= MAX_DEAD_VISIBILITY_SECONDS


def test_the_dead_letter_queue_has_the_longer_retention() -> None:
    queue, dead_letters = (Stack().properties(name) for name in QUEUES)

    assert queue["MessageRetentionPeriod"] >= 7 * DAY
    assert dead_letters["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"] + 7 * DAY
    assert dead_letters["MessageRetentionPeriod"] <= MAX_RETENTION_SECONDS


def test_only_the_main_queue_has_a_redrive_policy() -> None:
    queue, dead_letters = (Stack().properties(name) for name in QUEUES)

    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "DeadLetterQueue.Arn"
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= MIN_RECEIVE_COUNT
    assert "RedrivePolicy" not in dead_letters


@pytest.mark.parametrize("queue", BEHIND)
@pytest.mark.parametrize("concurrency", [2, 1000])
def test_a_mapping_starts_no_more_invocations_than_are_reserved(queue: str, concurrency: int) -> None:
    stack = Stack(MaximumConcurrency=concurrency)
    mapping = stack.properties(f"{BEHIND[queue]}Queue")
    maximum = mapping["ScalingConfig"]["MaximumConcurrency"]

    assert mapping["EventSourceArn"] == f"{queue}.Arn"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 2 <= maximum <= stack.properties(BEHIND[queue])["ReservedConcurrentExecutions"]


def test_the_concurrency_parameter_has_lambdas_limits() -> None:
    parameter = PARAMETERS["MaximumConcurrency"]

    assert (parameter["MinValue"], parameter["MaxValue"]) == (2, MAX_CONCURRENCY)
    assert Stack(MaximumConcurrency=77).properties("WorkerFunctionQueue")["ScalingConfig"] == {"MaximumConcurrency": 77}


def test_concurrency_is_not_reserved_if_the_parameter_says_so() -> None:
    functions = Stack(ReserveConcurrency="false").of_type("AWS::Lambda::Function")

    assert not any("ReservedConcurrentExecutions" in function for function in functions.values())


def test_no_batch_size_requires_a_batching_window() -> None:
    mappings = Stack(BatchSize=7).of_type("AWS::Lambda::EventSourceMapping")

    assert mappings["WorkerFunctionQueue"]["BatchSize"] == 7
    assert PARAMETERS["BatchSize"]["MaxValue"] == MAX_BATCH_SIZE == MAX_BATCH_WITHOUT_WINDOW
    assert not any("MaximumBatchingWindowInSeconds" in mapping for mapping in mappings.values())


def test_the_worker_may_send_copies_to_its_own_queue() -> None:
    assert Stack().properties("WorkerFunction")["RecursiveLoop"] == "Allow"


def test_the_functions_run_in_a_vpc_only_if_subnets_are_given() -> None:
    outside = Stack()
    inside = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])

    for function in BEHIND.values():
        role = outside.properties(function)["Role"].removesuffix(".Arn")
        assert "VpcConfig" not in outside.properties(function)
        assert outside.properties(role)["ManagedPolicyArns"] == []
        assert inside.properties(function)["VpcConfig"] == {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
        assert inside.properties(role)["ManagedPolicyArns"] == ["NetworkPolicy"]
