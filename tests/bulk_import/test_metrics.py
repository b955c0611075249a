"""The gauges are correct, and only a monitor with a secret can read them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bulk_import.models import Channel, Delivery, ImportChunk, ImportEvent, ImportJob
from bulk_import.models.delivery import GIVE_UP_AFTER
from bulk_import.models.event import EventKind
from bulk_import.models.status import ChunkStatus, JobStatus
from bulk_import.outbox.relay import FAST_PATH_SECONDS

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

SECRETS = ["m" * 32, "n" * 32]
URL = "/bulk-import/metrics"


@pytest.fixture(autouse=True)
def _secrets(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "METRICS_SECRETS": SECRETS}


def scrape() -> dict[str, float]:
    answer = Client().get(URL, headers={"Authorization": f"Bearer {SECRETS[0]}"})
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.content.decode()
    assert text.endswith("\n")
    samples = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert described == {name.partition("{")[0] for name, _, _ in samples}
    return {name: float(value) for name, _, value in samples}


def make_job(status: JobStatus, seconds_ago: float, *chunks: ChunkStatus) -> ImportJob:
    job: ImportJob = ImportJob.objects.create(target="products", rows=1, request_sha256=b"", status=status)
    ImportJob.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(seconds=seconds_ago))
    for number, chunk in enumerate(chunks):
        ImportChunk.objects.create(
            job=job,
            number=number,
            first_index=number,
            row_count=1,
            first_byte=0,
            byte_count=1,
            status=chunk,
            queued_at=timezone.now() - timedelta(seconds=seconds_ago),
        )
    return job


def test_without_any_job_every_gauge_is_zero() -> None:
    samples = scrape()

    assert len(samples) == 4 + 3 + 2 * 2
    assert set(samples.values()) == {0}


def test_open_jobs_unsent_and_dead_chunks_and_deliveries_are_counted() -> None:
    make_job(JobStatus.PROCESSING, 600, ChunkStatus.DEAD, ChunkStatus.PROCESSING, ChunkStatus.DONE)
    make_job(JobStatus.PENDING, FAST_PATH_SECONDS + 60, ChunkStatus.RESERVED, ChunkStatus.RESERVED, ChunkStatus.PENDING)
    make_job(JobStatus.PENDING, 0, ChunkStatus.RESERVED)  # its own process is about to send the message
    ended = make_job(JobStatus.FAILED, 10_000, ChunkStatus.DEAD)
    now = timezone.now()
    for age in (timedelta(), GIVE_UP_AFTER + timedelta(hours=1), GIVE_UP_AFTER + timedelta(days=9)):
        event = ImportEvent.objects.create(job=ended, kind=EventKind.ENDED)
        ImportEvent.objects.filter(pk=event.pk).update(at=now - age)
        Delivery.objects.create(event=event, channel=Channel.EMAIL, recipient="ana@shop.example", due_at=now)
    recent = ImportEvent.objects.create(job=ended, kind=EventKind.ENDED)
    Delivery.objects.create(event=recent, channel=Channel.WEBHOOK, due_at=now)

    samples = scrape()

    assert 599 <= samples.pop("bulk_import_oldest_open_job_seconds") < 660
    assert {name: value for name, value in samples.items() if value} == {
        'bulk_import_open_jobs{status="pending"}': 2,
        'bulk_import_open_jobs{status="processing"}': 1,
        "bulk_import_unsent_chunks": 2,
        "bulk_import_dead_chunks": 2,
        'bulk_import_pending_deliveries{channel="email"}': 1,
        'bulk_import_pending_deliveries{channel="webhook"}': 1,
        'bulk_import_abandoned_deliveries{channel="email"}': 2,
    }


def test_a_scrape_needs_four_queries_however_many_jobs_there_are() -> None:
    for number in range(20):
        make_job(list(JobStatus)[number % len(JobStatus)], number, ChunkStatus.PENDING)

    with CaptureQueriesContext(connection) as queries:
        scrape()

    assert len(queries) == 4


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer x", f"Basic {SECRETS[0]}", "Bearer é" + "m" * 31])
def test_a_request_without_a_valid_secret_gets_404(authorization: str) -> None:
    answer = Client().get(URL, headers={"Authorization": authorization})

    assert answer.status_code == 404
    assert not answer.content


def test_every_configured_secret_is_valid_so_that_secrets_can_be_rotated() -> None:
    for secret in SECRETS:
        assert Client().get(URL, headers={"Authorization": f"Bearer {secret}"}).status_code == 200


@pytest.mark.parametrize("secrets", [[], [""]])
def test_without_a_configured_secret_every_request_gets_404(settings: Settings, secrets: list[str]) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "METRICS_SECRETS": secrets}

    for header in ("Bearer ", "Bearer"):
        assert Client().get(URL, headers={"Authorization": header}).status_code == 404
