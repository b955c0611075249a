"""The relay sends another message if no worker claims a chunk for too long, whatever else is on the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.db.models.functions import Now

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.models.lost_messages import MESSAGE_TIMEOUT
from bulk_import.outbox.relay import sweep
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.api.test_views import queue_away
from tests.bulk_import.conftest import Aws, call, claim, finish, post_rows, product, release

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 4

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _window(settings: Settings, aws: Aws) -> None:
    """A window of four chunks, and chunks of one row."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CHUNK_ROWS": 1, "CHUNKS_IN_FLIGHT": WINDOW}


def submit(client: APIClient, rows: int) -> None:
    """Import rows, one in each chunk."""
    assert post_rows(client, [product(str(n)) for n in range(rows)]).status_code == 202


def let_pass(time: timedelta) -> None:
    """Let all chunks have waited longer by this time."""
    ImportChunk.objects.update(queued_at=F("queued_at") - time, replaced_at=F("replaced_at") - time)


def test_a_lost_message_is_replaced_although_the_queue_has_as_many_messages_as_it_should(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    """The messages of chunks that have ended hide the loss from whoever counts."""
    submit(client_of_merchandiser, 6)
    first, second, *_lost = aws.messages()
    assert call(worker, "finish", first, finish(claim(worker, first).epoch, rejected=1)).status_code == 200
    claim(worker, second)  # a worker has this one, however long that takes
    (fifth,) = aws.messages()
    for _surplus in range(WINDOW):
        aws.sqs.send_message(QueueUrl=aws.queue_url, MessageBody=first.encode())
    let_pass(MESSAGE_TIMEOUT - SECOND)
    assert sweep().messages == 0

    let_pass(2 * SECOND)
    assert sweep().messages == 3

    # The sixth chunk still waits for a place, so the others have kept theirs.
    assert [message.first_index for message in aws.messages()] == [0] * WINDOW + [2, 3, fifth.first_index]


def test_while_no_worker_runs_a_chunk_gets_ever_fewer_messages(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """Otherwise there would be a hundred messages for each chunk after a day, and workers would claim it as often."""
    submit(client_of_merchandiser, WINDOW)
    waited, after = timedelta(0), []
    while waited < timedelta(days=7):
        wait = min(max(MESSAGE_TIMEOUT, waited), timedelta(days=1))
        let_pass(wait - MINUTE)
        assert sweep().messages == 0
        let_pass(2 * MINUTE)
        assert sweep().messages == WINDOW
        waited += wait + MINUTE
        after.append(waited)

    assert sum(waited < timedelta(days=1) for waited in after) == 7
    assert len(after) == 14
    assert len(aws.messages()) == WINDOW * (1 + 14)


def test_after_a_claim_a_lost_message_counts_as_lost_as_soon_as_before(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    submit(client_of_merchandiser, 1)
    (message,) = aws.messages()
    for minutes in (16, 17, 40):
        let_pass(timedelta(minutes=minutes))
        assert sweep().messages == 1
    call(worker, "release", message, release(claim(worker, message).epoch, has_failed=True))
    aws.messages()

    let_pass(MESSAGE_TIMEOUT + SECOND)
    assert sweep().messages == 1

    assert aws.messages() == [message]


def test_a_lost_message_is_replaced_as_soon_as_sqs_accepts_it(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    submit(client_of_merchandiser, 1)
    (message,) = aws.messages()
    let_pass(MESSAGE_TIMEOUT + SECOND)
    reachable = settings.BULK_IMPORT
    queue_away(settings)
    with pytest.raises(CommandError):
        call_command("bulk_import_relay")
    settings.BULK_IMPORT = reachable

    assert sweep().messages == 1

    assert aws.messages() == [message]


def test_the_delayed_messages_of_a_paused_import_are_not_lost(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws
) -> None:
    """Without a message, no worker would find out that the endpoint is available again."""
    submit(client_of_merchandiser, 3)
    first, *rest = aws.messages()
    call(worker, "release", first, release(claim(worker, first).epoch, pause=PauseCode.ENDPOINT_AWAY.value))
    let_pass(timedelta(hours=1))

    assert sweep().messages == 0  # the delayed messages come back
    ImportJob.objects.update(paused_until=Now() - MESSAGE_TIMEOUT - SECOND)
    sweep()

    assert aws.messages() == [first, *rest]


@pytest.mark.parametrize(
    "pause",
    [
        {"pause_code": PauseCode.ENDPOINT_AWAY, "paused_until": SECOND},
        {"pause_code": PauseCode.MOST_ROWS_FAILED, "paused_at": timedelta(hours=24) + SECOND},
    ],
)
def test_the_messages_of_a_paused_import_are_lost_if_nobody_makes_the_next_attempt(
    client_of_merchandiser: APIClient, aws: Aws, pause: dict[str, Any]
) -> None:
    submit(client_of_merchandiser, 6)
    lost = aws.messages()
    times = {name: Now() - MESSAGE_TIMEOUT - ago for name, ago in pause.items() if name != "pause_code"}
    ImportJob.objects.update(status=JobStatus.PAUSED, pause_code=pause["pause_code"], **times)
    let_pass(MESSAGE_TIMEOUT + SECOND)

    sweep()
    sweep()

    assert aws.messages() == lost
    assert ImportChunk.objects.filter(status=ChunkStatus.PENDING).count() == 2


def test_an_import_that_has_ended_gets_no_message(client_of_merchandiser: APIClient, aws: Aws) -> None:
    submit(client_of_merchandiser, 1)
    aws.messages()
    ImportJob.objects.update(status=JobStatus.CANCELLED)
    let_pass(MESSAGE_TIMEOUT + SECOND)

    assert sweep().messages == 0
