"""The SAM template: every permission is used by a call, and every call has its permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bulk_import_wire.contract import VERDICT_HEADER, RowVerdict
from lambda_worker import dead_letter, handler
from tests.lambda_worker.aws_calls import called_in, recorded
from tests.lambda_worker.conftest import JOB_ID, WORKER_SECRET, Buckets, Monolith, Queue, a_row, json_reply
from tests.lambda_worker.sam_template import (
    BEHIND,
    TEMPLATE,
    Stack,
    allowed,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_secretsmanager import SecretsManagerClient

BY_LAMBDA = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""The calls that an event source mapping makes with the function's role."""

BY_LAMBDAS_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}

NOT_ON_LAMBDA = {"__main__.py"}
"""Modules that call AWS but do not run on Lambda."""


@pytest.fixture
def resources(
    monkeypatch: pytest.MonkeyPatch,
    _environment: None,
    buckets: Buckets,
    queue: Queue,
    secrets: SecretsManagerClient,
) -> dict[str, str]:
    """Map the test's resources to their names in the template. The worker reads its secret from Secrets Manager."""
    secret_id = secrets.create_secret(Name=f"of-{buckets.payloads}", SecretString=WORKER_SECRET)["ARN"]
    monkeypatch.delenv("BULK_IMPORT_WORKER_SECRET")
    monkeypatch.setenv("BULK_IMPORT_WORKER_SECRET_ID", secret_id)
    return {
        buckets.payloads: "PayloadsBucket.Arn",
        buckets.failures: "FailuresBucket.Arn",
        queue.url: "Queue.Arn",
        queue.dead_letter_url: "DeadLetterQueue.Arn",
        secret_id: "WorkerSecret",
    }


def deliver_in_every_way(monolith: Monolith, buckets: Buckets, deliver: Callable[[str], list[str]]) -> None:
    """Deliver a chunk whose rows are rejected, again after that, while it is leased, and after its payload is lost."""
    refused = json_reply(400, {"sku": ["Taken."]}, **{VERDICT_HEADER: RowVerdict.NOT_CREATED})
    message = buckets.store([a_row(index) for index in range(3)])
    monolith.replies = {index: [refused] for index in range(3)}
    assert deliver(message.encode()) == []
    (monolith.failures_key,) = buckets.failure_keys()
    assert monolith.failures_key.startswith(JOB_ID)
    assert deliver(message.encode()) == []
    monolith.replies = {"claim": [json_reply(409, {"code": "lease_held"}, Retry_After="1")]}
    deliver(message.encode())
    monolith.replies = {}
    buckets.s3.delete_object(Bucket=buckets.payloads, Key=message.key)
    deliver(message.encode())


def policies_of(role: str) -> dict[str, Mapping[str, Any]]:
    return {policy["PolicyName"]: policy["PolicyDocument"] for policy in Stack().properties(role)["Policies"]}


@pytest.mark.usefixtures("_no_backoff")
def test_each_role_has_exactly_the_permissions_that_its_code_uses(
    monolith: Monolith, buckets: Buckets, queue: Queue, resources: dict[str, str], secrets: SecretsManagerClient
) -> None:
    own = [buckets.s3, queue.sqs, secrets]

    def work(body: str) -> list[str]:
        queue.send(body)
        return queue.deliver(handler.handler)

    def report_dead(body: str) -> list[str]:
        queue.sqs.send_message(QueueUrl=queue.dead_letter_url, MessageBody=body)
        return queue.deliver(dead_letter.handler, url=queue.dead_letter_url)

    with recorded(resources, own) as working:
        deliver_in_every_way(monolith, buckets, work)
    for made_once in (handler._environment, handler._stored_secret):
        made_once.cache_clear()
    for key in buckets.failure_keys():
        buckets.s3.delete_object(Bucket=buckets.failures, Key=key)
    monolith.failures_key = ""
    with recorded(resources, own) as reporting:
        deliver_in_every_way(monolith, buckets, report_dead)

    assert working.permissions == allowed(policies_of("WorkerRole")["Code"])
    assert reporting.permissions == allowed(policies_of("DeadLetterRole")["Code"])
    modules = [module for module in TEMPLATE.parent.glob("*.py") if module.name not in NOT_ON_LAMBDA]
    assert working.operations | reporting.operations == called_in(modules), (
        "this test does not reach a call of the code"
    )


@pytest.mark.parametrize(("queue", "function"), BEHIND.items())
def test_a_role_also_has_the_permissions_of_the_mapping_and_only_lambda_may_assume_it(
    queue: str, function: str
) -> None:
    stack = Stack()
    role = stack.properties(stack.properties(function)["Role"].removesuffix(".Arn"))
    policies = {policy["PolicyName"]: policy["PolicyDocument"] for policy in role["Policies"]}
    log = stack.properties(function)["LoggingConfig"]["LogGroup"]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]

    assert policies.keys() == {"Code", "Lambda"}
    assert allowed(policies["Lambda"]) == {(action, f"{queue}.Arn") for action in BY_LAMBDA} | {
        (action, f"{log}.Arn") for action in BY_LAMBDAS_LOG
    }
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_only_lambda_itself_may_manage_network_interfaces() -> None:
    stack = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])
    document = stack.properties("NetworkPolicy")["PolicyDocument"]
    (_, granted, _), (effect, denied, _) = statements(document)
    names = [stack.properties(function)["FunctionName"] for function in BEHIND.values()]

    assert (effect, denied) == ("Deny", granted)
    assert all(action.startswith("ec2:") for action in granted)
    assert document["Statement"][1]["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"] == [
        f"arn:aws:lambda:eu-west-1:123456789012:function:{name}" for name in names
    ]


def test_no_other_policy_contains_a_wildcard() -> None:
    stack = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])
    documents = [
        policy["PolicyDocument"] for role in stack.of_type("AWS::IAM::Role").values() for policy in role["Policies"]
    ]
    documents.append(stack.properties("MonolithPolicy")["PolicyDocument"])

    assert stack.of_type("AWS::IAM::ManagedPolicy").keys() == {"NetworkPolicy", "MonolithPolicy"}
    for action, resource in set().union(*map(allowed, documents)):
        assert "*" not in action
        assert resource.removesuffix("/*") not in {"*", ""}
