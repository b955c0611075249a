"""A target that was removed from the settings does not keep its open jobs from ending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail

from bulk_import import operations
from bulk_import.models import ImportJob, JobStatus
from bulk_import_wire.contract import Claim, ClaimRequest
from tests.bulk_import.conftest import Aws, call, post_rows, product

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


def test_a_claim_that_creates_rows_is_answered_503_until_the_target_is_configured_again(
    job: ImportJob, worker: APIClient, aws: Aws, settings: Settings
) -> None:
    message = aws.messages()[0]
    configured = settings.BULK_IMPORT
    remove_target(settings)
    answer = call(worker, "claim", message)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "products" in answer.json()["message"]
    settings.BULK_IMPORT = configured
    assert call(worker, "claim", message).status_code == 200


def claim_without_creating(message: ChunkMessage) -> dict[str, Any]:
    return ClaimRequest(message.to_dict(), "dead-letter", creates=False).to_dict()
