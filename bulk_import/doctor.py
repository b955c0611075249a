"""Tries what an import needs, as the import does it, and says how to mend what is broken.

It leaves nothing behind: the object that it writes is deleted, no message is sent, and the worker API is asked for a
chunk that there is not. It needs the rights of the monolith, and sqs:GetQueueAttributes to look at the queues.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.apps import apps
from django.core.checks import ERROR, run_checks
from django.core.files.storage import storages
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse

from bulk_import.conf import FAILURES_STORAGE, PAYLOADS_STORAGE, conf
from bulk_import.models import database
from lambda_worker.contract import (
    IDEMPOTENCY_KEY,
    IMPORT_SCHEME,
    ROW_HEADER,
    ChunkMessage,
    ClaimRequest,
    RowVerdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

TIMEOUT_SECONDS = 10
"""For each call."""

VISIBILITY_FACTOR = 6  # visibility time-out over function time-out, as AWS advises
MIN_RECEIVE_COUNT = 5  # as AWS advises
MAX_DEAD_VISIBILITY_SECONDS = 300  # so long a chunk may be dead before its job says so
MAX_SKEW_SECONDS = 30  # an import token is good for an hour, a lease is on one clock only
MAX_AWS_SKEW_SECONDS = 240  # SQS refuses what was signed five minutes ago
MIN_DIFFERENT_CHARACTERS = 10  # of a secret; 32 random characters have some 25
MAX_SECRETS = 2  # the new one and the old one

DENIED = {"AccessDenied", "AccessDeniedException", "AllAccessDisabled", "403", "Forbidden"}
BAD_CREDENTIALS = {"InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken"}
NO_BUCKET = {"NoSuchBucket"}
NO_OBJECT = {"NoSuchKey", "404"}
NO_QUEUE = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue"}

MEND_CREDENTIALS = "Give the monolith's process valid credentials: its role, or AWS_ACCESS_KEY_ID and its companions."
MEND_NETWORK = "See that this machine reaches it: AWS_ENDPOINT_URL, region, DNS, proxy, security group, VPC endpoint."
MEND_CLOCK = "Keep the clocks by NTP (chrony), on the machines of the monolith and of the database."


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, or seems to; somebody should look
    ERROR = "error"  # imports fail, or their guarantees do


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and how to mend it; "" where there is nothing to mend."""

    subject: str
    level: Level
    message: str
    mend: str = ""


def examine(base_url: str = "", function_timeout_seconds: int = 300) -> Iterator[Finding]:
    """Everything. The worker API only at a base URL, as the worker reaches the monolith. Never raises."""
    examinations: list[Callable[[], Iterator[Finding]]] = [
        examine_settings,
        examine_database,
        examine_secrets,
        examine_payloads,
        examine_failures,
        lambda: examine_queue(function_timeout_seconds),
    ]
    if base_url:
        examinations += [lambda: examine_worker_api(base_url), lambda: examine_create_calls(base_url)]
    for examination in examinations:
        try:
            yield from examination()
        except Exception as error:  # noqa: BLE001 - what cannot be examined is a finding, and the rest still is
            yield Finding(
                "settings", Level.ERROR, f"Something cannot be examined: {error!r}", "Mend the other findings first."
            )


# --- This side


def examine_settings() -> Iterator[Finding]:
    """What `manage.py check` says of this app."""
    messages = [message for message in run_checks() if str(message.id).startswith("bulk_import.")]
    for message in messages:
        level = Level.ERROR if message.level >= ERROR else Level.WARNING
        yield Finding("settings", level, f"{message.msg} ({message.id})", str(message.hint or ""))
    if not messages:
        yield Finding("settings", Level.OK, "manage.py check has nothing to say.")


def examine_database() -> Iterator[Finding]:
    connection = connections[database()]
    try:
        yield from _examine_tables(connection)
        with connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_TIMESTAMP")
            (now,) = cursor.fetchone()
    except DatabaseError as error:
        yield Finding("database", Level.ERROR, f"It does not answer: {_one_line(error)}", "Mend DATABASES.")
        return
    if isinstance(now, str):  # SQLite
        now = datetime.fromisoformat(now)
    yield _skew("database", now if now.tzinfo else now.replace(tzinfo=UTC), MAX_SKEW_SECONDS)


