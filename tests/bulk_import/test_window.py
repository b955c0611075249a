"""At most CHUNKS_IN_FLIGHT chunks of a target are in flight, and whoever frees a place sends the next message."""

from __future__ import annotations

from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db.models.functions import Now
from rest_framework.test import APIClient

from bulk_import import operations
from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.models.chunk_columns import LOST_WORKER_DELAY
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.api.test_views import queue_away
from tests.bulk_import.conftest import (
    Aws,
    call,
    claim,
    claim_body,
    expire_lease,
    finish,
    make_user,
    post_rows,
    product,
    release,
)

if TYPE_CHECKING:
    from pytest_django import Settings

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

WINDOW = 4


@pytest.fixture(autouse=True)
def _window(settings: Settings, aws: Aws) -> None:
    """A window of four chunks, and chunks of one row."""
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "CHUNK_ROWS": 1, "CHUNKS_IN_FLIGHT": WINDOW}


@pytest.fixture
def ana(client_of_merchandiser: APIClient) -> APIClient:
    return client_of_merchandiser


@pytest.fixture
def bob(shop: None) -> APIClient:
    client = APIClient()
    client.force_login(make_user("bob", "add_product", "view_product"))
    return client


def submit(client: APIClient, prefix: str, rows: int) -> str:
    """Import rows, one in each chunk, and return the ID of the job."""
    answer = post_rows(client, [product(f"{prefix}{n}") for n in range(rows)])
    assert answer.status_code == 202
    return str(answer.json()["id"])


def end(worker: APIClient, message: ChunkMessage) -> None:
    """Process a message as a worker does whose rows are all rejected."""
    assert call(worker, "finish", message, finish(claim(worker, message).epoch, rejected=1)).status_code == 200


def claim_status(worker: APIClient, message: ChunkMessage) -> int:
    return int(call(worker, "claim", message, claim_body(message)).status_code)


def in_flight() -> int:
    return ImportChunk.objects.exclude(status__in=[ChunkStatus.PENDING, ChunkStatus.DONE, ChunkStatus.DEAD]).count()


def worker_message(number: int) -> ChunkMessage:
    return ImportChunk.objects.select_related("job").get(number=number).message()


def sweep() -> None:
    call_command("bulk_import_relay", stdout=StringIO())


def test_each_finish_sends_the_next_message_until_every_chunk_is_done(
    ana: APIClient, worker: APIClient, aws: Aws
) -> None:
    submit(ana, "A", 7)
    queue = aws.messages()
    assert [message.first_index for message in queue] == [0, 1, 2, 3]

    finished = []
    while queue:
        end(worker, message := queue.pop(0))
        finished.append(message.first_index)
        queue += aws.messages()
        assert in_flight() == len(queue) <= WINDOW

    assert finished == [0, 1, 2, 3, 4, 5, 6]
    assert ImportJob.objects.get().status == JobStatus.FAILED  # every row was rejected


