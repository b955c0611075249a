"""The SAM template: what AWS asks of it, what the code asks of it, and nothing more than the code needs."""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from cfnlint.api import lint_all

from bulk_import.conf import Conf
from bulk_import_wire.contract import VERDICT_HEADER, WORKER_API_PATH, RowVerdict
from lambda_worker import dead_letter, handler
from lambda_worker.__main__ import MAX_BATCH_SIZE, MAX_CONCURRENCY, MAX_FUNCTION_TIMEOUT_SECONDS
from lambda_worker.config import Config
from lambda_worker.deadlines import Deadlines
from lambda_worker.monolith_client import API_TIMEOUT_SECONDS
from lambda_worker.package import DESTINATION, PYTHON
from lambda_worker.poller.event_source import RECOMMENDED_MAX_RECEIVE_COUNT, RECOMMENDED_VISIBILITY_FACTOR
from tests.lambda_worker.aws_calls import called_in, recorded
from tests.lambda_worker.conftest import JOB_ID, WORKER_SECRET, Buckets, Context, Monolith, Queue, a_row, json_reply
from tests.lambda_worker.sam_template import TEMPLATE, Stack, allowed, expanded, source, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_secretsmanager import SecretsManagerClient

OPERATIONS_GUIDE = TEMPLATE.parents[1] / "docs" / "operations.md"

CONTEXT_BLOCK = "I4010"
"""cfn-lint's wish for a description of each resource in its metadata: comments serve people better."""

TIMEOUTS = source()["Parameters"]["FunctionTimeoutSeconds"]["AllowedValues"]
PARAMETERS = source()["Parameters"]
BUCKETS = ("PayloadsBucket", "FailuresBucket")
QUEUES = ("Queue", "DeadLetterQueue")
BEHIND = {"Queue": "WorkerFunction", "DeadLetterQueue": "DeadLetterFunction"}
ALARMS = Stack().of_type("AWS::CloudWatch::Alarm")
DAY = 24 * 3600

MAX_VISIBILITY_SECONDS = 12 * 3600  # SQS's limit
MAX_RETENTION_SECONDS = 14 * DAY  # SQS's limit
MAX_BATCH_WITHOUT_WINDOW = 10  # Lambda refuses a larger one without a batching window, which cfn-lint never says
LONGEST_DEAD_SECONDS = 300  # that a chunk is dead before its job says so; docs/guarantees.md

BY_LAMBDA = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""What an event source mapping does in the function's name."""

BY_LAMBDAS_LOG = {"logs:CreateLogStream", "logs:PutLogEvents"}

OF_THE_POLLER = {"event_source.py", "poller.py", "execution_environment.py", "health.py", "__main__.py"}
"""They stand in for Lambda where there is none."""


def lint(template: dict[str, Any]) -> list[str]:
    found = lint_all(json.dumps(template))
    return [str(finding) for finding in found if finding.rule.id != CONTEXT_BLOCK]


# --- What CloudFormation, cfn-lint and Lambda ask for


def test_the_expanded_template_has_no_finding() -> None:
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
def test_what_aws_would_refuse_is_found_in_the_expanded_template(resource: str, name: str, value: Any) -> None:
    template = expanded()
    template["Resources"][resource]["Properties"][name] = value

    assert lint(template)


def test_every_parameter_is_documented_and_only_the_monoliths_url_has_no_default() -> None:
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
def test_a_message_is_invisible_for_six_time_outs_of_its_function(queue: str, function: str, timeout: str) -> None:
    stack = Stack(FunctionTimeoutSeconds=timeout)
    seconds = int(stack.properties(function)["Timeout"])
    invisible = stack.properties(queue)["VisibilityTimeout"]

    assert seconds <= MAX_FUNCTION_TIMEOUT_SECONDS
    assert RECOMMENDED_VISIBILITY_FACTOR * seconds <= invisible <= MAX_VISIBILITY_SECONDS


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_a_message_is_invisible_for_longer_than_a_lease(timeout: str) -> None:
    assert Stack(FunctionTimeoutSeconds=timeout).properties("Queue")["VisibilityTimeout"] > Conf().lease_seconds


def test_a_chunk_is_not_dead_for_long_before_its_job_says_so() -> None:
    assert Stack().properties("DeadLetterQueue")["VisibilityTimeout"] <= LONGEST_DEAD_SECONDS


def test_a_dead_letter_is_kept_longer_than_a_message_although_it_keeps_its_time() -> None:
    queue, dead_letters = (Stack().properties(name) for name in QUEUES)

    assert queue["MessageRetentionPeriod"] >= 7 * DAY
    assert dead_letters["MessageRetentionPeriod"] >= queue["MessageRetentionPeriod"] + 7 * DAY
    assert dead_letters["MessageRetentionPeriod"] <= MAX_RETENTION_SECONDS


