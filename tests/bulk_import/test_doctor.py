"""The doctor against real HTTP: S3, SQS and a monolith that work, and then with one fault at a time."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.urls import clear_script_prefix
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.test import APIClient

from bulk_import.authentication import ProbeToken
from bulk_import.doctor.endpoints import examine_endpoints, judge
from bulk_import.models import ImportedRow
from products.models import Category, Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

    from tests.bulk_import.conftest import Aws

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
    (problem,) = [finding for finding in findings if finding["level"] != "ok"]
    assert problem["level"] == level
    assert code == (1 if level == "error" else 0)
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

    assert code == 0
    assert {finding["level"] for finding in findings} == {"ok"}
    assert [finding["subject"] for finding in findings] == [
        "settings", "database", "clock", "secret", "clock", "payloads bucket", "failures bucket", "queue",
        "target products", "worker API", "target products",
    ]  # fmt: skip
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


@pytest.mark.django_db
@pytest.mark.parametrize(("bucket", "subject"), [(PAYLOADS, "payloads bucket"), (FAILURES, "failures bucket")])
def test_a_bucket_that_does_not_exist(shop: Aws, bucket: str, subject: str) -> None:
    shop.s3.delete_bucket(Bucket=bucket)

    problem = only_finding()

    assert (problem["subject"], problem["message"]) == (subject, f"The bucket {bucket} does not exist.")


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


@pytest.mark.django_db
def test_s3_that_cannot_be_reached(shop: Aws, settings: Settings) -> None:
    use_at(settings, "bulk_import_failures", "http://127.0.0.1:9")

    problem = only_finding()

    assert problem["subject"] == "failures bucket"
    assert "can reach the service" in problem["fix"]


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


@pytest.mark.django_db
def test_an_s3_service_without_conditional_writes(shop: Aws, settings: Settings) -> None:
    with answering(200) as url:
        use_at(settings, "bulk_import_payloads", url)
        code, findings = doctor()

    assert code == 1
    assert any("If-None-Match" in finding["message"] for finding in findings)


@pytest.mark.django_db
def test_a_clock_that_is_off_by_an_hour(shop: Aws, settings: Settings) -> None:
    with answering(200, X_Late="1") as url:
        use_at(settings, "bulk_import_payloads", url)
        _, findings = doctor()

    (late,) = [finding for finding in findings if finding["subject"] == "clock" and finding["level"] == "error"]
    assert "S3" in late["message"]
    assert "NTP" in late["fix"]


# --- SQS


@pytest.mark.django_db
def test_a_queue_that_does_not_exist(shop: Aws, settings: Settings) -> None:
    shop.sqs.delete_queue(QueueUrl=shop.queue_url)

    assert only_finding()["message"] == f"The queue {shop.queue_url} does not exist."


@pytest.mark.django_db
def test_a_dead_letter_queue_that_does_not_exist(shop: Aws) -> None:
    shop.sqs.delete_queue(QueueUrl=dead_letter_url(shop))

    assert only_finding()["subject"] == "dead-letter queue"


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


@pytest.mark.django_db
def test_the_visibility_timeout_is_compared_with_the_given_function_timeout(shop: Aws) -> None:
    shop.sqs.set_queue_attributes(QueueUrl=shop.queue_url, Attributes={"VisibilityTimeout": "900"})

    assert doctor("--function-timeout", "150")[0] == 0
    assert only_finding("--function-timeout", "900")["subject"] == "queue"


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


@pytest.mark.django_db
def test_a_monolith_with_other_secrets(shop: Aws) -> None:
    with answering(401, b'{"code": "authentication_failed"}') as url:
        _, findings = doctor("--base-url", url)

    problem = next(finding for finding in findings if finding["subject"] == "worker API")
    assert "rejected a secret of this process" in problem["message"]


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

    api, target = findings[-2:]
    assert code == 1
    assert (api["subject"], target["subject"]) == ("worker API", "target products")
    assert word in api["message"] + api["fix"]
    assert "ImportedRowMiddleware" in target["fix"]


@pytest.mark.django_db
def test_a_monolith_that_is_not_running(shop: Aws) -> None:
    code, findings = doctor("--base-url", "http://127.0.0.1:9")

    assert code == 1
    assert [finding["subject"] for finding in findings if finding["level"] == "error"] == [
        "worker API",
        "target products",
    ]


# --- The probe of the create endpoints


@pytest.fixture
def _tents(db: None) -> None:
    Category.objects.create(slug="tents", name="Tents")


def probe(live_server: LiveServer, user: Any, *rows: str) -> list[dict[str, str]]:
    """Run the doctor with a probe, and return its findings that are not ok."""
    arguments = [argument for row in rows for argument in ("--probe-row", f"products={row}")]
    _, findings = doctor("--base-url", live_server.url, "--probe-user", user.get_username(), *arguments)
    return [finding for finding in findings if finding["level"] != "ok"]


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_a_probe_creates_nothing(aws: Aws, merchandiser: Any, live_server: LiveServer) -> None:
    found = probe(live_server, merchandiser, json.dumps(product("A")))

    assert not [finding for finding in found if finding["subject"] == "target products"]
    assert not Product.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_permission_that_needs_request_auth_is_found(
    aws: Aws, merchandiser: Any, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HasScope(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:  # noqa: ARG002 - DRF's signature
            return request.auth is not None

    monkeypatch.setattr(ProductViewSet, "permission_classes", [HasScope])
    (problem,) = [f for f in probe(live_server, merchandiser) if f["subject"] == "target products"]

    assert problem["level"] == "error"
    assert "request.auth" in problem["fix"]


@pytest.mark.usefixtures("_tents")
@pytest.mark.django_db(transaction=True)
def test_a_probe_records_the_databases_that_it_writes_to_and_rolls_them_back(merchandiser: Any) -> None:
    headers = {"Authorization": f"Import {ProbeToken('products', str(merchandiser.pk)).sign()}"}
    answer = APIClient().post("/products/", product("A"), format="json", headers=headers)

    assert answer.json() == {"status": 201, "written": ["default"], "ledger": "default"}
    assert not Product.objects.exists()
    forged = {"Authorization": "Import probe.forged"}
    assert APIClient().post("/products/", product("A"), format="json", headers=forged).status_code == 401


@pytest.mark.django_db
def test_without_a_probe_a_permission_that_reads_request_auth_is_a_warning(
    shop: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TokenHasScope(BasePermission):
        def has_permission(self, request: Any, view: Any) -> bool:  # noqa: ARG002 - DRF's signature
            return self.has_scope(request)

        def has_scope(self, request: Any) -> bool:
            token = request.auth
            return token is not None

    def found() -> list[dict[str, str]]:
        return [finding for finding in doctor()[1] if finding["subject"] == "target products"]

    assert [(finding["level"], "were not tried" in finding["message"]) for finding in found()] == [("ok", True)]
    monkeypatch.setattr(ProductViewSet, "permission_classes", [IsAuthenticated | TokenHasScope])

    (warning,) = found()

    assert (warning["level"], "TokenHasScope" in warning["message"]) == ("warning", True)
    assert "--probe-user" in warning["fix"]


@pytest.mark.django_db
def test_a_probe_works_on_a_site_with_a_prefix(merchandiser: Any, settings: Settings) -> None:
    settings.FORCE_SCRIPT_NAME = "/shop"
    headers = {"Authorization": f"Import {ProbeToken('products', str(merchandiser.pk)).sign()}"}

    try:
        answer = APIClient().post("/products/", {}, format="json", headers=headers)
    finally:
        clear_script_prefix()

    assert answer.json()["status"] == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "hosts",
    [
        ("https://shop.example:8443/", "Host", "shop.example:8443"),
        ("", "X-Host", "internal:8000"),
        ("https://shop.example", "", None),
    ],
)
def test_a_probe_has_the_headers_of_a_create_call(
    merchandiser: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, str, str | None]
) -> None:
    public_url, host_header, sent = hosts
    changed = {"TOKEN_HEADER": "X-Import-Token", "HOST_HEADER": host_header, "PUBLIC_URL": public_url}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **changed}
    calls: list[dict[str, str]] = []

    def post(_url: str, headers: dict[str, str], **_options: Any) -> httpx.Response:
        calls.append(headers)
        return httpx.Response(200, json={"status": 400, "written": [], "ledger": "default"})

    monkeypatch.setattr(httpx, "post", post)
    list(examine_endpoints("http://internal:8000", merchandiser.get_username(), {}))

    assert calls[0]["X-Import-Token"].startswith("Import probe.")
    assert calls[0].get(host_header) == sent
    assert "Authorization" not in calls[0]


@pytest.mark.parametrize(("status", "level"), [(200, "ok"), (201, "warning")])
def test_a_probe_succeeds_with_a_success_status_of_the_target(settings: Settings, status: int, level: str) -> None:
    targets = settings.BULK_IMPORT["TARGETS"]
    changed = {"products": {**targets["products"], "success_statuses": [200]}}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {**targets, **changed}}
    answer = httpx.Response(200, json={"status": status, "written": [], "ledger": "default"})

    assert judge("products", "anna", answer, has_row=True).level == level