def _examine_tables(connection: Any) -> Iterator[Finding]:
    executor: Any = MigrationExecutor(connection)
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == "bulk_import"]
    if plan := executor.migration_plan(leaves):
        names = ", ".join(migration.name for migration, _ in plan if migration.app_label == "bulk_import")
        yield Finding("database", Level.ERROR, f"Migrations are not applied: {names}", "Run manage.py migrate.")
        return
    missing = []
    for model in apps.get_app_config("bulk_import").get_models():
        with connection.cursor() as cursor:
            there = connection.introspection.get_constraints(cursor, model._meta.db_table)
        missing += [c.name for c in model._meta.constraints if c.name not in there]
    if missing:
        yield Finding(
            "database",
            Level.ERROR,
            f"Constraints are missing, without which rows can be doubled: {', '.join(missing)}",
            "Somebody dropped them. Look for doubled rows, then make them again as in bulk_import/migrations.",
        )
    else:
        yield Finding("database", Level.OK, "All migrations are applied, all constraints are there.")


def examine_secrets() -> Iterator[Finding]:
    """By their looks only, and never with their text."""
    secrets = conf().worker_secrets
    mend = "Make another: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if not secrets:
        yield Finding("secret", Level.ERROR, "There is none, so no worker gets in.", mend)
        return
    if any(len(set(secret)) < MIN_DIFFERENT_CHARACTERS for secret in secrets):
        yield Finding("secret", Level.ERROR, "One has so few different characters that it can be guessed.", mend)
    elif any(secret != secret.strip() or not secret.isprintable() or not secret.isascii() for secret in secrets):
        yield Finding("secret", Level.ERROR, "One has spaces or other characters that no header can carry.", mend)
    elif len(set(secrets)) > MAX_SECRETS:
        yield Finding(
            "secret", Level.WARNING, f"{len(secrets)} of them open the worker API.", "Remove those that were replaced."
        )
    else:
        yield Finding("secret", Level.OK, "It is set, and no guess.")


# --- S3


def examine_payloads() -> Iterator[Finding]:
    """Put as an import does, only where nothing is; look, delete as `bulk_import_expire` does."""
    bucket = _Bucket("payloads bucket", PAYLOADS_STORAGE)
    key = bucket.key(f"doctor/{uuid.uuid4()}")
    finding = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"{}\n", IfNoneMatch="*")
    if finding:
        yield finding
        return
    yield from bucket.clock()
    try:
        twice = bucket.attempt("put_object", "s3:PutObject", Key=key, Body=b"[]\n", IfNoneMatch="*")
        if twice is None:
            yield bucket.error(
                "It takes If-None-Match for nothing: an object that was there was overwritten.",
                "Use an S3 that has conditional writes, as AWS's does.",
            )
        elif bucket.code != "PreconditionFailed":
            yield twice
        if finding := bucket.attempt("get_object", "s3:GetObject", Key=key):
            yield finding
    finally:
        finding = bucket.attempt("delete_object", "s3:DeleteObject", Key=key)
    yield finding or bucket.ok("Put where nothing is, look and delete work.")


def examine_failures() -> Iterator[Finding]:
    """List, read and delete, as downloads and `bulk_import_expire` do. Writing is the worker's right alone."""
    bucket = _Bucket("failures bucket", FAILURES_STORAGE)
    key = f"doctor/{uuid.uuid4()}"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("list_objects_v2", "s3:ListBucket", {"Prefix": key, "MaxKeys": 1}),
        ("get_object", "s3:GetObject", {"Key": key}),
        ("delete_object", "s3:DeleteObject", {"Key": key}),
    ]
    is_well = True
    for operation, right, parameters in calls:
        finding = bucket.attempt(operation, right, **parameters)
        if finding and bucket.code not in NO_OBJECT:  # which is as it should be
            yield finding
            is_well = False
            if bucket.code not in DENIED:  # every call would say the same
                return
    if is_well:
        yield bucket.ok("List, read and delete work.")


