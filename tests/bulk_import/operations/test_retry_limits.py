"""Retries and redrives in a loop are limited, and so are the emails that they cause."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.core import mail

from bulk_import.models import ImportEvent
from bulk_import.models.event import MAX_MAILS
from bulk_import.outbox.notifications import send_due_emails
from tests.bulk_import.conftest import Aws, call, claim, finish
from tests.bulk_import.outbox.deliveries import let_time_pass, pending_emails

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


def end(worker: APIClient, messages: list[ChunkMessage], verb: str = "finish") -> None:
    for message in messages:
        outcome = {"rejected" if verb == "finish" else "unprocessed": message.row_count}
        assert call(worker, verb, message, finish(claim(worker, message).epoch, **outcome)).status_code == 200


@pytest.mark.parametrize("verb", ["retry", "redrive"])
def test_retries_count_as_submissions(
    client_of_merchandiser: APIClient, messages: list[ChunkMessage], settings: Settings, verb: str
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "SUBMISSION_RATE": "3/min"}  # the import was the first
    path = f"/products/bulk/{messages[0].job_id}/{verb}"

    answers = [client_of_merchandiser.post(path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1]["Retry-After"]


@pytest.mark.parametrize("verbs", [("retry", "finish"), ("redrive", "dead")], ids=str)
def test_retried_rows_count_in_the_row_quota(
    client_of_merchandiser: APIClient,
    worker: APIClient,
    messages: list[ChunkMessage],
    settings: Settings,
    verbs: tuple[str, str],
) -> None:
    verb, ending = verbs
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS_PER_DAY": 11}  # the job has four rows
    path = f"/products/bulk/{messages[0].job_id}/{verb}"
    end(worker, messages, ending)
    assert client_of_merchandiser.post(path).status_code == 202
    assert ImportEvent.objects.latest("at").rows == 4
    end(worker, messages, ending)

    refused = client_of_merchandiser.post(path)

    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")
    assert 86_000 < int(refused["Retry-After"]) <= 86_400


def test_emails_of_one_job_are_limited_and_the_last_state_is_always_reported(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    path = f"/products/bulk/{messages[0].job_id}/retry"
    for _ in range(MAX_MAILS + 3):
        end(worker, messages)
        send_due_emails()
        assert client_of_merchandiser.post(path).status_code == 202
    end(worker, messages)
    send_due_emails()
    assert (len(mail.outbox), pending_emails()) == (MAX_MAILS, 1)

    let_time_pass(timedelta(hours=1))
    assert (send_due_emails(), len(mail.outbox), pending_emails()) == (1, MAX_MAILS + 1, 0)
