"""What has expired is deleted, whatever breaks meanwhile; what is still needed is not, and nothing happens twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
import uuid
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from bulk_import import retention
from bulk_import.authentication import ImportToken
from bulk_import.exceptions import Expired
from bulk_import.models import RETAINED, TERMINAL_STATUSES, EventKind, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import.operations import redrive, retry
from bulk_import.outbox.mail import compose
from bulk_import.retention import BATCH_RECORDS, MAX_POSTPONED_IN_A_ROW, Deleted, expire_jobs
from bulk_import.storage import failures
from bulk_import_wire.contract import IDEMPOTENCY_KEY, IMPORT_SCHEME
from bulk_import_wire.problems import problem
from products.models import Product
from tests.bulk_import.conftest import Aws, call, claim, finish, in_threads, make_user, post_rows, product, record
from tests.bulk_import.reports.test_failures import a_line, use_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.contract import ChunkMessage

PROJECT = Path(__file__).resolve().parents[2]
FAILURES = "bulk-import-failures"
ROWS = [product(str(n)) for n in range(4)]
EVERYTHING = "1 payloads, 3 files of failures, 2 ledger records, 0 jobs"
NOTHING = "0 payloads, 0 files of failures, 0 ledger records, 0 jobs"

pytestmark = pytest.mark.django_db(transaction=True)


class Kept(NamedTuple):
    """What there is of all jobs."""

    payloads: int
    failures: int
    records: int
    jobs: int


ALL = Kept(1, 3, 2, 1)
ONLY_THE_JOB = Kept(0, 0, 0, 1)


def kept(aws: Aws) -> Kept:
    return Kept(len(aws.payload_keys()), len(failure_keys(aws)), ImportedRow.objects.count(), ImportJob.objects.count())


def failure_keys(aws: Aws) -> list[str]:
    return [found["Key"] for found in aws.s3.list_objects_v2(Bucket=FAILURES).get("Contents", [])]


def end(aws: Aws, worker: APIClient, messages: list[ChunkMessage]) -> ImportJob:
    """Of rows 0 to 3, 0 and 3 are created, 1 and 2 are not; the first chunk took two deliveries, and died."""
    first, last = messages
    epoch = claim(worker, first).epoch
    record(first, 0)
    record(last, 3)
    keys = [f"{first.job_id}/{name}.jsonl" for name in ("000000000-1", "000000000-2", "000000003-1")]
    for key in keys:
        aws.s3.put_object(Bucket=FAILURES, Key=key, Body=a_line(1, b"{}") + a_line(2, b"{}"))
    problems = [{**problem("category", "does_not_exist", "No such category.", 1), "count": 2}]
    report = finish(epoch, unprocessed=2, failures_key=keys[0], problems=problems)
    assert call(worker, "dead", first, report).status_code == 200
    assert call(worker, "finish", last, finish(claim(worker, last).epoch)).status_code == 200
    job: ImportJob = ImportJob.objects.get(pk=first.job_id)
    assert job.status == JobStatus.PARTIALLY_SUCCEEDED
    return job


def grow_old(days: float, **fields: Any) -> None:
    """Every job that has ended did so that long ago."""
    ended = ImportJob.objects.exclude(finished_at=None)
    ended.update(finished_at=timezone.now() - timedelta(days=days), **fields)


def keep(settings: Settings, **days: int | None) -> None:
    names = {f"{kind.upper()}_RETENTION_DAYS": count for kind, count in days.items()}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, **names}


def expire(*arguments: str) -> str:
    said = StringIO()
    call_command("bulk_import_expire", *arguments, stdout=said)
    return said.getvalue().strip()


@pytest.fixture
def job(aws: Aws, worker: APIClient, messages: list[ChunkMessage]) -> ImportJob:
    """It has just ended."""
    return end(aws, worker, messages)


@pytest.fixture
def location(job: ImportJob) -> str:
    return f"/products/bulk/{job.pk}"


# --- what goes, and when


def test_payload_failures_and_ledger_go_and_the_job_stays(job: ImportJob, aws: Aws) -> None:
    grow_old(31)
    before = ImportJob.objects.with_counts().get()
    events = list(job.events.values())

    assert kept(aws) == ALL
    assert expire() == f"deleted: {EVERYTHING}"
    assert kept(aws) == ONLY_THE_JOB
    after = ImportJob.objects.with_counts().get()
    assert (after.status, after.counts, after.problems) == (before.status, before.counts, before.problems)
    assert after.counts == {"created": 2, "rejected": 0, "failed": 0, "unprocessed": 2, "pending": 0}
    assert list(job.events.values()) == events
    assert (set(after.expired), after.is_expiring) == (set(RETAINED), False)


def test_to_expire_again_changes_nothing(job: ImportJob, aws: Aws) -> None:
    grow_old(31)
    expire()
    before = ImportJob.objects.values().get()

    assert expire() == f"deleted: {NOTHING}"
    assert ImportJob.objects.values().get() == before


def test_only_what_belongs_to_the_job_goes(
    job: ImportJob, aws: Aws, worker: APIClient, client_of_merchandiser: APIClient
) -> None:
    grow_old(31)
    post_rows(client_of_merchandiser, [product(f"B{n}") for n in range(4)])
    other = end(aws, worker, aws.messages())
    expire()

    assert kept(aws) == Kept(1, 3, 2, 2)
    assert aws.payload_keys() == [other.payload_key]
    assert all(key.startswith(f"{other.pk}/") for key in failure_keys(aws))
    assert set(ImportedRow.objects.values_list("job", flat=True)) == {other.pk}


def test_a_job_that_ended_a_day_too_late_loses_nothing(job: ImportJob, aws: Aws) -> None:
    grow_old(29.99)

    assert expire() == f"deleted: {NOTHING}"
    assert kept(aws) == ALL


@pytest.mark.parametrize("status", sorted(set(JobStatus) - TERMINAL_STATUSES))
def test_a_job_that_has_not_ended_loses_nothing_however_old(job: ImportJob, aws: Aws, status: JobStatus) -> None:
    long_ago = timezone.now() - timedelta(days=1000)
    ImportJob.objects.update(status=status, created_at=long_ago, finished_at=None)
    assert expire() == f"deleted: {NOTHING}"
    ImportJob.objects.update(finished_at=long_ago)  # which cannot be
    assert expire() == f"deleted: {NOTHING}"

    assert kept(aws) == ALL


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_every_end_counts(job: ImportJob, aws: Aws, status: JobStatus) -> None:
    grow_old(31, status=status)
    expire()

    assert kept(aws) == ONLY_THE_JOB


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("payload", ALL._replace(payloads=0)),
        ("failures", ALL._replace(failures=0)),
        ("ledger", ALL._replace(records=0)),
    ],
)
def test_each_kind_has_its_own_time(job: ImportJob, aws: Aws, settings: Settings, kind: str, left: Kept) -> None:
    keep(settings, **{**dict.fromkeys(RETAINED, 90), kind: 28})
    grow_old(29)
    expire()
    assert kept(aws) == left
    grow_old(91)
    expire()

    assert kept(aws) == ONLY_THE_JOB


def test_what_is_kept_for_ever_stays(job: ImportJob, aws: Aws, settings: Settings) -> None:
    keep(settings, payload=None, failures=None, ledger=None)
    grow_old(10_000)

    assert expire() == f"deleted: {NOTHING}"
    assert kept(aws) == ALL


@pytest.mark.parametrize("days", [None, 60])
def test_nothing_outlives_its_job(job: ImportJob, aws: Aws, settings: Settings, days: int | None) -> None:
    keep(settings, payload=days, failures=days, ledger=days, job=40)
    grow_old(39)
    expire()
    assert kept(aws) == ALL
    grow_old(41)

    assert expire() == "deleted: 1 payloads, 3 files of failures, 2 ledger records, 1 jobs"
    assert kept(aws) == Kept(0, 0, 0, 0)
    assert not ImportChunk.objects.exists()


def test_a_job_that_expired_before_goes_when_its_own_time_is_over(job: ImportJob, aws: Aws, settings: Settings) -> None:
    correction = ImportJob.objects.create(target="products", rows=1, request_sha256=b"", corrects=job)
    keep(settings, job=40)
    grow_old(31)
    expire()
    assert kept(aws) == ONLY_THE_JOB._replace(jobs=2)
    grow_old(41)
    expire()

    assert list(ImportJob.objects.values_list("pk", "corrects")) == [(correction.pk, None)]


def test_failures_of_any_number_of_deliveries_go(job: ImportJob, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "PAGE_KEYS", 2)
    for epoch in range(3, 7):
        aws.s3.put_object(Bucket=FAILURES, Key=f"{job.pk}/000000000-{epoch}.jsonl", Body=b"")
    grow_old(31)

    assert "7 files" in expire("--dry-run")
    assert "7 files" in expire()
    assert failure_keys(aws) == []


def test_a_dry_run_tells_what_there_is_to_delete_and_deletes_nothing(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    keep(settings, job=40)
    grow_old(41)
    before = ImportJob.objects.values().get()

    assert expire("--dry-run") == "to delete: 1 payloads, 3 files of failures, 2 ledger records, 1 jobs"
    assert (kept(aws), ImportJob.objects.values().get()) == (ALL, before)


# --- what an expired job answers


@pytest.mark.parametrize("path", ["failures", "failures?part=rows", "failures?format=csv", "failures/1", "failures/0"])
def test_the_failures_of_an_expired_job_are_gone(
    client_of_merchandiser: APIClient, location: str, aws: Aws, path: str
) -> None:
    assert client_of_merchandiser.get(f"{location}/{path}").status_code == (404 if path == "failures/0" else 200)
    grow_old(31)
    expire()
    answer = client_of_merchandiser.get(f"{location}/{path}")

    assert (answer.status_code, answer["Content-Type"]) == (410, "application/json")
    assert answer.json() == {"code": "expired", "message": "The failures of this import are no longer kept."}


@pytest.mark.parametrize("verb", ["retry", "redrive"])
@pytest.mark.parametrize("kind", RETAINED)
def test_a_job_of_which_anything_has_expired_does_not_run_again(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings, *, kind: str, verb: str
) -> None:
    """Without its ledger, every row would be created twice; without its payload or failures, it could not go on."""
    keep(settings, **{**dict.fromkeys(RETAINED, 90), kind: 28})
    grow_old(29)
    expire()
    before = [*ImportJob.objects.values(), *ImportChunk.objects.values()]
    answer = client_of_merchandiser.post(f"{location}/{verb}", headers={"Accept-Language": "pt-BR"})

    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert answer.json()["message"].startswith("As linhas desta importação não são mais guardadas.")
    assert [*ImportJob.objects.values(), *ImportChunk.objects.values()] == before
    assert aws.messages() == []


def test_the_command_says_that_a_job_has_expired(job: ImportJob, aws: Aws) -> None:
    grow_old(31)
    expire()

    with pytest.raises(CommandError, match=r"no longer kept\. Send them as a new import"):
        call_command("bulk_import_redrive", str(job.pk))


def test_the_job_tells_when_it_expires_and_that_it_has(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings
) -> None:
    keep(settings, failures=7)
    ended = client_of_merchandiser.get(location).json()
    finished_at, expires_at = (parse_datetime(ended[name]) for name in ("finished_at", "expires_at"))
    assert finished_at
    assert expires_at == finished_at + timedelta(days=7)
    assert ended["expired_at"] is None
    assert ended["links"]["failures"].endswith("/failures")
    assert ended["links"]["retry"].endswith("/retry")
    grow_old(8)
    expire()

    expired = client_of_merchandiser.get(location).json()
    assert expired["expired_at"] == expired["expires_at"] != ended["expires_at"]
    assert [expired["links"][name] for name in ("failures", "retry", "redrive")] == [None, None, None]
    assert expired["message"].endswith("The failures are no longer kept.")
    assert (expired["counts"], expired["problems"]) == (ended["counts"], ended["problems"])


def test_failures_that_are_kept_longer_than_the_rows_can_still_be_read(
    client_of_merchandiser: APIClient, location: str, aws: Aws, settings: Settings
) -> None:
    keep(settings, payload=7)
    grow_old(8)
    expire()
    expired = client_of_merchandiser.get(location).json()

    assert (expired["links"]["retry"], expired["expired_at"] is None) == (None, False)
    assert client_of_merchandiser.get(expired["links"]["failures"]).status_code == 200


@pytest.mark.parametrize("days", [30, None])
def test_a_job_that_has_not_ended_or_is_kept_for_ever_does_not_expire(
    client_of_merchandiser: APIClient, location: str, settings: Settings, days: int | None
) -> None:
    keep(settings, payload=days, failures=days, ledger=days)
    if days:
        ImportJob.objects.update(status=JobStatus.PROCESSING, finished_at=None)

    assert client_of_merchandiser.get(location).json()["expires_at"] is None


def test_an_idempotency_key_outlives_the_payload(
    client_of_merchandiser: APIClient, aws: Aws, worker: APIClient
) -> None:
    key = {"Idempotency-Key": "once"}
    first = post_rows(client_of_merchandiser, ROWS, headers=key)
    end(aws, worker, aws.messages())
    grow_old(31)
    expire()
    again = post_rows(client_of_merchandiser, ROWS, headers=key)

    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert aws.messages() == []


# --- what comes late


def test_a_message_delivered_again_after_the_expiry_creates_nothing(
    job: ImportJob, aws: Aws, run_worker: Any, messages: list[ChunkMessage]
) -> None:
    grow_old(31)
    expire()
    for message in messages:
        aws.sqs.send_message(QueueUrl=aws.queue_url, MessageBody=message.encode())
    before = ImportJob.objects.values().get()
    run_worker()

    assert (Product.objects.count(), ImportedRow.objects.count()) == (0, 0)
    assert ImportJob.objects.values().get() == before
    assert aws.messages() == []


def test_a_create_call_that_comes_after_the_expiry_creates_nothing(
    job: ImportJob, client: Any, messages: list[ChunkMessage]
) -> None:
    """Its token is as good as on the first day."""
    grow_old(31)
    expire()
    for message in messages:
        for epoch in (1, 2):
            token = ImportToken(uuid.UUID(message.chunk_id), epoch).sign()
            headers = {
                "Authorization": f"{IMPORT_SCHEME} {token}",
                IDEMPOTENCY_KEY: f"{job.pk}:{message.first_index}",
            }
            answer = client.post("/products/", ROWS[0], content_type="application/json", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "stale_epoch")

    assert (Product.objects.count(), ImportedRow.objects.count()) == (0, 0)


def test_a_message_of_a_job_that_was_deleted_is_nobodys(
    job: ImportJob, worker: APIClient, settings: Settings, messages: list[ChunkMessage]
) -> None:
    keep(settings, job=40)
    grow_old(41)
    expire()

    assert call(worker, "claim", messages[0]).status_code == 404


# --- at the same instant


def give_up(job: ImportJob, *kinds: str) -> bool:
    with transaction.atomic():
        return job.expire(kinds)


def test_a_job_that_was_reopened_since_it_was_read_keeps_everything(job: ImportJob, aws: Aws) -> None:
    grow_old(31)
    as_read = ImportJob.objects.get()
    assert retry(job) == 1

    assert not give_up(as_read, *RETAINED)
    assert expire() == f"deleted: {NOTHING}"
    assert (kept(aws), ImportJob.objects.get().expired) == (ALL, {})


def test_a_job_that_was_reopened_and_ended_since_it_was_read_keeps_everything(
    job: ImportJob, aws: Aws, worker: APIClient, messages: list[ChunkMessage]
) -> None:
    grow_old(31)
    as_read = ImportJob.objects.get()
    retry(job)
    epoch = claim(worker, messages[0]).epoch
    assert call(worker, "finish", messages[0], finish(epoch, rejected=2)).status_code == 200

    assert not give_up(as_read, *RETAINED)
    assert expire() == f"deleted: {NOTHING}"


def test_a_job_that_has_not_ended_cannot_expire(job: ImportJob) -> None:
    ImportJob.objects.update(status=JobStatus.PROCESSING, finished_at=None)

    assert not give_up(ImportJob.objects.get(), *RETAINED)
    assert ImportJob.objects.get().expired == {}


def test_a_job_that_another_run_deleted_since_it_was_read_is_passed_over(job: ImportJob, aws: Aws) -> None:
    as_read, deleted = ImportJob.objects.get(), Deleted()
    ImportJob.objects.get().delete()
    retention._expire_job(as_read, {*RETAINED, "job"}, deleted)

    assert deleted == Deleted()


@pytest.mark.parametrize("reopen", [retry, redrive])
def test_of_expiry_and_reopening_at_the_same_instant_one_wins(job: ImportJob, aws: Aws, reopen: Any) -> None:
    grow_old(31)

    def try_to_reopen() -> int | None:
        try:
            return int(reopen(ImportJob.objects.get()))
        except Expired:
            return None

    reopened, _deleted = in_threads(try_to_reopen, expire_jobs)

    assert kept(aws) == (ALL if reopened else ONLY_THE_JOB)
    assert bool(ImportJob.objects.get().expired) == (not reopened)


@pytest.mark.parametrize("job_days", [None, 30])
def test_two_runs_at_once_do_no_harm(job: ImportJob, aws: Aws, settings: Settings, job_days: int | None) -> None:
    keep(settings, job=job_days)
    grow_old(31)
    in_threads(*[expire_jobs] * 4)

    assert kept(aws) == ONLY_THE_JOB._replace(jobs=0 if job_days else 1)
    assert not ImportJob.objects.filter(is_expiring=True).exists()


def test_what_another_run_gave_up_meanwhile_is_left_to_it(job: ImportJob) -> None:
    """Were it killed, the next run would have to know that there is something left."""
    mine, others = ImportJob.objects.get(), ImportJob.objects.get()
    give_up(mine, "payload")
    give_up(others, "ledger")
    mine.mark_deleted()
    assert ImportJob.objects.get().is_expiring

    others.mark_deleted()
    assert not ImportJob.objects.get().is_expiring


# --- trouble


def payloads_at(settings: Settings, url: str) -> None:
    storage = settings.STORAGES["bulk_import_payloads"]
    changed = {**storage, "OPTIONS": {**storage["OPTIONS"], "endpoint_url": url}}
    settings.STORAGES = {**settings.STORAGES, "bulk_import_payloads": changed}


@pytest.mark.parametrize(
    ("away", "left"), [(payloads_at, ALL), (use_storage, ALL._replace(payloads=0))], ids=["payloads", "failures"]
)
def test_while_s3_is_away_the_command_fails_and_goes_on_when_it_is_back(
    job: ImportJob, aws: Aws, settings: Settings, away: Any, left: Kept
) -> None:
    grow_old(31)
    away(settings, "http://127.0.0.1:9")  # nobody listens on the discard port
    with pytest.raises(CommandError, match="S3 was not there for 1 jobs"):
        expire()
    assert kept(aws) == left
    away(settings, aws.url)

    expire()
    assert kept(aws) == ONLY_THE_JOB
    assert not ImportJob.objects.get().is_expiring


def test_a_job_that_a_run_did_not_come_to_the_end_of_is_gone_on_with_whatever_the_settings_are_now(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    """Its failures answer 410 already; they must not stay in the bucket for ever."""
    grow_old(31)
    use_storage(settings, "http://127.0.0.1:9")
    with pytest.raises(CommandError):
        expire()
    use_storage(settings, aws.url)
    keep(settings, payload=None, failures=None, ledger=None)

    assert "3 files of failures" in expire()
    assert kept(aws) == ONLY_THE_JOB


def test_a_job_whose_bucket_is_gone_does_not_keep_the_others(job: ImportJob, aws: Aws) -> None:
    """A run would otherwise stop at it, night for night."""
    lost = ImportJob.objects.create(
        pk=uuid.UUID(int=1),  # the first one that is looked at
        target="products",
        rows=1,
        request_sha256=b"",
        status=JobStatus.FAILED,
        finished_at=timezone.now(),
        payload_bucket="no-such-bucket",
        payload_key="x",
    )
    grow_old(31)
    with pytest.raises(CommandError, match="for 1 jobs"):
        expire()

    assert kept(aws) == ONLY_THE_JOB._replace(jobs=2)
    assert list(ImportJob.objects.filter(is_expiring=True)) == [lost]


def test_after_some_jobs_in_a_row_the_storage_is_taken_to_be_away(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    ImportJob.objects.bulk_create(
        ImportJob(
            target="products",
            rows=1,
            request_sha256=b"",
            status=JobStatus.FAILED,
            finished_at=timezone.now() - timedelta(days=31),
            payload_bucket="no-such-bucket",
            payload_key="x",
        )
        for _number in range(MAX_POSTPONED_IN_A_ROW + 2)
    )

    assert expire_jobs().postponed == MAX_POSTPONED_IN_A_ROW
    assert ImportJob.objects.filter(is_expiring=True).count() == MAX_POSTPONED_IN_A_ROW
    assert "is not expired yet. S3 did not delete the payload of job" in caplog.text


@pytest.fixture
def refusing_storage() -> Iterator[str]:
    """S3 that lists one object in a bucket, and refuses to delete it, in an answer 200."""
    listing = b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"
    refusal = b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code></Error></DeleteResult>"

    class Refusing(BaseHTTPRequestHandler):
        def answer(self, body: bytes) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(listing)

        def do_POST(self) -> None:
            self.answer(refusal)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_object_that_s3_refuses_to_delete_is_not_forgotten(
    job: ImportJob, aws: Aws, settings: Settings, refusing_storage: str
) -> None:
    grow_old(31)
    use_storage(settings, refusing_storage)
    with pytest.raises(CommandError):
        expire()

    assert ImportJob.objects.get().is_expiring
    assert ImportedRow.objects.count() == 2


DYING = """
import os, signal, sys
import django
django.setup()
from django.conf import settings
from django.core.files.storage import storages
from django.core.management import call_command
from django.db import connection, transaction
from bulk_import import retention