class _Bucket:
    """One bucket; `code` is S3's for the last call that failed."""

    def __init__(self, subject: str, alias: str) -> None:
        self._subject = subject
        storage: Any = storages[alias]
        self._storage = storage
        self._client = storage.connection.meta.client
        self._headers: Mapping[str, str] = {}
        self.name = storage.bucket_name
        self.code = ""

    def key(self, name: str) -> str:
        """The name within the storage's `location`."""
        key: str = self._storage._normalize_name(name)  # noqa: SLF001 - the only way to honour it
        return key

    def attempt(self, operation: str, right: str, **parameters: Any) -> Finding | None:
        """Call S3. None when that worked."""
        self.code = ""
        try:
            answer = getattr(self._client, operation)(Bucket=self.name, **parameters)
        except (BotoCoreError, ClientError) as error:
            self.code = _code(error)
            return self._finding(error, right)
        self._headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return None

    def _finding(self, error: Exception, right: str) -> Finding:
        if self.code in NO_BUCKET:
            return self.error(f"There is no bucket {self.name}.", "Make it, or mend bucket_name in STORAGES.")
        if self.code in DENIED:
            return self.error(
                f"AccessDenied: {right} is not allowed in {self.name}.",
                f"Allow {right} to the monolith's role, and see that the bucket's policy and KMS key allow it too.",
            )
        return _aws_finding(self._subject, self.code, error)

    def clock(self) -> Iterator[Finding]:
        if date := self._headers.get("date"):
            yield _skew("S3", parsedate_to_datetime(date), MAX_AWS_SKEW_SECONDS)

    def ok(self, message: str) -> Finding:
        return Finding(self._subject, Level.OK, message)

    def error(self, message: str, mend: str) -> Finding:
        return Finding(self._subject, Level.ERROR, message, mend)


# --- SQS


def examine_queue(function_timeout_seconds: int) -> Iterator[Finding]:
    queue_url = conf().queue_url
    options = Config(connect_timeout=TIMEOUT_SECONDS, read_timeout=TIMEOUT_SECONDS, retries={"total_max_attempts": 2})
    sqs = boto3.client("sqs", config=options, **conf().queue_client)
    try:
        # Two entries of the same id: SQS refuses the whole of it, so nothing is ever sent.
        entry: Any = {"Id": "doctor", "MessageBody": "doctor"}
        sqs.send_message_batch(QueueUrl=queue_url, Entries=[entry, entry])
    except (BotoCoreError, ClientError) as error:
        code = _code(error)
        if code in NO_QUEUE:
            yield Finding("queue", Level.ERROR, f"There is no queue {queue_url}", "Make it, or mend QUEUE_URL.")
            return
        if code in DENIED:
            yield _denied("queue", "sqs:SendMessage", "the monolith's role", Level.ERROR)
        elif not code.endswith("BatchEntryIdsNotDistinct"):
            yield _aws_finding("queue", code, error)
            return
    try:
        attributes: Any = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    except (BotoCoreError, ClientError) as error:
        if _code(error) in DENIED:
            yield _denied("queue", "sqs:GetQueueAttributes", "whoever runs this", Level.WARNING)
        else:
            yield _aws_finding("queue", _code(error), error)
        return
    findings = [
        *_judge_visibility(int(attributes["VisibilityTimeout"]), function_timeout_seconds),
        *_judge_redrive(sqs, attributes),
    ]
    yield from findings
    if not findings:
        yield Finding("queue", Level.OK, "It is there, and so is its dead-letter queue.")


def _judge_visibility(visibility: int, function_timeout: int) -> Iterator[Finding]:
    lease = conf().lease_seconds
    if visibility <= max(lease, function_timeout):
        yield Finding(
            "queue",
            Level.ERROR,
            f"VisibilityTimeout is {visibility} s: a chunk comes again while it is worked on (lease {lease} s, "
            f"function {function_timeout} s).",
            f"Set VisibilityTimeout to {max(lease + 1, VISIBILITY_FACTOR * function_timeout)}.",
        )
    elif visibility < VISIBILITY_FACTOR * function_timeout:
        yield Finding(
            "queue",
            Level.WARNING,
            f"VisibilityTimeout is {visibility} s, less than {VISIBILITY_FACTOR} times the function's time-out.",
            f"Set it to {VISIBILITY_FACTOR * function_timeout}, or say --function-timeout if it is not "
            f"{function_timeout}.",
        )