def test_a_message_out_of_deliveries_goes_to_the_dead_letter_queue_and_no_further() -> None:
    queue, dead_letters = (Stack().properties(name) for name in QUEUES)

    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "DeadLetterQueue.Arn"
    assert queue["RedrivePolicy"]["maxReceiveCount"] >= RECOMMENDED_MAX_RECEIVE_COUNT
    assert "RedrivePolicy" not in dead_letters


@pytest.mark.parametrize("queue", BEHIND)
@pytest.mark.parametrize("concurrency", [2, 1000])
def test_a_mapping_starts_no_more_than_is_reserved(queue: str, concurrency: int) -> None:
    stack = Stack(MaximumConcurrency=concurrency)
    mapping = stack.properties(f"{BEHIND[queue]}Queue")
    maximum = mapping["ScalingConfig"]["MaximumConcurrency"]

    assert mapping["EventSourceArn"] == f"{queue}.Arn"
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert 2 <= maximum <= stack.properties(BEHIND[queue])["ReservedConcurrentExecutions"]


def test_concurrency_is_within_lambdas_limits_whatever_the_parameter() -> None:
    parameter = PARAMETERS["MaximumConcurrency"]

    assert (parameter["MinValue"], parameter["MaxValue"]) == (2, MAX_CONCURRENCY)
    assert Stack(MaximumConcurrency=77).properties("WorkerFunctionQueue")["ScalingConfig"] == {"MaximumConcurrency": 77}


def test_in_an_account_that_cannot_reserve_nothing_is_reserved() -> None:
    functions = Stack(ReserveConcurrency="false").of_type("AWS::Lambda::Function")

    assert not any("ReservedConcurrentExecutions" in function for function in functions.values())


def test_no_batch_is_so_large_that_it_needs_a_window() -> None:
    mappings = Stack(BatchSize=7).of_type("AWS::Lambda::EventSourceMapping")

    assert mappings["WorkerFunctionQueue"]["BatchSize"] == 7
    assert PARAMETERS["BatchSize"]["MaxValue"] == MAX_BATCH_SIZE == MAX_BATCH_WITHOUT_WINDOW
    assert not any("MaximumBatchingWindowInSeconds" in mapping for mapping in mappings.values())


def test_the_copies_that_the_worker_puts_back_are_no_runaway_loop() -> None:
    assert Stack().properties("WorkerFunction")["RecursiveLoop"] == "Allow"


