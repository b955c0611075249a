"""While S3 is unavailable nothing is forgotten, and the next run resumes."""

from __future__ import annotations

import uuid
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError
from django.utils import timezone

from bulk_import.models import ImportedRow, ImportJob, JobStatus
from bulk_import.retention import MAX_POSTPONED_IN_A_ROW, expire_jobs
from tests.bulk_import.reports.test_failures import use_storage
from tests.bulk_import.retention.retained import (
    ALL,
    ONLY_THE_JOB,
    Remaining,
    expire,
    remaining,
    set_end_days_ago,
    set_retention,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from tests.bulk_import.conftest import Aws


pytestmark = pytest.mark.django_db(transaction=True)


def payloads_at(settings: Settings, url: str) -> None:
    storage = settings.STORAGES["bulk_import_payloads"]
    changed = {**storage, "OPTIONS": {**storage["OPTIONS"], "endpoint_url": url}}
    settings.STORAGES = {**settings.STORAGES, "bulk_import_payloads": changed}


@pytest.mark.parametrize(
    ("break_storage", "left"),
    [(payloads_at, ALL), (use_storage, ALL._replace(payloads=0))],
    ids=["payloads", "failures"],
)
def test_while_s3_is_unavailable_the_command_fails_and_the_next_run_resumes(
    job: ImportJob, aws: Aws, settings: Settings, break_storage: Any, left: Remaining
) -> None:
    set_end_days_ago(31)
    break_storage(settings, "http://127.0.0.1:9")  # a port on which nothing listens
    with pytest.raises(CommandError, match="S3 was unavailable for 1 jobs"):
        expire()
    assert remaining(aws) == left
    break_storage(settings, aws.url)

    expire()
    assert remaining(aws) == ONLY_THE_JOB
    assert not ImportJob.objects.get().is_expiring


def test_an_interrupted_job_is_resumed_even_if_the_settings_have_changed(
    job: ImportJob, aws: Aws, settings: Settings
) -> None:
    """The API already answers 410 for its failures, so they must not stay in the bucket for ever."""
    set_end_days_ago(31)
    use_storage(settings, "http://127.0.0.1:9")
    with pytest.raises(CommandError):
        expire()
    use_storage(settings, aws.url)
    set_retention(settings, payload=None, failures=None, ledger=None)

    assert "3 failure files" in expire()
    assert remaining(aws) == ONLY_THE_JOB


def test_a_job_whose_bucket_does_not_exist_does_not_block_the_others(job: ImportJob, aws: Aws) -> None:
    """Otherwise every run would stop at this job."""
    lost = ImportJob.objects.create(
        pk=uuid.UUID(int=1),  # the first job of the run
        target="products",
        rows=1,
        request_sha256=b"",
        status=JobStatus.FAILED,
        finished_at=timezone.now(),
        payload_bucket="no-such-bucket",
        payload_key="x",
    )
    set_end_days_ago(31)
    with pytest.raises(CommandError, match="for 1 jobs"):
        expire()

    assert remaining(aws) == ONLY_THE_JOB._replace(jobs=2)
    assert list(ImportJob.objects.filter(is_expiring=True)) == [lost]


def test_a_run_stops_after_several_failures_in_a_row(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
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
    assert "could not be expired: S3 did not delete the payload of job" in caplog.text


@pytest.fixture
def refusing_storage() -> Iterator[str]:
    """An S3 that lists one object, and refuses to delete it in a response with status 200."""
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
    set_end_days_ago(31)
    use_storage(settings, refusing_storage)
    with pytest.raises(CommandError):
        expire()

    assert ImportJob.objects.get().is_expiring
    assert ImportedRow.objects.count() == 2
