"""The SAM template: what its optional parameters add."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.lambda_worker.sam_template import BEHIND, BUCKETS, PARAMETERS, QUEUES, Stack, allowed, expanded, statements

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b"
FOR_KEY = {("kms:Decrypt", KEY), ("kms:GenerateDataKey", KEY)}
ROTATION = "arn:aws:lambda:eu-west-1:123456789012:function:rotate"


@pytest.mark.parametrize(
    ("url", "is_accepted"),
    [("https://shop.example", True), ("https://shop.example/shop", True), ("http://shop.example", False)],
)
def test_the_base_url_must_use_https(url: str, is_accepted: bool) -> None:
    assert bool(re.fullmatch(PARAMETERS["BaseUrl"]["AllowedPattern"], url)) == is_accepted


def test_only_the_main_queue_may_use_the_dead_letter_queue() -> None:
    stack = Stack()
    arn = f"arn:aws:sqs:eu-west-1:123456789012:{stack.properties('Queue')['QueueName']}"

    assert stack.properties("DeadLetterQueue")["RedriveAllowPolicy"] == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [arn],
    }


def test_a_key_encrypts_the_buckets_the_queues_and_the_secret() -> None:
    stack = Stack(KmsKeyArn=KEY)

    for bucket in BUCKETS:
        (encryption,) = stack.properties(bucket)["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert encryption == {
            "BucketKeyEnabled": True,
            "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
        }
    for queue in QUEUES:
        assert stack.properties(queue)["KmsMasterKeyId"] == KEY
        assert "SqsManagedSseEnabled" not in stack.properties(queue)
    assert stack.properties("WorkerSecret")["KmsKeyId"] == KEY


def test_with_a_key_everybody_who_reads_or_writes_data_may_use_it_and_nobody_else() -> None:
    stack, without = Stack(KmsKeyArn=KEY), Stack()

    for function in BEHIND.values():
        role = stack.properties(stack.properties(function)["Role"].removesuffix(".Arn"))
        assert role["ManagedPolicyArns"] == ["KeyPolicy"]
    assert allowed(stack.properties("KeyPolicy")["PolicyDocument"]) == FOR_KEY
    assert allowed(stack.properties("MonolithPolicy")["PolicyDocument"]) - FOR_KEY == allowed(
        without.properties("MonolithPolicy")["PolicyDocument"]
    )
    assert allowed(stack.properties("MonolithPolicy")["PolicyDocument"]) >= FOR_KEY
    assert "KeyPolicy" not in without.of_type("AWS::IAM::ManagedPolicy")


def test_without_a_key_no_statement_mentions_kms() -> None:
    stack = Stack()
    documents = [
        policy["PolicyDocument"] for role in stack.of_type("AWS::IAM::Role").values() for policy in role["Policies"]
    ]
    documents += [policy["PolicyDocument"] for policy in stack.of_type("AWS::IAM::ManagedPolicy").values()]

    actions = [action for document in documents for _, actions, _ in statements(document) for action in actions]
    assert actions
    assert [action for action in actions if action.startswith("kms:")] == []


@pytest.mark.parametrize("bucket", BUCKETS)
def test_s3_logs_the_access_to_the_buckets_only_if_there_is_a_bucket_for_it(bucket: str) -> None:
    assert "LoggingConfiguration" not in Stack().properties(bucket)
    assert Stack(AccessLogBucket="logs").properties(bucket)["LoggingConfiguration"] == {
        "DestinationBucketName": "logs",
        "LogFilePrefix": "bulk-import/",
    }


def test_the_secret_is_rotated_only_if_there_is_a_function_for_it() -> None:
    """A deployment does not rotate it: the monolith must know a new secret before the worker uses it."""
    rotated = Stack(RotationFunctionArn=ROTATION, RotationDays=60)

    assert Stack().of_type("AWS::SecretsManager::RotationSchedule") == {}
    assert rotated.of_type("AWS::SecretsManager::RotationSchedule") == {
        "WorkerSecretRotation": {
            "SecretId": "WorkerSecret",
            "RotationLambdaARN": ROTATION,
            "RotationRules": {"AutomaticallyAfterDays": 60},
            "RotateImmediatelyOnUpdate": False,
        }
    }


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        ("KmsKeyArn", KEY, "alias/aws/s3"),
        ("AccessLogBucket", "my-logs", "s3://my-logs"),
        ("RotationFunctionArn", ROTATION, "rotate"),
    ],
)
def test_an_option_is_off_by_default_and_refuses_what_it_cannot_use(name: str, valid: str, invalid: str) -> None:
    parameter: dict[str, Any] = expanded()["Parameters"][name]

    assert parameter["Default"] == ""
    assert re.fullmatch(parameter["AllowedPattern"], "")
    assert re.fullmatch(parameter["AllowedPattern"], valid)
    assert not re.fullmatch(parameter["AllowedPattern"], invalid)
