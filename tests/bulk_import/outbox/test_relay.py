"""The relay sends the messages that the process of the request could not send."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now

from bulk_import.exceptions import QueueUnavailable
from bulk_import.models import ImportChunk, ImportJob
from bulk_import.outbox.relay import FAST_PATH_SECONDS
from tests.bulk_import.api.test_views import queue_away
from tests.bulk_import.conftest import Aws, claim_body, post_rows, product

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db(transaction=True)


def grow_old() -> None:
    """Give every chunk a place so long ago that its own process has no more time for sending the message."""
    ImportChunk.objects.update(queued_at=Now() - timedelta(seconds=FAST_PATH_SECONDS + 1))


@pytest.fixture
def unsent_job(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> ImportJob:
    """A job of twelve chunks that was accepted while SQS was unavailable. Now SQS is available again."""
    reachable = settings.BULK_IMPORT
    queue_away(settings)
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(36)])
    settings.BULK_IMPORT = reachable
    grow_old()
    job: ImportJob = ImportJob.objects.get()
    return job


def test_the_relay_sends_every_unsent_chunk_once(unsent_job: ImportJob, aws: Aws) -> None:
    output = StringIO()
    call_command("bulk_import_relay", stdout=output)
    call_command("bulk_import_relay", stdout=output)

    assert output.getvalue().splitlines() == ["Sent 12 messages, 0 emails, 0 webhooks."]
    assert [message.first_index for message in aws.messages()] == list(range(0, 36, 3))
    unsent_job.refresh_from_db()
    assert unsent_job.status == "queued"


def test_when_a_process_is_killed_before_sending_the_relay_sends_the_messages(
    client_of_merchandiser: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SystemExit stands for the kill: the job is committed, and nothing after that runs."""

    def killed(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr("bulk_import.outbox.relay.send_messages", killed)
        with pytest.raises(SystemExit):
            post_rows(client_of_merchandiser, [product("A")])
    assert aws.messages() == []

    call_command("bulk_import_relay", stdout=StringIO())
    assert aws.messages() == []  # its own process could still be sending
    grow_old()
    call_command("bulk_import_relay", stdout=StringIO())
    assert len(aws.messages()) == 1


def test_while_sqs_is_unavailable_the_chunks_stay_pending(unsent_job: ImportJob, settings: Settings) -> None:
    queue_away(settings)

    with pytest.raises(CommandError, match="The chunks stay pending"):
        call_command("bulk_import_relay")
    assert ImportChunk.objects.unsent().count() == 12


def test_a_chunk_that_a_worker_has_already_claimed_stays_claimed(
    unsent_job: ImportJob, worker: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message can arrive before it is marked as sent."""
    chunk = unsent_job.chunks.select_related("job")[0]
    unsent_job.chunks.exclude(pk=chunk.pk).delete()

    def send_too_late(chunks: list[ImportChunk]) -> list[ImportChunk]:
        worker.post(f"/bulk-import/worker/chunks/{chunk.pk}/claim", claim_body(chunk.message()), format="json")
        return chunks

    monkeypatch.setattr("bulk_import.outbox.relay.send_messages", send_too_late)
    call_command("bulk_import_relay", stdout=StringIO())

    chunk.refresh_from_db()
    unsent_job.refresh_from_db()
    assert (chunk.status, unsent_job.status) == ("processing", "processing")


def test_with_every_the_relay_continues_after_an_error(
    unsent_job: ImportJob, aws: Aws, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS is unavailable during the first sweep and available during the second. Then somebody interrupts the relay."""
    reachable = settings.BULK_IMPORT
    queue_away(settings)
    slept: list[int] = []

    def sleep(seconds: int) -> None:
        slept.append(seconds)
        settings.BULK_IMPORT = reachable
        if len(slept) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("bulk_import.management.commands.bulk_import_relay.time", SimpleNamespace(sleep=sleep))
    output, errors = StringIO(), StringIO()
    with pytest.raises(KeyboardInterrupt):
        call_command("bulk_import_relay", "--every", "7", stdout=output, stderr=errors)

    assert slept == [7, 7]
    assert "The chunks stay pending" in errors.getvalue()
    assert output.getvalue().splitlines() == ["Sent 12 messages, 0 emails, 0 webhooks."]
    assert len(aws.messages()) == 12


def test_accepted_batches_are_marked_as_sent_even_if_another_batch_fails(
    unsent_job: ImportJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(chunks: list[ImportChunk]) -> list[ImportChunk]:
        if chunks[0].number:
            raise QueueUnavailable("SQS did not accept the messages.")
        return chunks

    monkeypatch.setattr("bulk_import.outbox.relay.send_messages", send)

    with pytest.raises(CommandError, match="SQS did not accept"):
        call_command("bulk_import_relay")
    assert sorted(ImportChunk.objects.unsent().values_list("number", flat=True)) == [10, 11]