def _judge_redrive(sqs: Any, attributes: Mapping[str, str]) -> Iterator[Finding]:
    try:
        policy = json.loads(attributes["RedrivePolicy"])
        arn, count = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
    except (KeyError, TypeError, ValueError):
        yield Finding(
            "queue",
            Level.ERROR,
            "It has no redrive policy: a chunk that fails comes again for ever, and its job never ends.",
            f"Make a dead-letter queue and set RedrivePolicy, with maxReceiveCount {MIN_RECEIVE_COUNT}.",
        )
        return
    if count < MIN_RECEIVE_COUNT:
        yield Finding(
            "queue",
            Level.WARNING,
            f"maxReceiveCount is {count}: a moment of trouble is enough to make a chunk dead.",
            f"Set it to {MIN_RECEIVE_COUNT} or more.",
        )
    name = arn.rpartition(":")[2]
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        dead = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except (BotoCoreError, ClientError) as error:
        code = _code(error)
        if code in DENIED:
            yield _denied("dead-letter queue", "sqs:GetQueueUrl and GetQueueAttributes", "whoever runs this")
        elif code in NO_QUEUE:
            message = f"The redrive policy names {name}, which is not there: SQS keeps such messages on the queue."
            yield Finding("dead-letter queue", Level.ERROR, message, "Make it, or mend the RedrivePolicy.")
        else:
            yield _aws_finding("dead-letter queue", code, error)
        return
    yield from _judge_dead_letter_queue(attributes, dead)


def _judge_dead_letter_queue(queue: Mapping[str, str], dead: Mapping[str, str]) -> Iterator[Finding]:
    kept, kept_dead = int(queue["MessageRetentionPeriod"]), int(dead["MessageRetentionPeriod"])
    if kept_dead <= kept:
        yield Finding(
            "dead-letter queue",
            Level.ERROR,
            f"It keeps messages for {kept_dead} s, the queue for {kept} s. A dead letter keeps the time that it was "
            "sent at: one that waited long may be gone before anybody knows.",
            "Set its MessageRetentionPeriod to 1209600 (14 days), and that of the queue to 604800.",
        )
    if int(dead["VisibilityTimeout"]) > MAX_DEAD_VISIBILITY_SECONDS:
        yield Finding(
            "dead-letter queue",
            Level.WARNING,
            f"Its VisibilityTimeout is {dead['VisibilityTimeout']} s: so long a chunk may be dead before its job says "
            "so.",
            f"Set it to {MAX_DEAD_VISIBILITY_SECONDS} or less.",
        )
    if dead.get("RedrivePolicy"):
        yield Finding(
            "dead-letter queue",
            Level.ERROR,
            "It has a redrive policy of its own: dead letters go where nobody reads them.",
            "Remove its RedrivePolicy.",
        )


# --- The way from the worker


