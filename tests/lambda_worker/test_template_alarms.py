"""The SAM template: its alarms, its dashboard and its outputs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.lambda_worker.sam_template import (
    BEHIND,
    QUEUES,
    TEMPLATE,
    Stack,
    expanded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


OPERATIONS_GUIDE = TEMPLATE.parents[1] / "docs" / "operations.md"

ALARMS = Stack().of_type("AWS::CloudWatch::Alarm")


def test_each_kind_of_failure_has_an_alarm() -> None:
    watched = {alarm["MetricName"] for alarm in ALARMS.values() if "MetricName" in alarm}
    (dead_letters,) = (alarm["Metrics"] for alarm in ALARMS.values() if "Metrics" in alarm)
    added = {metric["MetricStat"]["Metric"]["MetricName"] for metric in dead_letters if "MetricStat" in metric}

    assert watched == {"NumberOfMessagesReceived", "ApproximateAgeOfOldestMessage", "Errors", "Throttles", "Duration"}
    assert added == {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"}


def dimensions(alarm: Mapping[str, Any]) -> list[str]:
    metrics = [metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric]
    return [dimension["Value"] for metric in metrics or [alarm] for dimension in metric["Dimensions"]]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_the_resource_in_its_name(name: str) -> None:
    watched = {
        "Worker": "WorkerFunction",
        "DeadLetter": "DeadLetterFunction",
        "DeadLetters": "DeadLetterQueue.QueueName",
        "DeadChunks": "DeadLetterQueue.QueueName",
        "MessagesWait": "Queue.QueueName",
    }
    subject = next(key for key in sorted(watched, key=len, reverse=True) if name.startswith(key))

    assert set(dimensions(ALARMS[name])) == {watched[subject]}


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_names_its_section_of_the_guide(name: str) -> None:
    headings = re.findall(r"^### (\w+)$", OPERATIONS_GUIDE.read_text(), re.MULTILINE)

    assert ALARMS[name]["AlarmDescription"].endswith(f"docs/operations.md, {name}.")
    assert len(ALARMS[name]["AlarmDescription"]) > 100
    assert headings.count(name) == 1


def test_the_guide_has_no_section_for_an_unknown_alarm() -> None:
    section = OPERATIONS_GUIDE.read_text().partition("\n## Alarms\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == set(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_notifies_the_topic_and_stays_silent_without_data(name: str) -> None:
    assert ALARMS[name]["AlarmActions"] == []
    assert Stack(AlarmTopicArn="arn:topic").properties(name)["AlarmActions"] == ["arn:topic"]
    assert ALARMS[name]["TreatMissingData"] == "notBreaching"


def test_the_dashboard_shows_every_alarm_and_only_resources_of_the_stack() -> None:
    stack = Stack()
    widgets = json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"]
    shown = [metric for widget in widgets for metric in widget["properties"].get("metrics", [])]
    (alarms,) = (widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm")

    assert sorted(alarms) == sorted(f"{name}.Arn" for name in ALARMS)
    known = {"QueueName": {f"{name}.QueueName" for name in QUEUES}, "FunctionName": set(BEHIND.values())}
    assert shown
    assert all(subject in known[dimension] for _, _, dimension, subject, *_ in shown)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


def test_the_outputs_contain_everything_that_the_monolith_needs() -> None:
    outputs = {name: output["Value"]["Ref"] for name, output in expanded()["Outputs"].items()}

    assert outputs == {
        "QueueUrl": "Queue",
        "PayloadsBucketName": "PayloadsBucket",
        "FailuresBucketName": "FailuresBucket",
        "MonolithPolicyArn": "MonolithPolicy",
        "WorkerSecretArn": "WorkerSecret",
        "DeadLetterQueueUrl": "DeadLetterQueue",
    }
