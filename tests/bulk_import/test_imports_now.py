"""The page "Imports now": what staff see of the workers, the create endpoint, the queue and the rate."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from bulk_import.models import ChunkStatus, ImportChunk, ImportedRow, ImportJob, JobStatus
from bulk_import.models.chunk_columns import LOST_WORKER_DELAY, SILENCE
from bulk_import.reports.messages import clock_time
from bulk_import_wire.calls import NO_ANSWER, Calls
from bulk_import_wire.contract import Finish, PauseCode
from tests.bulk_import.conftest import Aws, call, claim, claim_body, make_user, post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

PAGE = reverse("admin:bulk_import_importsnow_changelist")


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(make_user("supervisor", "view_importjob", is_staff=True))
    return client


def make_chunk(number: int = 0, job: ImportJob | None = None, **fields: Any) -> ImportChunk:
    """Create a chunk of 100 rows."""
    job = job or ImportJob.objects.create(target="products", rows=100, status=JobStatus.PROCESSING)
    columns = {"first_index": 100 * number, "row_count": 100, "first_byte": 0, "byte_count": 1, **fields}
    chunk: ImportChunk = ImportChunk.objects.create(job=job, number=number, **columns)
    return chunk


def processing(*, silent: timedelta = timedelta(0), lease: timedelta = timedelta(hours=1), **fields: Any) -> Any:
    """Create a chunk whose worker sent its last heartbeat `silent` ago, and whose lease ends in `lease`."""
    now = timezone.now()
    fields |= {"heartbeat_at": now - silent, "lease_expires_at": now + lease, "epoch": 1}
    return make_chunk(status=ChunkStatus.PROCESSING, **fields)


def shown(client: Client) -> str:
    """Return the text of the page, without tags."""
    response = client.get(PAGE)
    assert response.status_code == 200
    html = response.content.decode()
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.partition('id="content"')[2])).split())


def test_the_list_and_the_index_link_to_the_page(staff: Client) -> None:
    for url in (reverse("admin:index"), reverse("admin:bulk_import_importjob_changelist")):
        assert f'href="{PAGE}"' in staff.get(url).content.decode()
    assert "Nothing needs your attention." in shown(staff)


def test_only_staff_who_may_view_imports_see_the_page() -> None:
    client = Client()
    client.force_login(make_user("clerk", "view_product", is_staff=True))

    assert client.get(PAGE).status_code == 403
    assert f'href="{PAGE}"' not in client.get(reverse("admin:index")).content.decode()


@pytest.mark.django_db(transaction=True)
def test_what_a_worker_reports_is_on_the_page(
    staff: Client, client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    """A slow endpoint is named while its chunk is in flight, and its answers still count after the chunk has ended."""
    post_rows(client_of_merchandiser, [product(f"S-{number}") for number in range(2)])
    (message,) = aws.messages()
    url = f"/bulk-import/worker/chunks/{message.chunk_id}/claim"
    claimed = worker.post(url, claim_body(message), format="json", headers={"X-Request-ID": "invocation-17"})
    epoch = claimed.json()["epoch"]
    calls = Calls(in_flight=3, oldest_ms=12_000, total_ms=9_000, answers={"created": 3})
    assert call(worker, "heartbeat", message, {"epoch": epoch, "calls": calls.to_dict()}).status_code == 200

    text = shown(staff)

    assert "invocation-17" in text
    assert "products: The endpoint is slow: a call has been waiting for 12.0 s." in text
    assert "mean time of a call 3.0 s" in text
    assert "created: 3" in text
    assert "1 chunk in flight" in text

    answers = Calls(total_ms=4_000, answers={NO_ANSWER: 2, "503": 1, "created": 8})
    report = Finish(epoch, rejected=0, failed=2, unprocessed=0, failures_key="", calls=answers.to_dict())
    assert call(worker, "finish", message, report.to_dict()).status_code == 200

    text = shown(staff)
    assert "products: The endpoint often answers: no answer." in text
    assert "created: 8, no answer: 2, HTTP 503: 1" in text
    assert "2 rows in the last hour, up to 2 in one minute" in text
    assert "0 chunks in flight" in text


INVALID_REPORTS: list[dict[str, Any]] = [
    {"in_flight": -1},
    {"total_ms": 10**13},
    {"answers": {"created": "many"}},
    {"answers": {"x" * 21: 1}},
    {"answers": {"\0": 1}},
    {"answers": {str(number): 1 for number in range(21)}},
    {"oldest_ms": "long"},
]


@pytest.mark.django_db(transaction=True)
def test_a_report_that_cannot_be_stored_is_refused(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    post_rows(client_of_merchandiser, [product("S-1")])
    (message,) = aws.messages()
    epoch = claim(worker, message).epoch

    bodies = [{"epoch": epoch, "calls": calls} for calls in INVALID_REPORTS]

    assert {call(worker, "heartbeat", message, body).status_code for body in bodies} == {400}


def test_a_worker_without_heartbeats_is_named_before_its_lease_ends(staff: Client) -> None:
    processing(worker="healthy")
    lost = processing(silent=SILENCE + timedelta(seconds=1), worker="silent")

    text = shown(staff)

    resumes_at = clock_time(lost.lease_expires_at + LOST_WORKER_DELAY)
    assert "1 worker is lost." in text
    assert f"worker lost, resumes at {resumes_at}" in text
    assert text.index("silent") < text.index("healthy")
    job = ImportJob.objects.for_reports().get(pk=lost.job_id)
    assert job.worker_resumes_at == lost.lease_expires_at + LOST_WORKER_DELAY
    assert job.worker_lost_at == lost.heartbeat_at


def test_a_lost_chunk_that_the_relay_does_not_send_again_is_overdue(staff: Client) -> None:
    processing(silent=timedelta(hours=1), lease=timedelta(minutes=-5))

    text = shown(staff)

    assert "worker lost, overdue since" in text
    assert "Check that manage.py bulk_import_relay runs" in text


def test_what_is_stuck_is_named_with_what_to_do(staff: Client) -> None:
    ana = make_user("ana")
    now = timezone.now()
    job = ImportJob.objects.create(target="products", rows=300, status=JobStatus.PROCESSING, submitter=ana)
    make_chunk(0, job, status=ChunkStatus.QUEUED, queued_at=now - timedelta(seconds=90), created=40)
    make_chunk(1, job, row_count=1100)
    make_chunk(2, job, status=ChunkStatus.DEAD, unprocessed=100, ended_at=now)
    paused = ImportJob.objects.create(
        target="products",
        rows=1,
        submitter=ana,
        status=JobStatus.PAUSED,
        pause_code=PauseCode.FORBIDDEN,
        paused_at=now,
        paused_until=now,
    )
    make_chunk(0, paused)  # its rows do not wait for a worker

    text = shown(staff)

    assert re.search(r"A chunk has been waiting for a worker for 1 min [345]\d s\.", text)
    assert "Check that a worker runs" in text
    assert "ana 1,160 1" in text  # rows that wait, and the imports that they belong to
    assert "1 chunk is dead." in text
    assert "1 import is paused." in text
    assert "the submitter no longer has permission to create these rows" in text
    assert "Give the sender the permission" in text


def test_lost_workers_and_paused_imports_are_all_counted(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bulk_import.admin.now.SHOWN", 2)
    for code in (PauseCode.STAFF, PauseCode.FORBIDDEN, PauseCode.STAFF):
        ImportJob.objects.create(target="products", rows=1, status=JobStatus.PAUSED, pause_code=code)
        processing(silent=timedelta(minutes=1))

    text = shown(staff)

    assert "3 workers are lost." in text
    assert "3 imports are paused. See the reason of each import below." in text


def test_a_retry_does_not_count_the_rows_again_that_were_imported_before(staff: Client, shop: None) -> None:
    job = ImportJob.objects.create(target="products", rows=100, status=JobStatus.PARTIALLY_SUCCEEDED)
    make_chunk(0, job, status=ChunkStatus.DONE, created=90, failed=10, ended_at=timezone.now())
    assert "100 rows in the last hour" in shown(staff)

    ImportJob.objects.get().retry()
    assert "0 rows in the last hour" in shown(staff)
    ImportChunk.objects.update(status=ChunkStatus.DONE, created=100, ended_at=Now())

    assert "10 rows in the last hour" in shown(staff)


def test_the_rate_has_the_minute_of_each_chunk(staff: Client) -> None:
    now = timezone.now()
    for minutes, rows in ((0, 60), (30, 30), (58, 10), (62, 7)):
        make_chunk(status=ChunkStatus.DONE, row_count=rows, created=rows, ended_at=now - timedelta(minutes=minutes))

    text = shown(staff)

    assert "100 rows in the last hour, up to 60 in one minute" in text
    assert " 60 0.1 " in text  # the last ten minutes
    assert text.count(" 0 0.0 ") == 3


def test_the_number_of_queries_is_constant_and_none_reads_the_ledger(staff: Client) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            shown(staff)
        return [query["sql"] for query in captured]

    shown(staff)
    few = queries()
    for number in range(5):
        user = make_user(f"user-{number}")
        job = ImportJob.objects.create(target=f"target-{number}", rows=400, status=JobStatus.PAUSED, submitter=user)
        ImportJob.objects.update(pause_code=PauseCode.STAFF, paused_at=timezone.now())
        processing(job=job, calls=Calls(in_flight=1, answers={"created": 1}).to_dict())
        make_chunk(1, job, status=ChunkStatus.DEAD)
        make_chunk(2, job, status=ChunkStatus.QUEUED, queued_at=timezone.now())
        make_chunk(3, job, status=ChunkStatus.DONE, ended_at=timezone.now())

    many = queries()

    assert len(many) == len(few)
    assert not [sql for sql in many if ImportedRow._meta.db_table in sql]
