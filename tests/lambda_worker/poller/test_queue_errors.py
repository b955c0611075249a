"""Configuration errors and outages of SQS."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer

from lambda_worker.poller.event_source import QueueError, check_queue
from tests.lambda_worker.poller.conftest import REGION, VISIBILITY_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lambda_worker.poller.conftest import Queue, RunningPoller

ARN = f"arn:aws:sqs:{REGION}:123456789012:dead-letters"


def policy(max_receive_count: object) -> str:
    return json.dumps({"deadLetterTargetArn": ARN, "maxReceiveCount": max_receive_count})


def test_a_queue_whose_visibility_timeout_is_too_short_is_refused(start: Callable[..., RunningPoller]) -> None:
    """With a visibility timeout shorter than the function's, a message could be processed twice at the same time."""
    poller = start(function_timeout=VISIBILITY_SECONDS + 1)

    assert poller.exit_code() == 2
    assert "visibility timeout (120 s) is shorter than the function's timeout (121 s)" in poller.log


def test_a_queue_that_does_not_exist_is_an_error(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """The poller does not wait for the queue, because that would hide a mistyped URL."""
    poller = start(queue_url=queue.url + "x")

    assert poller.exit_code() == 2
    assert "the queue does not exist" in poller.log


def test_an_invalid_aws_endpoint_is_an_error(start: Callable[..., RunningPoller]) -> None:
    poller = start(endpoint="nonsense")

    assert poller.exit_code() == 2
    assert "AWS is not configured" in poller.log


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("queue_url", "", "BULK_IMPORT_QUEUE_URL"),
        ("batch_size", "11", "from 1 to 10"),
        ("handler", "handler", "dotted path"),
    ],
)
def test_an_invalid_option_is_an_error(
    start: Callable[..., RunningPoller], option: str, value: str, complaint: str
) -> None:
    """The process exits before it polls."""
    poller = start(**{option: value})

    assert poller.exit_code() == 2
    assert complaint in poller.log


@pytest.mark.parametrize(
    ("attributes", "warnings"),
    [
        ({"VisibilityTimeout": "60", "RedrivePolicy": policy(5)}, []),
        ({"VisibilityTimeout": "59", "RedrivePolicy": policy("5")}, ["less than 6 times"]),
        ({"VisibilityTimeout": "60", "RedrivePolicy": policy(4)}, ["(4) is less than 5"]),
        ({"VisibilityTimeout": "10"}, ["less than 6 times", "no RedrivePolicy"]),
    ],
)
def test_a_warning_names_each_attribute_that_differs_from_the_recommendation(
    caplog: pytest.LogCaptureFixture, attributes: dict[str, str], warnings: list[str]
) -> None:
    """The function's timeout is 10 s."""
    check_queue(attributes, function_timeout_seconds=10)

    assert len(caplog.messages) == len(warnings)
    assert all(warning in message for warning, message in zip(warnings, caplog.messages, strict=True))


def test_a_dead_letter_queue_needs_no_redrive_policy(caplog: pytest.LogCaptureFixture) -> None:
    check_queue({"VisibilityTimeout": "60"}, function_timeout_seconds=10, is_dead_letter_queue=True)

    assert caplog.messages == []


def test_a_visibility_timeout_one_second_below_the_functions_is_refused() -> None:
    with pytest.raises(QueueError):
        check_queue({"VisibilityTimeout": "9"}, function_timeout_seconds=10)


def test_the_poller_survives_outages_of_sqs(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """It waits, then continues. (All moto servers of this process share their queues.)"""
    with socket.create_server(("127.0.0.1", 0)) as placeholder:
        port = placeholder.getsockname()[1]
    poller = start(endpoint=f"http://127.0.0.1:{port}")
    outages = 0
    for order in ("first", "second"):
        poller.logs("SQS is unreachable", times=outages + 1)
        server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
        server.start()
        queue.send(do=order)
        until(queue.is_empty)
        server.stop()
        outages = poller.log.count("SQS is unreachable")

    assert len(poller.notes("event")) == 2


def test_the_poller_survives_that_the_queue_is_deleted(queue: Queue, start: Callable[..., RunningPoller]) -> None:
    """Neither the failed acknowledgement nor the failed receive ends it: the queue may be created again."""
    queue.send(do="wait")
    poller = start()
    until(lambda: poller.notes("waiting"))

    queue.delete()
    (poller.directory / "go").touch()

    poller.logs("not deleted, SQS will redeliver")
    poller.logs("SQS is unreachable", times=2)
    assert poller.stop() == 0