def test_a_vpc_is_used_only_where_one_is_given() -> None:
    outside = Stack()
    inside = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])

    for function in BEHIND.values():
        role = outside.properties(function)["Role"].removesuffix(".Arn")
        assert "VpcConfig" not in outside.properties(function)
        assert outside.properties(role)["ManagedPolicyArns"] == []
        assert inside.properties(function)["VpcConfig"] == {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
        assert inside.properties(role)["ManagedPolicyArns"] == ["NetworkPolicy"]


# --- Buckets, queues and logs keep to themselves what they hold


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_bucket_is_encrypted_private_and_forgets(bucket: str) -> None:
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


def test_an_object_outlives_the_longest_import() -> None:
    """It may be paused for MAX_PAUSE_HOURS, and then wait as a message and a dead letter; then its retention begins."""
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
def test_whatever_comes_without_tls_is_denied(kind: str, of: str, resources: list[str]) -> None:
    (policy,) = [
        policy for policy in Stack().of_type(kind).values() if of in {policy.get("Bucket"), *policy.get("Queues", [])}
    ]
    (statement,) = policy["PolicyDocument"]["Statement"]
    service = "s3" if "S3" in kind else "sqs"

    assert statement["Effect"] == "Deny"
    assert statement["Principal"] == "*"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert list(statements(policy["PolicyDocument"])) == [("Deny", [f"{service}:*"], resources)]


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_encrypted(queue: str) -> None:
    assert Stack().properties(queue)["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("name", [*BUCKETS, *QUEUES, "WorkerSecret"])
def test_what_cannot_be_made_again_outlives_the_stack(name: str) -> None:
    resource = expanded()["Resources"][name]

    assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


@pytest.mark.parametrize("function", BEHIND.values())
def test_a_function_logs_json_into_a_group_that_forgets(function: str) -> None:
    stack = Stack(LogDays=7)
    properties = stack.properties(function)
    group = stack.properties(properties["LoggingConfig"]["LogGroup"])

    assert properties["LoggingConfig"]["LogFormat"] == "JSON"
    assert group == {"LogGroupName": f"/aws/lambda/{properties['FunctionName']}", "RetentionInDays": 7}


# --- What the code asks for


@pytest.mark.parametrize(("queue", "module"), [("Queue", handler), ("DeadLetterQueue", dead_letter)])
def test_behind_each_queue_is_its_handler(queue: str, module: Any) -> None:
    dotted = Stack().properties(BEHIND[queue])["Handler"]
    path, _, name = dotted.rpartition(".")

    assert getattr(import_module(path), name) is module.handler


@pytest.mark.parametrize("function", BEHIND.values())
def test_each_function_names_the_package_itself(function: str) -> None:
    """`aws cloudformation package` uploads nothing for a CodeUri among the Globals, but the template's whole folder."""
    uri = source()["Resources"][function]["Properties"]["CodeUri"]
    common = source()["Globals"]["Function"]

    assert "CodeUri" not in common
    assert (TEMPLATE.parent / uri).resolve() == DESTINATION / f"lambda_worker-{common['Architectures'][0]}.zip"
    assert common["Runtime"] == f"python{PYTHON}"


class Reading(dict[str, str]):
    """An environment that notes which variables are read."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("function", BEHIND.values())
def test_the_environment_is_what_the_configuration_reads(function: str) -> None:
    environment = Reading(Stack().properties(function)["Environment"]["Variables"])

    config = Config.from_environment(environment)

    assert environment.keys() == environment.names - {"BULK_IMPORT_WORKER_SECRET"}
    assert config == Config(
        base_url="https://shop.example",
        worker_secret="",
        payloads_bucket="PayloadsBucket",
        failures_bucket="FailuresBucket",
        queue_url="Queue",
        worker_api_path=WORKER_API_PATH,
        worker_secret_id="WorkerSecret",
    )


def test_the_secret_is_in_no_variable_and_no_parameter_but_made_by_secrets_manager() -> None:
    assert Stack().properties("WorkerSecret")["GenerateSecretString"] == {
        "PasswordLength": 64,
        "ExcludePunctuation": True,
    }
    assert "resolve:" not in TEMPLATE.read_text()


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("function", ["Worker", "DeadLetter"])
def test_an_invocation_is_late_when_its_time_to_report_is_over(function: str, timeout: str) -> None:
    stack = Stack(FunctionTimeoutSeconds=timeout)
    seconds = int(stack.properties(f"{function}Function")["Timeout"])
    late = Deadlines.of(Context(milliseconds_left=seconds * 1000), 0).report_by

    assert stack.properties(f"{function}Late")["Threshold"] == late * 1000


@pytest.mark.parametrize("timeout", TIMEOUTS)
@pytest.mark.parametrize("function", BEHIND.values())
def test_a_function_has_time_for_a_call_of_the_worker_api_that_hangs(function: str, timeout: str) -> None:
    seconds = int(Stack(FunctionTimeoutSeconds=timeout).properties(function)["Timeout"])

    assert Deadlines.of(Context(milliseconds_left=seconds * 1000), 0).stop_at > API_TIMEOUT_SECONDS


# --- Every permission is used by a call, and every call has its permission


@pytest.fixture
def resources(
    monkeypatch: pytest.MonkeyPatch,
    _environment: None,
    buckets: Buckets,
    queue: Queue,
    secrets: SecretsManagerClient,
) -> dict[str, str]:
    """The names that the test's own parts have in the template; the worker secret is one of them."""
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


def run_all_ways(monolith: Monolith, buckets: Buckets, deliver: Callable[[str], list[str]]) -> None:
    """Deliver a chunk that is refused, goes on, is not free, and has lost its payload."""
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
def test_the_worker_and_its_dead_letters_may_do_what_they_do_and_nothing_else(
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
        run_all_ways(monolith, buckets, work)
    for made_once in (handler._environment, handler._stored_secret):
        made_once.cache_clear()
    for key in buckets.failure_keys():
        buckets.s3.delete_object(Bucket=buckets.failures, Key=key)
    monolith.failures_key = ""
    with recorded(resources, own) as burying:
        run_all_ways(monolith, buckets, report_dead)

    assert working.permissions == allowed(policies_of("WorkerRole")["Code"])
    assert burying.permissions == allowed(policies_of("DeadLetterRole")["Code"])
    modules = [module for module in TEMPLATE.parent.glob("*.py") if module.name not in OF_THE_POLLER]
    assert working.operations | burying.operations == called_in(modules), "a call that this test does not reach"


@pytest.mark.parametrize(("queue", "function"), BEHIND.items())
def test_beside_its_codes_calls_a_role_has_what_lambda_needs_and_nobody_else_may_take_it(
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


def test_the_right_to_network_interfaces_is_lambdas_and_denied_to_the_code() -> None:
    stack = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])
    document = stack.properties("NetworkPolicy")["PolicyDocument"]
    (_, granted, _), (effect, denied, _) = statements(document)
    names = [stack.properties(function)["FunctionName"] for function in BEHIND.values()]

    assert (effect, denied) == ("Deny", granted)
    assert all(action.startswith("ec2:") for action in granted)
    assert document["Statement"][1]["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"] == [
        f"arn:aws:lambda:eu-west-1:123456789012:function:{name}" for name in names
    ]


def test_no_other_policy_allows_anything_everywhere() -> None:
    stack = Stack(SubnetIds=["subnet-1"], SecurityGroupIds=["sg-1"])
    documents = [
        policy["PolicyDocument"] for role in stack.of_type("AWS::IAM::Role").values() for policy in role["Policies"]
    ]
    documents.append(stack.properties("MonolithPolicy")["PolicyDocument"])

    assert stack.of_type("AWS::IAM::ManagedPolicy").keys() == {"NetworkPolicy", "MonolithPolicy"}
    for action, resource in set().union(*map(allowed, documents)):
        assert "*" not in action
        assert resource.removesuffix("/*") not in {"*", ""}


# --- Alarms and the dashboard


def test_each_thing_that_goes_wrong_has_an_alarm() -> None:
    watched = {alarm["MetricName"] for alarm in ALARMS.values() if "MetricName" in alarm}
    (dead_letters,) = (alarm["Metrics"] for alarm in ALARMS.values() if "Metrics" in alarm)
    added = {metric["MetricStat"]["Metric"]["MetricName"] for metric in dead_letters if "MetricStat" in metric}

    assert watched == {"NumberOfMessagesReceived", "ApproximateAgeOfOldestMessage", "Errors", "Throttles", "Duration"}
    assert added == {"ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible"}


def dimensions(alarm: Mapping[str, Any]) -> list[str]:
    metrics = [metric["MetricStat"]["Metric"] for metric in alarm.get("Metrics", []) if "MetricStat" in metric]
    return [dimension["Value"] for metric in metrics or [alarm] for dimension in metric["Dimensions"]]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_what_its_name_says(name: str) -> None:
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
def test_an_alarm_says_what_to_do_and_where_to_read_on(name: str) -> None:
    headings = re.findall(r"^### (\w+)$", OPERATIONS_GUIDE.read_text(), re.MULTILINE)

    assert ALARMS[name]["AlarmDescription"].endswith(f"docs/operations.md, {name}.")
    assert len(ALARMS[name]["AlarmDescription"]) > 100
    assert headings.count(name) == 1


def test_the_guide_names_no_alarm_that_there_is_not() -> None:
    section = OPERATIONS_GUIDE.read_text().partition("\n## Alarms\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"^### (\w+)$", section, re.MULTILINE)) == set(ALARMS)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_where_there_is_one_and_is_silent_while_nothing_happens(name: str) -> None:
    assert ALARMS[name]["AlarmActions"] == []
    assert Stack(AlarmTopicArn="arn:topic").properties(name)["AlarmActions"] == ["arn:topic"]
    assert ALARMS[name]["TreatMissingData"] == "notBreaching"


def test_the_dashboard_shows_every_alarm_and_only_what_the_stack_has() -> None:
    stack = Stack()
    widgets = json.loads(stack.properties("Dashboard")["DashboardBody"])["widgets"]
    shown = [metric for widget in widgets for metric in widget["properties"].get("metrics", [])]
    (alarms,) = (widget["properties"]["alarms"] for widget in widgets if widget["type"] == "alarm")

    assert sorted(alarms) == sorted(f"{name}.Arn" for name in ALARMS)
    known = {"QueueName": {f"{name}.QueueName" for name in QUEUES}, "FunctionName": set(BEHIND.values())}
    assert shown
    assert all(subject in known[dimension] for _, _, dimension, subject, *_ in shown)
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


def test_what_the_monolith_must_be_told_is_among_the_outputs() -> None:
    outputs = {name: output["Value"]["Ref"] for name, output in expanded()["Outputs"].items()}

    assert outputs == {
        "QueueUrl": "Queue",
        "PayloadsBucketName": "PayloadsBucket",
        "FailuresBucketName": "FailuresBucket",
        "MonolithPolicyArn": "MonolithPolicy",
        "WorkerSecretArn": "WorkerSecret",
        "DeadLetterQueueUrl": "DeadLetterQueue",
    }
