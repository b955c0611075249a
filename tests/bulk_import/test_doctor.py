"""The doctor against real HTTP: S3, SQS and a monolith that work, and then with one fault at a time."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.urls import clear_script_prefix
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import (
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    Throttled,
    UnsupportedMediaType,
    ValidationError,
)
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import CharField, FileField, Serializer
from rest_framework.test import APIClient
from rest_framework.viewsets import ModelViewSet

from bulk_import.authentication import ProbeToken
from bulk_import.models import ImportChunk, ImportedRow
from bulk_import_wire.contract import IDEMPOTENCY_KEY, VERDICT_HEADER, Claim
from bulk_import_wire.probe import ProbeCall, ProbeReport, ProbeRequest, row_sha256
from bulk_import_wire.probe_findings import judge_probe
from lambda_worker import handler as worker_handler
from lambda_worker.__main__ import main as worker_main
from products.models import Category, Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

    from bulk_import_wire.findings import Finding
    from tests.bulk_import.conftest import Aws
    from tests.bulk_import.site import Site

    Probe = Callable[[], list[dict[str, str]]]
    ViewMethod = Callable[..., Response]

PAYLOADS, FAILURES = "bulk-import-payloads", "bulk-import-failures"


@pytest.fixture
def shop(aws: Aws, settings: Settings) -> Aws:
    """A shop without faults: the buckets, and a queue with a dead-letter queue."""
    dead_url = aws.sqs.create_queue(
        QueueName=f"dead-{uuid.uuid4()}", Attributes={"MessageRetentionPeriod": "1209600", "VisibilityTimeout": "300"}
    )["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    attributes: Any = {"VisibilityTimeout": "1800", "MessageRetentionPeriod": "604800", "RedrivePolicy": redrive}
    aws.sqs.set_queue_attributes(QueueUrl=aws.queue_url, Attributes=attributes)
    return aws


def doctor(*arguments: str) -> tuple[int, list[dict[str, str]]]:
    """Run the doctor, and return its exit code and its findings."""
    output = StringIO()
    code = 0
    try:
        call_command("bulk_import_doctor", "--json", *arguments, stdout=output)
    except SystemExit as leaving:
        code = int(str(leaving.code))
    report = json.loads(output.getvalue())
    assert report["ok"] == (code == 0)
    return code, report["findings"]


def only_finding(*arguments: str, level: str = "error") -> dict[str, str]:
    """Run the doctor, and return the only finding that is not ok. It must say how to fix it."""
    code, findings = doctor(*arguments)
    (problem,) = [f for f in findings if f["level"] != "ok" and not f["message"].startswith("NOT CHECKED")]
    assert problem["level"] == level
    assert code == 1  # without a base URL, the doctor never says that all is well
    assert problem["fix"]
    return problem


def dead_letter_url(aws: Aws) -> str:
    policy = aws.sqs.get_queue_attributes(QueueUrl=aws.queue_url, AttributeNames=["RedrivePolicy"])["Attributes"]
    name = json.loads(policy["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
    url: str = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    return url


@pytest.mark.django_db(transaction=True)
def test_without_faults_every_finding_is_ok_and_nothing_is_left_behind(shop: Aws, live_server: LiveServer) -> None:
    code, findings = doctor("--base-url", live_server.url)

    assert code == 1  # no row was tried
    assert {finding["level"] for finding in findings[:-1]} == {"ok"}
    assert [finding["subject"] for finding in findings] == [
        "settings", "database", "clock", "secret", "clock", "payloads bucket", "failures bucket", "queue",
        "worker API", "target products", "target products",
    ]  # fmt: skip
    assert findings[-1]["message"].startswith("NOT CHECKED")  # no user
    assert shop.payload_keys() == []
    assert shop.messages() == []


@pytest.mark.django_db
def test_the_text_output_has_a_line_for_each_finding_and_one_for_its_fix(shop: Aws) -> None:
    shop.s3.delete_bucket(Bucket=PAYLOADS)
    output = StringIO()

    with pytest.raises(SystemExit) as leaving:
        call_command("bulk_import_doctor", stdout=output)

    assert leaving.value.code == 1
    lines = output.getvalue().splitlines()
    broken = lines.index(f"error   payloads bucket: The bucket {PAYLOADS} does not exist.")
    assert lines[broken + 1] == "        → Create it, or correct bucket_name in STORAGES."


# --- Settings, database, clocks, secret


@pytest.mark.django_db
def test_a_failing_system_check_is_a_finding(shop: Aws, settings: Settings) -> None:
    settings.MIDDLEWARE = settings.MIDDLEWARE[:-1]

    problem = only_finding()

    assert (problem["subject"], "E005" in problem["message"]) == ("settings", True)


@pytest.mark.django_db
def test_settings_that_cannot_be_read_are_findings(shop: Aws, settings: Settings) -> None:
    settings.BULK_IMPORT = {"UNKNOWN": 1}

    code, findings = doctor()

    assert code == 1
    assert "UNKNOWN" in findings[0]["message"]


@pytest.mark.django_db
def test_a_migration_that_was_not_applied(shop: Aws) -> None:
    MigrationRecorder(connection).migration_qs.filter(app="bulk_import").delete()

    assert only_finding()["fix"] == "Run manage.py migrate."


@pytest.mark.django_db(transaction=True)
def test_a_constraint_that_was_dropped(shop: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    (once,) = ImportedRow._meta.constraints
    with monkeypatch.context() as without, connection.schema_editor() as editor:
        without.setattr(ImportedRow._meta, "constraints", [])  # SQLite creates the table again from the model
        editor.remove_constraint(ImportedRow, once)
    try:
        assert "bulk_import_row_once" in only_finding()["message"]
    finally:
        with connection.schema_editor() as editor:
            editor.add_constraint(ImportedRow, once)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("secrets", "word"),
    [
        (["abababab" * 8], "guessed"),
        (["a secret of this shop with 1 newline\n"], "header"),
    ],
)
def test_a_weak_or_unusable_secret(shop: Aws, settings: Settings, secrets: list[str], word: str) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WORKER_SECRETS": secrets}

    problem = only_finding()

    assert problem["subject"] == "secret"
    assert word in problem["message"]
    assert secrets[0] not in problem["message"]


@pytest.mark.django_db
def test_more_secrets_than_a_rotation_needs(shop: Aws, settings: Settings) -> None:
    secrets = [f"the-secret-of-this-shop-number-{n}" for n in range(3)]
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "WORKER_SECRETS": secrets}

    assert only_finding(level="warning")["subject"] == "secret"


# --- S3


def deny(aws: Aws, bucket: str, action: str) -> None:
    resource = f"arn:aws:s3:::{bucket}" + ("" if action == "s3:ListBucket" else "/*")
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resource}
    aws.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


@pytest.fixture
def denied(shop: Aws) -> Iterator[Callable[[str, str], None]]:
    """Return a function that denies an action in a bucket."""
    buckets: list[str] = []

    def deny_in(bucket: str, action: str) -> None:
        buckets.append(bucket)
        deny(shop, bucket, action)

    yield deny_in
    for bucket in buckets:
        shop.s3.delete_bucket_policy(Bucket=bucket)


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(("bucket", "subject"), [(PAYLOADS, "payloads bucket"), (FAILURES, "failures bucket")])
def test_a_bucket_that_does_not_exist(shop: Aws, bucket: str, subject: str) -> None:
    shop.s3.delete_bucket(Bucket=bucket)

    problem = only_finding()

    assert (problem["subject"], problem["message"]) == (subject, f"The bucket {bucket} does not exist.")


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("bucket", "action"),
    [
        (PAYLOADS, "s3:PutObject"),
        (PAYLOADS, "s3:GetObject"),
        (PAYLOADS, "s3:DeleteObject"),
        (FAILURES, "s3:GetObject"),
        (FAILURES, "s3:DeleteObject"),
    ],
)
def test_a_missing_permission_is_named(denied: Callable[[str, str], None], shop: Aws, bucket: str, action: str) -> None:
    denied(bucket, action)

    problem = only_finding()

    assert problem["message"] == f"AccessDenied: {action} is not allowed in {bucket}."


@pytest.mark.one_database
@pytest.mark.django_db
def test_every_missing_permission_in_the_failures_bucket_is_named(shop: Aws, settings: Settings) -> None:
    with answering(403, b"<Error><Code>AccessDenied</Code></Error>") as url:
        use_at(settings, "bulk_import_failures", url)
        _, findings = doctor()

    missing = [finding["message"] for finding in findings if finding["subject"] == "failures bucket"]
    assert missing == [
        f"AccessDenied: s3:{right} is not allowed in {FAILURES}."
        for right in ("ListBucket", "GetObject", "DeleteObject")
    ]


@pytest.mark.one_database
@pytest.mark.django_db
def test_s3_that_cannot_be_reached(shop: Aws, settings: Settings) -> None:
    use_at(settings, "bulk_import_failures", "http://127.0.0.1:9")

    problem = only_finding()

    assert problem["subject"] == "failures bucket"
    assert "manage.py bulk_import_local" in problem["fix"]


class Answering(ThreadingHTTPServer):
    """An HTTP server that gives the same answer to every request."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_PUT  # noqa: N815 - the names of http.server

            def do_HEAD(self) -> None:
                self.send_response(status)
                self.end_headers()

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() - 3600 if "X-Late" in headers else timestamp)

            def log_message(self, *_: Any) -> None:
                """Log nothing to stderr."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str) -> Iterator[str]:
    with Answering(status, body, {name.replace("_", "-"): value for name, value in headers.items()}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def use_at(settings: Settings, alias: str, url: str) -> None:
    """Make the storage use this endpoint."""
    storage = settings.STORAGES[alias]
    storage = {**storage, "OPTIONS": {**storage["OPTIONS"], "endpoint_url": url}}
    settings.STORAGES = {**settings.STORAGES, alias: storage}


@pytest.mark.one_database
@pytest.mark.django_db
def test_an_s3_service_without_conditional_writes(shop: Aws, settings: Settings) -> None:
    with answering(200) as url:
        use_at(settings, "bulk_import_payloads", url)
        code, findings = doctor()

    assert code == 1
    assert any("If-None-Match" in finding["message"] for finding in findings)


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_clock_that_is_off_by_an_hour(shop: Aws, settings: Settings) -> None:
    with answering(200, X_Late="1") as url:
        use_at(settings, "bulk_import_payloads", url)
        _, findings = doctor()

    (late,) = [finding for finding in findings if finding["subject"] == "clock" and finding["level"] == "error"]
    assert "S3" in late["message"]
    assert "NTP" in late["fix"]


# --- SQS


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_queue_that_does_not_exist(shop: Aws, settings: Settings) -> None:
    shop.sqs.delete_queue(QueueUrl=shop.queue_url)

    problem = only_finding()

    assert problem["message"] == f"The queue {shop.queue_url} does not exist in us-east-1."
    assert "AWS_DEFAULT_REGION" in problem["fix"]


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_messages_that_no_relay_has_sent(shop: Aws, site: Site) -> None:
    job_id = site.submit([product("A")])
    ImportChunk.objects.filter(job=job_id).update(status="reserved", queued_at=timezone.now())
    assert "relay" not in {finding["subject"] for finding in doctor()[1]}

    ImportChunk.objects.filter(job=job_id).update(queued_at=timezone.now() - timedelta(hours=1))
    problem = only_finding()

    assert (problem["subject"], "manage.py bulk_import_relay" in problem["fix"]) == ("relay", True)


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_dead_letter_queue_that_does_not_exist(shop: Aws) -> None:
    shop.sqs.delete_queue(QueueUrl=dead_letter_url(shop))

    assert only_finding()["subject"] == "dead-letter queue"


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("attributes", "level", "word"),
    [
        ({"VisibilityTimeout": "20"}, "error", "VisibilityTimeout is 20 s"),
        ({"VisibilityTimeout": "900"}, "warning", "less than 6 times"),
        ({"MessageRetentionPeriod": "1209600"}, "error", "from the first send"),
        ({"RedrivePolicy": ""}, "error", "no redrive policy"),
        ({"maxReceiveCount": "2"}, "warning", "maxReceiveCount is 2"),
    ],
)
def test_a_queue_with_wrong_attributes(shop: Aws, attributes: dict[str, Any], level: str, word: str) -> None:
    if "maxReceiveCount" in attributes:
        known = shop.sqs.get_queue_attributes(QueueUrl=shop.queue_url, AttributeNames=["RedrivePolicy"])["Attributes"]
        policy = json.loads(known["RedrivePolicy"]) | attributes
        attributes = {"RedrivePolicy": json.dumps(policy)}
    sqs: Any = shop.sqs
    sqs.set_queue_attributes(QueueUrl=shop.queue_url, Attributes=attributes)

    assert word in only_finding(level=level)["message"]


@pytest.mark.one_database
@pytest.mark.django_db
def test_the_visibility_timeout_is_compared_with_the_given_function_timeout(shop: Aws) -> None:
    shop.sqs.set_queue_attributes(QueueUrl=shop.queue_url, Attributes={"VisibilityTimeout": "900"})

    assert not [f for f in doctor("--function-timeout", "150")[1] if f["subject"] == "queue" and f["level"] != "ok"]
    assert only_finding("--function-timeout", "900")["subject"] == "queue"


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("attributes", "level"), [({"VisibilityTimeout": "3600"}, "warning"), ({"RedrivePolicy": "own"}, "error")]
)
def test_a_dead_letter_queue_with_wrong_attributes(shop: Aws, attributes: dict[str, Any], level: str) -> None:
    if "RedrivePolicy" in attributes:
        arn = shop.sqs.get_queue_attributes(QueueUrl=shop.queue_url, AttributeNames=["QueueArn"])["Attributes"]
        attributes = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 5})}
    sqs: Any = shop.sqs
    sqs.set_queue_attributes(QueueUrl=dead_letter_url(shop), Attributes=attributes)

    assert only_finding(level=level)["subject"] == "dead-letter queue"


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("code", "word"),
    [("AccessDenied", "sqs:SendMessage"), ("InvalidClientTokenId", "credentials"), ("SignatureExpired", "NTP")],
)
def test_an_error_from_sqs(shop: Aws, settings: Settings, code: str, word: str) -> None:
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}).encode()
    with answering(403, body) as url:
        client = {**settings.BULK_IMPORT["QUEUE_CLIENT"], "endpoint_url": url}
        settings.BULK_IMPORT = {**settings.BULK_IMPORT, "QUEUE_CLIENT": client, "QUEUE_URL": f"{url}/1/queue"}
        _, findings = doctor()

    first = next(finding for finding in findings if finding["subject"] == "queue")
    assert first["level"] == "error"
    assert word in first["fix"]


# --- The worker API


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_monolith_with_other_secrets(shop: Aws) -> None:
    with answering(401, b'{"code": "authentication_failed"}') as url:
        _, findings = doctor("--base-url", url)

    problem = next(finding for finding in findings if finding["subject"] == "worker API")
    assert "rejected a secret of this process" in problem["message"]


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (302, b"", "base URL"),
        (400, b"<h1>Bad Request</h1>", "ALLOWED_HOSTS"),
        (403, b"", "firewall"),
        (404, b"<h1>Not Found</h1>", "worker_urls"),
        (404, b'{"code": "unknown_chunk"}', "Authorization"),
        (500, b"", "log"),
        (503, b'{"code": "outer_transaction"}', "database transaction"),
    ],
)
def test_an_unexpected_answer_names_its_probable_cause(shop: Aws, status: int, body: bytes, word: str) -> None:
    with answering(status, body, Location="/sign-in/") as url:
        code, findings = doctor("--base-url", url)

    api, target, _ = findings[-3:]
    assert code == 1
    assert (api["subject"], target["subject"]) == ("worker API", "target products")
    assert word in api["message"] + api["fix"]
    assert "ImportedRowMiddleware" in target["fix"]


@pytest.mark.one_database
@pytest.mark.django_db
@pytest.mark.parametrize("prefix", ["https://", ""])
def test_a_base_url_with_a_wrong_scheme_or_none(shop: Aws, prefix: str) -> None:
    with answering(200) as url:
        _, findings = doctor("--base-url", prefix + url.removeprefix("http://"))

    problem = next(finding for finding in findings if finding["subject"] == "worker API")
    assert "http://" in problem["fix"], problem


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_monolith_that_is_not_running(shop: Aws) -> None:
    code, findings = doctor("--base-url", "http://127.0.0.1:9")

    assert code == 1
    assert [finding["subject"] for finding in findings if finding["level"] == "error"] == [
        "worker API",
        "target products",
        "target products",  # no user
    ]


# --- Probes of the create endpoints: rows that are rolled back


@pytest.fixture
def _tents(db: None) -> None:
    Category.objects.create(slug="tents", name="Tents")


@pytest.fixture
def probe(aws: Aws, live_server: LiveServer, merchandiser: Any) -> Probe:
    """A function that runs the doctor with a probe, and returns its findings about the target."""

    def run() -> list[dict[str, str]]:
        _, findings = doctor("--base-url", live_server.url, "--user", merchandiser.get_username())
        return [finding for finding in findings if finding["subject"] == "target products"]

    return run


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_a_probe_goes_through_the_real_view_and_creates_nothing(
    shop: Aws, merchandiser: Any, live_server: LiveServer
) -> None:
    code, findings = doctor("--base-url", live_server.url, "--user", merchandiser.get_username())

    (found,) = [finding for finding in findings if finding["subject"] == "target products"]
    assert (code, found["level"]) == (0, "ok")
    for fact in (
        "products.views.ProductViewSet answered 201",
        "default (written)",
        "Throttles: ",
        "rolled back",
        "emails",
    ):
        assert fact in found["message"]
    assert not Product.objects.exists()


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("run_worker", "live_server", "merchandiser")
def test_the_worker_makes_the_same_probe(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    row = tmp_path / "row.json"
    row.write_text(json.dumps(product("A")))

    assert worker_main(["--probe", "merchandiser", "--row", str(row)]) == 0
    assert worker_main(["--probe", "nobody"]) == 1

    monkeypatch.setenv("BULK_IMPORT_BASE_URL", "127.0.0.1:8000")
    worker_handler._environment.cache_clear()
    assert worker_main(["--probe", "nobody"]) == 2
    printed = capsys.readouterr().out
    assert "ok      target products: products.views.ProductViewSet answered 201" in printed
    assert "There is no active user whose username is 'nobody'." in printed
    assert "BULK_IMPORT_BASE_URL must be like https://shop.example" in caplog.text
    assert not Product.objects.exists()


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_a_target_that_does_not_allow_rehearsals_is_not_probed(
    probe: Probe, merchandiser: Any, settings: Settings
) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "rehearse": False}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    way, found = probe()
    headers = {"Authorization": f"Import {ProbeToken('products', str(merchandiser.pk)).sign()}"}
    answer = APIClient().post("/products/", product("A"), format="json", headers=headers)

    assert "carries the Bulk-Import-Row header" in way["message"]
    assert (found["level"], found["fix"]) == ("warning", 'Set "rehearse": True in TARGETS["products"].')
    assert found["message"].startswith("NOT CHECKED")
    assert (answer.status_code, answer[VERDICT_HEADER]) == (403, "stale")


class ScanSerializer(Serializer[Any]):
    name = CharField()
    scan = FileField()


@pytest.mark.django_db(transaction=True)
def test_a_required_file_cannot_be_in_a_row(probe: Probe, settings: Settings) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "serializer": f"{__name__}.ScanSerializer"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    (found,) = probe()

    assert "a file in scan" in found["message"]
    assert "required=False" in found["fix"]


@pytest.mark.django_db
@pytest.mark.parametrize("token", ["Import probe.forged", "Bearer wrong"])
def test_a_probe_needs_the_worker_secret(client: Any, token: str) -> None:
    asked = client.post(
        "/bulk-import/worker/probe", {}, content_type="application/json", headers={"Authorization": token}
    )
    forged = client.post("/products/", {}, content_type="application/json", headers={"Authorization": "Import probe.x"})

    assert (asked.status_code, forged.status_code) == (401, 401)


def answers(status: int, **options: Any) -> ViewMethod:
    def create(_view: Any, _request: Any, *_args: Any, **_kwargs: Any) -> Response:
        return Response({}, status=status, **options)

    return create


def creates(status: int) -> ViewMethod:
    def create(view: Any, request: Any, *args: Any, **kwargs: Any) -> Response:
        response: Response = ModelViewSet.create(view, request, *args, **kwargs)
        response.status_code = status
        return response

    return create


def raises(error: Exception) -> ViewMethod:
    def create(*_args: Any, **_kwargs: Any) -> Response:
        raise error

    return create


def acts_as_nobody(view: Any, request: Any, *_args: Any, **_kwargs: Any) -> Response:
    request.user = AnonymousUser()
    return Response({}, status=201)


def rolls_back(*_args: Any, **_kwargs: Any) -> Response:
    transaction.set_rollback(True)
    return Response({}, status=201)


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("create", "level", "fix"),
    [
        (creates(200), "error", 'Add "success_statuses": [200] to TARGETS["products"].'),
        (answers(202), "error", "to a task"),
        (answers(302, headers={"Location": "/sign-in/"}), "error", "correct create_url"),
        (raises(NotAuthenticated()), "error", "request.auth"),
        (raises(ValidationError({"sku": ["no"]})), "error", "--row FILE"),
        (answers(201), "error", "in its own request"),
        (raises(Throttled()), "error", "ScopedRateThrottle"),
        (raises(UnsupportedMediaType("application/json")), "error", "JSONParser"),
        (raises(MethodNotAllowed("POST")), "error", "create_url"),
        (raises(NotFound()), "error", "create_kwargs"),
        (raises(ZeroDivisionError("oh")), "error", "traceback"),
        (acts_as_nobody, "error", "request.user"),
        (rolls_back, "error", "error status"),
    ],
)
def test_a_probe_names_what_got_in_the_way(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, create: ViewMethod, level: str, fix: str
) -> None:
    monkeypatch.setattr(ProductViewSet, "create", create)

    problem = next(finding for finding in probe() if finding["level"] != "ok")

    assert (problem["level"], fix in problem["fix"]) == (level, True), problem


def hides_errors(view: Any, request: Any, *_args: Any, **_kwargs: Any) -> Response:
    serializer = view.get_serializer(data=request.data)
    if not serializer.is_valid():
        return Response({"success": False, "errors": serializer.errors})
    serializer.save()
    return Response({"success": True, "data": serializer.data})


@pytest.mark.usefixtures("_tents", "run_worker")
@pytest.mark.django_db(transaction=True)
def test_an_endpoint_that_answers_200_to_a_wrong_row_is_found(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    products = {**settings.BULK_IMPORT["TARGETS"]["products"], "success_statuses": [200]}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": products}}
    monkeypatch.setattr(ProductViewSet, "create", creates(200))
    assert {finding["level"] for finding in probe()} == {"ok"}

    monkeypatch.setattr(ProductViewSet, "create", hides_errors)
    (problem,) = (finding for finding in probe() if finding["level"] != "ok")

    assert (problem["level"], "to the row {}, but wrote nothing" in problem["message"]) == ("error", True)
    assert worker_main(["--probe", "merchandiser"]) == 1
    assert "to the row {}, but wrote nothing" in capsys.readouterr().out


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_an_exception_in_the_view_is_named_and_logged_with_its_place(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ProductViewSet, "create", raises(ZeroDivisionError("oh")))

    (problem,) = probe()

    assert f"ZeroDivisionError in {__file__}, line " in problem["message"]
    assert ": oh" in problem["message"]
    assert f"The view raised ZeroDivisionError in {__file__}, line " in caplog.text
    assert "--row FILE" in problem["fix"]  # the row was generated


def report(**changes: Any) -> tuple[ProbeCall, bytes]:
    """Return a probe and the answer of a site without faults, except for these changes of its report."""
    call = ProbeCall("products", Claim(0, 0, 0, "/products/", "t", "", [], "", 1, cancelled=False).to_dict(), "{}")
    call = replace(call, user="1", success_statuses=[201], serializer="shop.A")
    faultless = ProbeReport("shop.View", 201, "created", [], 5, "1", "shop.example", row_sha256("{}"), "default", "")
    faultless = replace(faultless, written=["default"], key="job:0", places={"jobs": "default.public"})
    return replace(call, key="job:0", places=faultless.places), json.dumps(
        replace(faultless, **changes).to_dict()
    ).encode()


def judge(call: ProbeCall, body: bytes, status: int = 400, headers: dict[str, str] | None = None) -> list[Finding]:
    headers = {VERDICT_HEADER: "not-created"} if headers is None else headers
    return judge_probe(call, "http://shop/products/", status, headers, body)


@pytest.mark.parametrize(
    ("changes", "level", "message", "fix"),
    [
        ({"body_sha256": "0"}, "error", "did not arrive unchanged", "unchanged"),
        ({"isolation": "repeatable read"}, "error", "repeatable read", "read committed"),
        ({"serializer": "shop.B"}, "warning", "shop.B", '"serializer": "shop.B"'),
        ({"ignored": ["naem"]}, "warning", "naem", "serializer"),
        (
            {"throttles": ["UserRateThrottle 100/day"], "rows_per_second": 0.001},
            "warning",
            "0.001 rows",
            "throttle_classes",
        ),
        ({"milliseconds": 9000}, "warning", "9.0 s", "on_commit"),
        ({"written": ["other"]}, "error", "writes to other", "one database"),
        ({"written": []}, "error", "wrote nothing to default", "success_statuses"),
        ({"key": ""}, "error", "Idempotency-Key arrived as ''", "Idempotency-Key unchanged"),
        (
            {"places": {"jobs": "default.north"}},
            "error",
            "in default.north, and the worker API in default.public",
            "SHARED",
        ),
        ({"is_user_read_early": True}, "warning", "sees nobody", "process_view"),
        ({"setters": ["shop.Auth"]}, "warning", "shop.Auth sets more", "process_view"),
    ],
)
def test_the_report_of_a_probe_is_judged(changes: dict[str, Any], level: str, message: str, fix: str) -> None:
    call, body = report(**changes)

    first, problem = judge(call, body)

    assert (first.level, problem.level) == ("ok", level)
    assert message in problem.message
    assert fix in problem.fix
    (fine,) = judge(*report())
    assert fine.level == "ok"


def test_another_host_than_that_of_the_user_is_found() -> None:
    call, body = report()
    call = replace(call, claim={**call.claim, "host": "north.example"})

    problem = judge(call, body)[-1]

    assert "shop.example instead of north.example" in problem.message
    assert "HOST_HEADER" in problem.fix


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        (401, {}, "TOKEN_HEADER"),
        (400, {}, "ALLOWED_HOSTS"),
        (400, {}, "proxy_intercept_errors"),
        (404, {}, "BULK_IMPORT_BASE_URL"),
        (301, {"Location": "https://x/"}, "SECURE_PROXY_SSL_HEADER"),
        (500, {}, "django.request"),
        (503, {}, "Find it in MIDDLEWARE"),
        (403, {VERDICT_HEADER: "wrong-endpoint"}, "BULK_IMPORT_BASE_URL"),
        (401, {VERDICT_HEADER: "stale"}, "TOKEN_KEYS"),
        (200, {VERDICT_HEADER: "not-created"}, "rewrites responses"),
    ],
)
def test_an_answer_that_is_no_report_names_its_probable_cause(status: int, headers: dict[str, str], word: str) -> None:
    (problem,) = judge(report()[0], b"<html>", status, headers)

    assert (problem.level, word in problem.fix) == ("error", True), problem


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_without_a_base_url_the_doctor_says_what_it_did_not_check(shop: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    class TokenHasScope(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:  # noqa: ARG002 - DRF's signature
            return self.has_scope(request)

        def has_scope(self, request: Any) -> bool:
            token = request.auth
            return token is not None

    monkeypatch.setattr(ProductViewSet, "permission_classes", [IsAuthenticated | TokenHasScope])

    code, findings = doctor()

    server, target = findings[-2:]
    assert (code, server["level"], target["level"]) == (1, "error", "error")
    assert all(finding["message"].startswith("NOT CHECKED") for finding in (server, target))
    assert "TokenHasScope" in target["message"]
    assert ("--base-url" in server["fix"], "--user" in target["fix"]) == (True, True)


@pytest.mark.django_db(transaction=True)
def test_a_session_that_the_view_began_is_rolled_back_too(merchandiser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(_view: Any, request: Any) -> Response:
        request.session["cart"] = 1
        request.session.save()
        return Response({}, status=400)

    monkeypatch.setattr(ProductViewSet, "create", create)
    headers = {"Authorization": f"Import {ProbeToken('products', str(merchandiser.pk)).sign()}"}

    answer = APIClient().post("/products/", {}, format="json", headers=headers)

    assert (answer.status_code, answer.json()["status"]) == (400, 400)
    assert not Session.objects.exists()


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db
def test_a_probe_works_on_a_site_with_a_prefix(merchandiser: Any, settings: Settings) -> None:
    settings.FORCE_SCRIPT_NAME = "/shop"
    headers = {"Authorization": f"Import {ProbeToken('products', str(merchandiser.pk)).sign()}"}

    try:
        answer = APIClient().post("/products/", {}, format="json", headers=headers)
    finally:
        clear_script_prefix()

    assert answer.json()["status"] == 400


def current_user_middleware(get_response: Any) -> Any:
    """Look at the user of the session at the beginning of each request, as some audit logs do."""

    def answer(request: Any) -> Any:
        request.author = request.user if request.user.is_authenticated else None
        return get_response(request)

    return answer


class TenantAuthentication(BaseAuthentication):
    def authenticate(self, request: Any) -> None:
        request._request.tenant = "north"


class HarmlessAuthentication(BaseAuthentication):
    def authenticate(self, request: Any) -> None:
        request._request.user = request.user == "nobody"


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_what_depends_on_the_signed_in_user_or_on_authentication_is_named(
    merchandiser: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, worker: APIClient
) -> None:
    *others, last = settings.MIDDLEWARE
    settings.MIDDLEWARE = [*others, f"{__name__}.current_user_middleware", last]
    classes = [TenantAuthentication, HarmlessAuthentication]
    monkeypatch.setattr(ProductViewSet, "authentication_classes", classes)
    asked = ProbeRequest(merchandiser.get_username(), "products")
    (call,) = worker.post("/bulk-import/worker/probe", asked.to_dict(), format="json").json()["probes"]
    call = ProbeCall.from_dict(call)
    headers = {**call.to_claim().create_call_headers(), IDEMPOTENCY_KEY: call.key}

    answer = Client().post("/products/", call.row, content_type="application/json", headers=headers)
    again = Client().post("/products/", call.row, content_type="application/json", headers=headers)

    early, setter = judge(call, answer.content, answer.status_code, dict(answer.headers))[1:]
    assert ("request.user before" in early.message, "process_view" in early.fix) == (True, True)
    assert "TenantAuthentication sets more" in setter.message
    assert "Harmless" not in setter.message
    assert (again.status_code, again[VERDICT_HEADER]) == (403, "stale")  # a token is good for one probe
    assert not Product.objects.exists()


@pytest.mark.django_db
def test_probes_are_limited_and_a_disabled_user_cannot_be_probed(worker: APIClient, merchandiser: Any) -> None:
    asked = ProbeRequest(merchandiser.get_username(), "products", row="{}").to_dict()
    answers = [worker.post("/bulk-import/worker/probe", asked, format="json") for _ in range(61)]
    assert [answer.status_code for answer in answers] == [200] * 60 + [429]
    call = ProbeCall.from_dict(answers[0].json()["probes"][0])
    merchandiser.is_active = False
    merchandiser.save()
    headers = {**call.to_claim().create_call_headers(), IDEMPOTENCY_KEY: call.key}

    answer = Client().post("/products/", "{}", content_type="application/json", headers=headers)

    (problem,) = judge(call, answer.content, answer.status_code, dict(answer.headers))
    assert "There is no active user" in problem.message


class Hosts(NamedTuple):
    public_url: str
    host_header: str
    host: str  # what --host says
    sent: str | None  # in the header


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "hosts",
    [
        Hosts("https://shop.example:8443/", "Host", "", "shop.example:8443"),
        Hosts("", "X-Host", "", "testserver"),
        Hosts("https://shop.example", "Host", "north.example", "north.example"),
        Hosts("https://shop.example", "", "", None),
    ],
)
def test_a_probe_has_the_headers_of_a_create_call(
    worker: APIClient, merchandiser: Any, settings: Settings, hosts: Hosts
) -> None:
    changed = {"TOKEN_HEADER": "X-Import-Token", "HOST_HEADER": hosts.host_header, "PUBLIC_URL": hosts.public_url}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **changed}
    asked = ProbeRequest(merchandiser.get_username(), "products", hosts.host)

    (call,) = worker.post("/bulk-import/worker/probe", asked.to_dict(), format="json").json()["probes"]

    headers = ProbeCall.from_dict(call).to_claim().create_call_headers()
    assert headers["X-Import-Token"].startswith("Import probe.")
    assert headers.get(hosts.host_header) == hosts.sent
    assert "Authorization" not in headers
