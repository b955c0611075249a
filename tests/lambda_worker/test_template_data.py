"""The SAM template: how its buckets, queues and logs protect and keep data."""

from __future__ import annotations

import pytest

from bulk_import.conf import Conf
from tests.lambda_worker.sam_template import (
    BEHIND,
    BUCKETS,
    PARAMETERS,
    QUEUES,
    Stack,
    expanded,
    statements,
)

DAY = 24 * 3600
MAX_RETENTION_SECONDS = 14 * DAY  # SQS's limit


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_encrypted_and_private_and_deletes_old_objects(bucket: str) -> None:
    properties = Stack(ObjectDays=77).properties(bucket)
    (encryption,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    rules = {name: value for rule in properties["LifecycleConfiguration"]["Rules"] for name, value in rule.items()}

    assert encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert len(properties["PublicAccessBlockConfiguration"]) == 4
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert all(rule["Status"] == "Enabled" for rule in properties["LifecycleConfiguration"]["Rules"])
    assert rules["ExpirationInDays"] == 77
    assert rules["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_an_object_is_kept_longer_than_the_longest_import() -> None:
    """Its retention starts after a pause of MAX_PAUSE_HOURS, and the time as a message and as a dead letter."""
    longest = MAX_RETENTION_SECONDS / DAY + Conf().max_pause_hours / 24
    kept = max(Conf().payload_retention_days or 0, Conf().failures_retention_days or 0)

    assert PARAMETERS["ObjectDays"]["Default"] >= kept + longest
    assert PARAMETERS["ObjectDays"]["MinValue"] > longest


@pytest.mark.parametrize(
    ("kind", "of", "resources"),
    [
        *(("AWS::S3::BucketPolicy", name, [f"{name}.Arn", f"{name}.Arn/*"]) for name in BUCKETS),
        *(("AWS::SQS::QueuePolicy", name, [f"{name}.Arn"]) for name in QUEUES),
    ],
)
def test_requests_without_tls_are_denied(kind: str, of: str, resources: list[str]) -> None:
    (policy,) = [
        policy for policy in Stack().of_type(kind).values() if of in {policy.get("Bucket"), *policy.get("Queues", [])}
    ]
    statement = policy["PolicyDocument"]["Statement"][0]
    service = "s3" if "S3" in kind else "sqs"

    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert next(iter(statements(policy["PolicyDocument"]))) == ("Deny", [f"{service}:*"], resources)


def test_only_conditional_writes_create_payloads() -> None:
    """`If-None-Match` is required, except for the parts of a multipart upload, which do not create an object."""
    (policy,) = [p for p in Stack().of_type("AWS::S3::BucketPolicy").values() if p["Bucket"] == "PayloadsBucket"]
    statement = policy["PolicyDocument"]["Statement"][1]

    assert list(statements(policy["PolicyDocument"]))[1:] == [("Deny", ["s3:PutObject"], ["PayloadsBucket.Arn/*"])]
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {
        "Null": {"s3:if-none-match": "true"},
        "Bool": {"s3:ObjectCreationOperation": "true"},
    }


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_encrypted(queue: str) -> None:
    assert Stack().properties(queue)["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("name", [*BUCKETS, *QUEUES, "WorkerSecret"])
def test_resources_with_data_are_retained_when_the_stack_is_deleted(name: str) -> None:
    resource = expanded()["Resources"][name]

    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("function", BEHIND.values())
def test_a_function_logs_json_and_the_log_group_has_a_retention(function: str) -> None:
    stack = Stack(LogDays=7)
    properties = stack.properties(function)
    group = stack.properties(properties["LoggingConfig"]["LogGroup"])

    assert properties["LoggingConfig"]["LogFormat"] == "JSON"
    assert group == {"LogGroupName": f"/aws/lambda/{properties['FunctionName']}", "RetentionInDays": 7}
