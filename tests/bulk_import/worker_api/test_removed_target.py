"""A target that was removed from the settings does not keep its open jobs from ending."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.db.models.functions import Now

from bulk_import import operations
from bulk_import.models import ImportJob, JobStatus
from bulk_import_wire.contract import Claim, ClaimRequest
from tests.bulk_import.conftest import Aws, call, deliver, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(client_of_merchandiser: APIClient, aws: Aws) -> ImportJob:
    assert post_rows(client_of_merchandiser, [product(str(n)) for n in range(4)]).status_code == 202
    job: ImportJob = ImportJob.objects.get()
    return job


def remove_target(settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {}}


def test_a_job_without_its_target_can_be_cancelled_and_ends(
    job: ImportJob, run_worker: Any, settings: Settings, merchandiser: Any
) -> None:
    remove_target(settings)
    assert operations.cancel(job, merchandiser)

    run_worker()

    ended = ImportJob.objects.for_reports().get()
    assert (ended.status, ended.counts["unprocessed"]) == (JobStatus.CANCELLED, 4)
    assert [message.to for message in mail.outbox] == [[merchandiser.email]]


def test_a_claim_that_only_reports_needs_no_target(
    job: ImportJob, worker: APIClient, aws: Aws, settings: Settings
) -> None:
    """The dead-letter function makes such a claim."""
    message = aws.messages()[0]
    remove_target(settings)
    answer = call(worker, "claim", message, claim_without_creating(message))

    assert answer.status_code == 200
    assert Claim.from_dict(answer.json()).create_path == ""


def test_a_job_is_paused_until_its_target_is_configured_again(
    job: ImportJob, run_worker: Any, worker: APIClient, aws: Aws, settings: Settings
) -> None:
    configured = settings.BULK_IMPORT
    first, second = aws.messages()
    remove_target(settings)

    refused = call(worker, "claim", first)

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (409, "paused", "3")
    assert call(worker, "claim", second).json()["code"] == "paused"
    job.refresh_from_db()
    assert (job.status, job.pause_code) == (JobStatus.PAUSED, "wrong_endpoint")
    assert not job.chunks.filter(lease_expires_at__isnull=False).exists()
    settings.BULK_IMPORT = configured
    ImportJob.objects.update(paused_until=Now())
    deliver([first])
    run_worker()
    job.refresh_from_db()
    assert job.status == JobStatus.SUCCEEDED


def test_a_job_whose_target_stays_removed_ends(job: ImportJob, run_worker: Any, aws: Aws, settings: Settings) -> None:
    remove_target(settings)
    run_worker()
    assert ImportJob.objects.get().is_paused
    ImportJob.objects.update(paused_at=Now() - timedelta(hours=25), paused_until=Now())

    deliver([chunk.message() for chunk in job.chunks.select_related("job")])

    ended = ImportJob.objects.for_reports().get()
    assert (ended.status, ended.counts["unprocessed"]) == (JobStatus.FAILED, 4)
    assert "do not reach the create endpoint" in ended.problems[0]["message"]


def claim_without_creating(message: ChunkMessage) -> dict[str, Any]:
    return ClaimRequest(message.to_dict(), "dead-letter", creates=False).to_dict()
