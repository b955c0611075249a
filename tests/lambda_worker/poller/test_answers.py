"""What the poller makes of the handler's answer, and how long it waits between retries."""

from __future__ import annotations

import json

import pytest

from lambda_worker.poller.poller import MalformedAnswerError, failed_message_ids


@pytest.mark.parametrize(
    "answer",
    [None, "", {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}],
    ids=json.dumps,
)
def test_an_answer_without_failures_means_that_the_whole_batch_succeeded(answer: object) -> None:
    """AWS documents that a missing or null list is treated as an empty one."""
    assert failed_message_ids(answer, ["a", "b"]) == set()


@pytest.mark.parametrize("named", [["a"], ["a", "b"], ["b", "b"]], ids=json.dumps)
def test_only_the_messages_that_the_answer_lists_failed(named: list[str]) -> None:
    """The poller deletes the others."""
    answer = {"batchItemFailures": [{"itemIdentifier": name} for name in named]}
    assert failed_message_ids(answer, ["a", "b"]) == set(named)


@pytest.mark.parametrize(
    "answer",
    [
        [],
        0,
        False,
        "done",
        {"batchItemFailures": {}},
        {"batchItemFailures": ""},
        {"batchItemFailures": "a"},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": [None]},
        {"batchItemFailures": [{}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"itemIdentifier": None}]},
        {"batchItemFailures": [{"itemIdentifier": 1}]},
        {"batchItemFailures": [{"itemIdentifier": ["a"]}]},
        {"batchItemFailures": [{"messageId": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": "of another batch"}]},
        {"batchItemFailures": [{"itemIdentifier": "a"}, {"itemIdentifier": ""}]},
    ],
    ids=json.dumps,
)
def test_a_malformed_answer_means_that_the_whole_batch_failed(answer: object) -> None:
    """The poller must not delete a message because of an answer that it cannot interpret."""
    with pytest.raises(MalformedAnswerError):
        failed_message_ids(answer, ["a", "b"])