def examine_worker_api(base_url: str) -> Iterator[Finding]:
    """Claim a chunk that there is not, by HTTP: with each secret, and with a wrong one."""
    chunk_id = uuid.uuid4()
    url = base_url.rstrip("/") + reverse("bulk-import-claim", kwargs={"chunk_id": chunk_id})
    body = _foreign_claim(chunk_id)
    for number, secret in enumerate(["wrong-" + uuid.uuid4().hex, *conf().worker_secrets]):
        try:
            answer = _post(url, {"Authorization": f"Bearer {secret}"}, body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield _no_answer("worker API", url, error)
            return
        if finding := _judge_claim(answer, is_wrong_secret=not number):
            yield finding
            return
    yield Finding("worker API", Level.OK, "It refuses what is not its own, and a wrong secret, in its own words.")


def examine_create_calls(base_url: str) -> Iterator[Finding]:
    """A create call with a wrong token: the ledger must see it, and its word must come back."""
    headers = {"Authorization": f"{IMPORT_SCHEME} doctor", IDEMPOTENCY_KEY: f"{uuid.uuid4()}:0"}
    for name in conf().targets:
        url = base_url.rstrip("/") + conf().target(name).create_path
        try:
            answer = _post(url, headers, {})
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            yield _no_answer(f"target {name}", url, error)
            continue
        if answer.status_code == HTTPStatus.UNAUTHORIZED and answer.headers.get(ROW_HEADER) == RowVerdict.STALE:
            yield Finding(f"target {name}", Level.OK, "The ledger's word comes back.")
        else:
            yield Finding(
                f"target {name}",
                Level.ERROR,
                f"{url} answered {answer.status_code} without the ledger's word, so no row would count as created.",
                f"Put ImportedRowMiddleware last in MIDDLEWARE, and let proxies pass the headers Authorization, "
                f"{IDEMPOTENCY_KEY} and {ROW_HEADER}.",
            )


def _foreign_claim(chunk_id: UUID) -> dict[str, Any]:
    message = ChunkMessage(
        job_id=str(uuid.uuid4()),
        chunk_id=str(chunk_id),
        bucket="doctor",
        key="doctor",
        etag='"doctor"',
        first_byte=0,
        byte_count=1,
        first_index=0,
        row_count=1,
    )
    return ClaimRequest(message.to_dict(), claimant=str(uuid.uuid4())).to_dict()


def _post(url: str, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return httpx.post(url, headers=headers, json=body, timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)


def _judge_claim(answer: httpx.Response, *, is_wrong_secret: bool) -> Finding | None:
    """None for the answer that there should be."""
    status = answer.status_code
    try:
        code = answer.json()["code"]
    except (ValueError, KeyError, TypeError):
        code = ""
    if status == HTTPStatus.UNAUTHORIZED and is_wrong_secret:
        return None
    if status == HTTPStatus.NOT_FOUND and code == "unknown_chunk" and not is_wrong_secret:
        return None
    if answer.is_redirect:
        message, mend = f"leads to {answer.headers.get('Location')}", "Give a base URL that answers itself, https://…"
    elif is_wrong_secret and code == "unknown_chunk":
        message = "let a wrong secret in"
        mend = "See that nothing between the worker and the monolith sets the Authorization header."
    elif status == HTTPStatus.UNAUTHORIZED:
        message = "does not know a secret that this process knows"
        mend = "Give all processes of the monolith the same WORKER_SECRETS; let proxies pass Authorization."
    elif status == HTTPStatus.BAD_REQUEST:
        message = "does not want this host name or this contract"
        mend = "Add the host to ALLOWED_HOSTS; run the same version everywhere."
    elif status == HTTPStatus.NOT_FOUND:
        message = "is not there"
        mend = "Mount bulk_import.worker_urls, and let proxies pass its path."
    elif status == HTTPStatus.FORBIDDEN:
        message, mend = "is forbidden", "Let the worker pass the firewall, and middleware leave its path alone."
    else:
        message, mend = "is in trouble", "The monolith's log tells why."
    return Finding("worker API", Level.ERROR, f"It answered {status}: it {message}.", mend)


# --- Words


def _skew(whose: str, there: datetime, bound: float) -> Finding:
    seconds = abs((there - datetime.now(UTC)) / timedelta(seconds=1))
    if seconds > bound:
        message = f"The clock of this machine and that of the {whose} are {seconds:.0f} s apart."
        return Finding("clock", Level.ERROR, message, MEND_CLOCK)
    return Finding("clock", Level.OK, f"As that of the {whose}.")


def _code(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def _denied(subject: str, right: str, who: str, level: Level = Level.WARNING) -> Finding:
    return Finding(subject, level, f"AccessDenied: {right} is not allowed.", f"Allow {right} to {who}.")


def _aws_finding(subject: str, code: str, error: Exception) -> Finding:
    if code in BAD_CREDENTIALS or code in {"NoCredentialsError", "PartialCredentialsError"}:
        return Finding(subject, Level.ERROR, f"AWS does not know who this is: {code}", MEND_CREDENTIALS)
    if code in {"RequestTimeTooSkewed", "SignatureExpired"}:
        return Finding(subject, Level.ERROR, f"AWS refuses this machine's clock: {code}", MEND_CLOCK)
    return Finding(subject, Level.ERROR, _one_line(error), MEND_NETWORK)


def _no_answer(subject: str, url: str, error: Exception) -> Finding:
    mend = "Start the monolith, give the base URL that the worker has, or open the way between them."
    return Finding(subject, Level.ERROR, f"{url} does not answer: {type(error).__name__}", mend)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