settings.BULK_IMPORT["JOB_RETENTION_DAYS"] = 40
retention.BATCH_RECORDS = 1

def run(steps):
    left = iter(range(steps))

    def step(**_):
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def execute(execute, sql, params, many, context):
        step()
        return execute(sql, params, many, context)

    for alias in ("bulk_import_payloads", "bulk_import_failures"):
        events = storages[alias].connection.meta.client.meta.events
        events.register("before-call.s3", step)
    with connection.execute_wrapper(execute):
        call_command("bulk_import_expire", stdout=sys.stderr)

for line in sys.stdin:
    if not (child := os.fork()):
        run(int(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""For each line of input, runs the command in a process that dies before its step of that number.

A step is a statement of SQL or a call of S3. Prints the process' exit code.
"""


@pytest.fixture
def dying(aws: Aws) -> Iterator[Callable[[int], int]]:
    """Runs the command for so many steps; returns its exit code."""
    name = str(connection.settings_dict["NAME"])
    database_url = f"sqlite:///{name}"
    if connection.vendor == "postgresql":
        database_url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    urls = {"DATABASE_URL": database_url, "AWS_ENDPOINT_URL": aws.url}
    with subprocess.Popen(
        [sys.executable, "-c", DYING],
        cwd=PROJECT,
        env={**os.environ, **urls, "DJANGO_SETTINGS_MODULE": "settings.local"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def run(steps: int) -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{steps}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield run
        process.kill()


def test_killed_at_any_step_the_next_run_goes_on(job: ImportJob, aws: Aws, dying: Callable[[int], int]) -> None:
    """One run after the other is killed, each a step later than the one before."""
    grow_old(41)
    steps, seen = 0, [ALL]
    while (exit_code := dying(steps)) == -signal.SIGKILL:
        left = kept(aws)
        if left not in {ALL, ONLY_THE_JOB, Kept(0, 0, 0, 0)}:
            job.refresh_from_db()
            assert job.is_expiring  # nothing goes before the job says so
            assert set(job.expired) == set(RETAINED)
        seen += [left] if left != seen[-1] else []
        steps += 1

    assert exit_code == 0
    assert seen == [
        ALL,
        Kept(payloads=0, failures=3, records=2, jobs=1),
        Kept(payloads=0, failures=0, records=2, jobs=1),
        Kept(payloads=0, failures=0, records=1, jobs=1),
        ONLY_THE_JOB,
        Kept(payloads=0, failures=0, records=0, jobs=0),
    ]
    assert not ImportChunk.objects.exists()


# --- size


def test_the_memory_is_flat_and_the_statements_are_small_however_long_the_ledger_is(
    aws: Aws, record_property: Any
) -> None:
    small, large = (peak_of_expiry(rows) for rows in (2 * BATCH_RECORDS, 200 * BATCH_RECORDS))

    record_property("peak_bytes", [small, large])
    assert large < small + 256 * 1024


MULTIPLY = """
INSERT INTO bulk_import_importedrow (job_id, "index", body_sha256, object_id, created_at)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < %s)
SELECT job_id, n, body_sha256, object_id, created_at FROM bulk_import_importedrow, numbers
"""
"""Makes so many records of the only one that there is."""


def peak_of_expiry(rows: int) -> int:
    """The peak of memory, in bytes, while a job of so many created rows expires."""
    job = ImportJob.objects.create(
        target="products",
        rows=rows,
        request_sha256=b"",
        status=JobStatus.SUCCEEDED,
        finished_at=timezone.now() - timedelta(days=31),
        payload_bucket="bulk-import-payloads",
        payload_key="x",
    )
    ImportedRow.objects.create(job=job, index=0, body_sha256=b"x" * 32)
    with connection.cursor() as cursor:
        cursor.execute(MULTIPLY, [rows])
    sizes: list[int] = []

    def execute(execute: Any, sql: str, params: Any, many: Any, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        if sql.startswith("DELETE"):
            sizes.append(context["cursor"].rowcount)
        return answer

    tracemalloc.start()
    try:
        with connection.execute_wrapper(execute):
            deleted = retention.expire_jobs()
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert deleted.ledger_records == rows
    assert sizes == [BATCH_RECORDS] * (rows // BATCH_RECORDS)
    return peak


# --- staff


@pytest.fixture
def staff(client: Any) -> Any:
    client.force_login(make_user("root", is_staff=True, is_superuser=True))
    return client


def admin_page(job: ImportJob, *rest: str) -> str:
    return "/".join(["/admin/bulk_import/importjob", str(job.pk), *(rest or ["change"]), ""])


def test_staff_see_when_a_job_expires_and_then_no_link_that_leads_nowhere(staff: Any, job: ImportJob, aws: Aws) -> None:
    before = staff.get(admin_page(job)).content.decode()
    grow_old(31)
    expire()
    after = staff.get(admin_page(job)).content.decode()

    assert "<dt>expires</dt>" in before
    assert "<dt>expired</dt>" in after
    assert "so it cannot run again" in after
    for link in ("payload", "failures", "do/retry", "do/redrive"):
        assert admin_page(job, link) in before
        assert admin_page(job, link) not in after


@pytest.mark.parametrize(
    ("path", "post", "message"),
    [
        ("payload", False, "The rows of this import are no longer kept."),
        ("failures", False, "The failures of this import are no longer kept."),
        ("do/retry", True, "Send them as a new import."),
        ("do/redrive", True, "Send them as a new import."),
    ],
)
def test_staff_with_an_old_page_are_told_that_the_job_has_expired(
    staff: Any, job: ImportJob, aws: Aws, *, path: str, post: bool, message: str
) -> None:
    grow_old(31)
    expire()
    answer = (staff.post if post else staff.get)(admin_page(job, path), follow=True)

    assert answer.redirect_chain == [(admin_page(job), 302)]
    assert message in answer.content.decode()


# --- mail


def test_a_mail_that_comes_after_the_expiry_offers_nothing_that_is_gone(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    """With a retention of a day, and a mail server that was away for longer."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "PUBLIC_URL": "https://shop.example", "JOB_PAGE_URL": ""}
    before = compose(ImportJob.objects.with_counts().get(), EventKind.ENDED, None, is_submitters=True).text
    grow_old(31)
    expire()
    after = compose(ImportJob.objects.with_counts().get(), EventKind.ENDED, None, is_submitters=True).text

    for offer in ("/failures", "/retry", "download what was not created"):
        assert offer in before
        assert offer not in after
    assert "2 of 4 products were created" in after