@pytest.mark.parametrize("verb", ["finish", "release"])
def test_the_next_message_does_not_wait_for_a_slow_mail_server(
    ana: APIClient, worker: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    submit(ana, "A", 6)
    first, *_rest = aws.messages()
    sent_before: list[ChunkMessage] = []
    monkeypatch.setattr("bulk_import.outbox.relay.send_due_emails", lambda *_, **__: sent_before.extend(aws.messages()))

    epoch = claim(worker, first).epoch
    body = finish(epoch, rejected=1) if verb == "finish" else release(epoch, has_failed=True)
    assert call(worker, verb, first, body).status_code == 200

    assert [message.first_index for message in sent_before] == [WINDOW]


@pytest.mark.parametrize("is_same_user", [True, False])
def test_a_small_import_overtakes_ten_large_ones(
    ana: APIClient, bob: APIClient, worker: APIClient, aws: Aws, *, is_same_user: bool
) -> None:
    large = [submit(ana, f"{n}-", 20) for n in range(10)]
    ImportJob.objects.update(rows=50_000)  # so that it matters how large they are, and not how slow this test is
    queue = aws.messages()
    small = submit(ana if is_same_user else bob, "small", 2)

    jobs = []
    while small not in jobs or not ImportJob.objects.get(pk=small).is_terminal:
        end(worker, message := queue.pop(0))
        jobs.append(message.job_id)
        queue += aws.messages()

    # The four chunks that are in flight end first. Then Bob has a place until his import ends. Ana's small import has
    # the next place too, but its second chunk waits until each of her other imports had one.
    assert jobs.index(small) == WINDOW
    assert len(jobs) <= (WINDOW + 10 + WINDOW if is_same_user else WINDOW + WINDOW)
    assert not ImportJob.objects.filter(pk__in=large, finished_at__isnull=False).exists()


def test_the_document_of_a_waiting_import_says_how_many_are_ahead(
    ana: APIClient, bob: APIClient, worker: APIClient, aws: Aws
) -> None:
    for n in range(3):
        submit(ana, f"{n}-", 3)
    first = aws.messages()
    waiting = submit(bob, "B", 2)

    document = bob.get(f"/products/bulk/{waiting}").json()
    assert (document["status"], document["imports_ahead"], document["eta_seconds"]) == ("pending", 2, None)
    assert document["message"].startswith("We received 2 products. 2 imports are ahead of yours.")
    translated = bob.get("/products/bulk", headers={"Accept-Language": "pt-br"}).json()["results"][0]
    assert translated["message"].startswith("Recebemos 2 produtos. Há 2 importações na frente da sua.")

    end(worker, first[0])
    document = bob.get(f"/products/bulk/{waiting}").json()
    assert (document["status"], document["imports_ahead"]) == ("queued", None)


def test_a_list_of_waiting_imports_reads_the_window_once(
    ana: APIClient, django_assert_max_num_queries: Any, aws: Aws
) -> None:
    for n in range(8):
        submit(ana, f"{n}-", 5)

    with django_assert_max_num_queries(8):
        documents = ana.get("/products/bulk").json()["results"]
    assert [document["imports_ahead"] for document in documents] == [*range(7, 0, -1), None]


def test_staff_move_an_import_to_the_front(ana: APIClient, bob: APIClient, worker: APIClient, aws: Aws) -> None:
    submit(ana, "A", 20)
    queue = aws.messages()
    submit(bob, "B", 5)
    last = ImportJob.objects.get(pk=submit(ana, "C", 5))
    staff = make_user("staff", is_staff=True)

    assert [operations.move_to_front(last, staff), operations.move_to_front(last, staff)] == [True, False]

    jobs = []
    for message in queue:
        end(worker, message)
        jobs += [sent.job_id for sent in aws.messages()]
    assert jobs == [str(last.pk)] * WINDOW
    (event,) = last.events.all()
    assert (event.kind, event.actor) == ("moved_to_front", staff)


@pytest.mark.parametrize("change", ["cancel", "pause", "resume", "retry"])
def test_a_cancel_pause_resume_or_retry_has_one_window_of_messages_at_most(
    ana: APIClient, worker: APIClient, merchandiser: Any, aws: Aws, change: str
) -> None:
    """Before there was a window, each of these had to wait for one message of each of the thirty chunks."""
    submit(ana, "A", 30)
    job = ImportJob.objects.get()
    assert len(aws.messages()) == WINDOW
    if change == "retry":
        operations.cancel(job)
        queue = aws.messages()
        while queue:
            call(worker, "finish", queue[0], finish(claim(worker, queue.pop(0)).epoch, unprocessed=1))
            queue += aws.messages()
        assert ImportJob.objects.get().status == JobStatus.CANCELLED
    if change == "resume":
        operations.pause(job, merchandiser)

    getattr(operations, change)(job, merchandiser)

    assert len(aws.messages()) == (0 if change == "pause" else WINDOW)
    assert in_flight() == WINDOW


def test_the_places_of_a_paused_import_are_free_for_others(
    ana: APIClient, bob: APIClient, worker: APIClient, merchandiser: Any, aws: Aws
) -> None:
    paused = submit(ana, "A", 10)
    first, *_rest = aws.messages()
    submit(bob, "B", 10)
    granted = claim(worker, first)
    assert aws.messages() == []

    call(worker, "release", first, release(granted.epoch, pause=PauseCode.ENDPOINT_AWAY.value))

    assert len(aws.messages()) == WINDOW
    assert ImportChunk.objects.exclude(job=paused).filter(status=ChunkStatus.QUEUED).count() == WINDOW


def test_after_a_pause_the_delayed_messages_of_the_import_occupy_no_places(
    ana: APIClient, bob: APIClient, worker: APIClient, aws: Aws
) -> None:
    """They may be delayed for five more minutes. Meanwhile, a small import would wait."""
    submit(ana, "A", 10)
    first, *delayed = aws.messages()
    call(worker, "release", first, release(claim(worker, first).epoch, pause=PauseCode.ENDPOINT_AWAY.value))
    assert {claim_status(worker, message) for message in delayed} == {409}
    ImportJob.objects.update(paused_until=Now())
    small = submit(bob, "B", 1)
    end(worker, aws.messages()[0])

    end(worker, first)

    assert ImportJob.objects.get(pk=small).is_terminal
    assert [message.first_index for message in aws.messages()] == [1, 2, 3, 4]


def test_an_import_that_stays_paused_is_given_up_chunk_by_chunk(
    ana: APIClient, worker: APIClient, aws: Aws, settings: Settings
) -> None:
    """Its pending chunks have no message that could find out that the pause has lasted too long."""
    submit(ana, "A", 7)
    queue = aws.messages()
    epoch = claim(worker, queue[0]).epoch
    call(worker, "release", queue[0], release(epoch, pause=PauseCode.ENDPOINT_AWAY.value))
    ImportJob.objects.update(paused_at=Now() - timedelta(hours=settings.BULK_IMPORT.get("MAX_PAUSE_HOURS", 24) + 1))

    for message in queue:
        granted = claim(worker, message)
        assert granted.give_up
        call(worker, "dead", message, finish(granted.epoch, unprocessed=1))
    for _chunk in range(3):
        (message,) = aws.messages()
        call(worker, "dead", message, finish(claim(worker, message).epoch, unprocessed=1))

    assert ImportJob.objects.get().status == JobStatus.FAILED


def test_a_failed_delivery_does_not_block_the_window(
    ana: APIClient, bob: APIClient, worker: APIClient, aws: Aws
) -> None:
    """The message of such a chunk is delayed for up to ten minutes."""
    submit(ana, "A", 10)
    failing = aws.messages()
    submit(bob, "B", 10)

    for message in failing:
        epoch = claim(worker, message).epoch
        call(worker, "release", message, release(epoch, has_failed=True))

    sent = [message.job_id for message in aws.messages()]
    assert sorted(map(sent.count, set(sent))) == [2, 2]


def test_an_import_whose_deliveries_all_fail_has_two_windows_of_messages_at_most(
    ana: APIClient, worker: APIClient, aws: Aws
) -> None:
    """For example, S3 is unavailable. Otherwise, all of its chunks would come back at the same time afterwards."""
    submit(ana, "A", 30)
    failed = []

    while queue := aws.messages():
        for message in queue:
            epoch = claim(worker, message).epoch
            call(worker, "release", message, release(epoch, has_failed=True))
            failed.append(message.first_index)

    assert failed == list(range(2 * WINDOW))
    ImportChunk.objects.update(retry_at=None)
    end(worker, worker_message(0))
    assert [message.first_index for message in aws.messages()] == [2 * WINDOW]


def test_the_sweep_sends_the_message_of_a_process_that_was_killed_after_a_finish(
    ana: APIClient, worker: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SystemExit stands for the kill: the finish is committed, and the next message is not sent."""
    submit(ana, "A", 6)
    first, *_rest = aws.messages()
    granted = claim(worker, first)

    def killed(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr("bulk_import.outbox.relay.send_messages", killed)
        with pytest.raises(SystemExit):
            call(worker, "finish", first, finish(granted.epoch, rejected=1))
    assert ImportChunk.objects.unsent().count() == 1
    sweep()
    assert aws.messages() == []  # its own process could still be sending
    ImportChunk.objects.unsent().update(queued_at=Now() - timedelta(minutes=1))

    sweep()
    assert [message.first_index for message in aws.messages()] == [WINDOW]
    sweep()
    assert aws.messages() == []


def test_the_sweep_fills_the_place_of_a_worker_that_died(ana: APIClient, worker: APIClient, aws: Aws) -> None:
    submit(ana, "A", 6)
    first, *_rest = aws.messages()
    claim(worker, first)
    expire_lease(first)

    sweep()

    assert [message.first_index for message in aws.messages()] == [WINDOW]


def test_the_chunk_of_a_killed_worker_gets_a_new_message_and_not_only_after_the_visibility_timeout(
    ana: APIClient, worker: APIClient, aws: Aws
) -> None:
    """The message of the killed worker stays invisible. Its lease gets the time to be renewed by a slow worker."""
    job_id = submit(ana, "A", 1)
    (message,) = aws.messages()
    old = claim(worker, message).epoch
    document = ana.get(f"/products/bulk/{job_id}").json()
    assert document["worker_lost"] is None
    expire_lease(message)
    sweep()
    assert aws.messages() == []  # this worker may only be slow
    document = ana.get(f"/products/bulk/{job_id}").json()
    lost_at = ImportChunk.objects.get().lease_expires_at
    assert datetime.fromisoformat(document["worker_lost"]["resumes_at"]) == lost_at + LOST_WORKER_DELAY
    assert "A worker was lost. Its rows resume at " in document["message"]
    ImportChunk.objects.update(lease_expires_at=Now() - LOST_WORKER_DELAY - timedelta(seconds=1))

    sweep()

    assert aws.messages() == [message]
    assert call(worker, "heartbeat", message, {"epoch": old}).status_code == 409
    assert claim(worker, message).epoch == old + 1
    assert ImportChunk.objects.get().failed_deliveries == 1
    assert ana.get(f"/products/bulk/{job_id}").json()["worker_lost"] is None


def test_while_sqs_is_unavailable_no_more_chunks_than_the_window_are_reserved(
    ana: APIClient, aws: Aws, settings: Settings
) -> None:
    reachable = settings.BULK_IMPORT
    queue_away(settings)
    document = post_rows(ana, [product(str(n)) for n in range(6)]).json()
    assert (document["status"], document["imports_ahead"]) == ("pending", None)
    assert "as soon as our queue is available" in document["message"]
    settings.BULK_IMPORT = reachable
    ImportChunk.objects.unsent().update(queued_at=Now() - timedelta(days=1))

    sweep()

    assert len(aws.messages()) == WINDOW
    assert ImportJob.objects.get().status == JobStatus.QUEUED
