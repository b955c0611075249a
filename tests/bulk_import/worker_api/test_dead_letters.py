"""A chunk whose message ran out of deliveries is reported as dead, and a redrive runs it again."""

from __future__ import annotations

import uuid
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob, JobStatus
from bulk_import.operations import redrive
from bulk_import_wire.contract import DEAD_LETTER
from bulk_import_wire.problems import problem
from tests.bulk_import.conftest import Aws, call, claim, finish, in_threads, make_user, post_rows, product, record
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings

    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)


def status_and_code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def report_dead(worker: APIClient, message: ChunkMessage, *created: int) -> dict[str, Any]:
    """Report the chunk as dead, as the dead-letter function does. Returns the report."""
    epoch = claim(worker, message).epoch
    record(message, *created)
    left = message.row_count - len(created)
    problems = [{**problem(None, DEAD_LETTER, "Given up.", message.first_index), "count": left}]
    key = f"{message.job_id}/{message.first_index}-{epoch}.jsonl"
    report = finish(epoch, unprocessed=left, problems=problems, failures_key=key)
    answer = call(worker, "dead", message, report)
    assert (answer.status_code, answer.json()) == (200, {"status": "dead"})
    return report


def store_failures(aws: Aws, messages: list[ChunkMessage]) -> None:
    """Store the failures files that `report_dead` names. The email about the end reads them."""
    for message in messages:
        aws.s3.put_object(Bucket="bulk-import-failures", Key=f"{message.job_id}/{message.first_index}-1.jsonl")


def complete(worker: APIClient, message: ChunkMessage) -> None:
    """Create the remaining rows of the chunk and finish it."""
    granted = claim(worker, message)
    known = {index for first, last in granted.created for index in range(first, last + 1)}
    record(message, *(set(range(message.first_index, message.first_index + message.row_count)) - known))
    assert call(worker, "finish", message, finish(granted.epoch)).status_code == 200


def the_job() -> ImportJob:
    job: ImportJob = ImportJob.objects.for_reports().get()
    return job


def events() -> list[str]:
    return list(ImportJob.objects.get().events.values_list("kind", flat=True))


def redrive_path() -> str:
    return f"/products/bulk/{ImportJob.objects.get().pk}/redrive"


# --- dead


def test_the_remaining_rows_of_a_dead_chunk_are_unprocessed(worker: APIClient, messages: list[ChunkMessage]) -> None:
    report_dead(worker, messages[0], 1)

    chunk = ImportChunk.objects.get(pk=messages[0].chunk_id)
    assert (chunk.status, chunk.created, chunk.unprocessed) == (ChunkStatus.DEAD, 1, 2)
    assert the_job().status == JobStatus.PROCESSING
    assert the_job().counts == counts(created=1, unprocessed=2, pending=1)
    assert [entry["code"] for entry in the_job().problems] == ["dead_letter"]
    assert events() == ["dead_lettered"]


def test_a_job_with_a_dead_chunk_ends_when_its_other_chunks_have_ended(
    worker: APIClient, messages: list[ChunkMessage]
) -> None:
    report_dead(worker, messages[0], 1)
    complete(worker, messages[1])

    assert the_job().status == JobStatus.PARTIALLY_SUCCEEDED
    assert the_job().counts == counts(created=2, unprocessed=2)
    assert events() == ["dead_lettered", "ended"]


def test_one_email_reports_all_dead_chunks(worker: APIClient, client_of_merchandiser: APIClient, aws: Aws) -> None:
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(12)])
    messages = aws.messages()
    store_failures(aws, messages)
    for message in messages[:3]:
        report_dead(worker, message)

    assert events() == ["dead_lettered"]
    (sent,) = mail.outbox
    assert sent.subject == "3 of 12 products could not be processed"
    assert "Given up. (3 rows, first at index 0)" in sent.body
    complete(worker, messages[3])
    assert [sent.subject for sent in mail.outbox[1:]] == ["3 of 12 products were created"]


def test_a_job_that_ends_with_a_dead_chunk_is_reported_in_one_email(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    store_failures(aws, messages)
    complete(worker, messages[0])
    report_dead(worker, messages[1])

    assert [sent.subject for sent in mail.outbox] == ["3 of 4 products were created"]
    assert not the_job().events.filter(deliveries__channel="email").exists()


def test_a_dead_chunk_cannot_be_claimed_extended_or_released(worker: APIClient, messages: list[ChunkMessage]) -> None:
    report = report_dead(worker, messages[0])

    assert status_and_code(call(worker, "claim", messages[0])) == (410, "closed")
    for verb, body in [
        ("heartbeat", {"epoch": report["epoch"]}),
        ("release", {"epoch": report["epoch"], "failures_key": "", "pause": "", "retry_after_seconds": 0}),
    ]:
        assert status_and_code(call(worker, verb, messages[0], body)) == (409, "stale_epoch")


def test_a_heartbeat_for_a_finished_chunk_is_refused(worker: APIClient, messages: list[ChunkMessage]) -> None:
    complete(worker, messages[0])

    assert status_and_code(call(worker, "heartbeat", messages[0], {"epoch": 1})) == (409, "stale_epoch")


def test_a_repeated_report_for_an_ended_chunk_has_no_effect(worker: APIClient, messages: list[ChunkMessage]) -> None:
    report = report_dead(worker, messages[0])
    before = ImportChunk.objects.values().get(pk=messages[0].chunk_id)

    for verb in ("dead", "finish"):
        answer = call(worker, verb, messages[0], report)
        assert (answer.status_code, answer.json()) == (200, {"status": "dead"})
    assert ImportChunk.objects.values().get(pk=messages[0].chunk_id) == before
    assert the_job().problems[0]["count"] == 3
    assert events() == ["dead_lettered"]
    assert len(mail.outbox) == 1


def test_a_finished_chunk_cannot_be_reported_dead(worker: APIClient, messages: list[ChunkMessage]) -> None:
    """The last delivery finished the chunk, but the message reached the dead-letter queue nevertheless."""
    complete(worker, messages[0])
    answer = call(worker, "dead", messages[0], finish(1))

    assert answer.json() == {"status": "done"}
    assert events() == []


@pytest.mark.parametrize("verb", ["finish", "dead"])
@pytest.mark.parametrize(
    "counts",
    [{"failed": 2}, {"failed": 4}, {"failed": 4, "rejected": -1}, {"failed": -1, "unprocessed": 4}],
)
def test_counts_that_do_not_add_up_do_not_end_the_chunk(
    worker: APIClient, messages: list[ChunkMessage], verb: str, counts: dict[str, int]
) -> None:
    body = finish(claim(worker, messages[0]).epoch, **counts)

    assert status_and_code(call(worker, verb, messages[0], body)) == (409, "ledger_disagrees")
    assert ImportChunk.objects.get(pk=messages[0].chunk_id).status == ChunkStatus.PROCESSING


# --- redrive


def test_a_redriven_job_ends_with_correct_counts(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient, merchandiser: Any
) -> None:
    report_dead(worker, messages[0], 1)
    complete(worker, messages[1])
    answer = client_of_merchandiser.post(redrive_path())

    assert (answer.status_code, answer.json()["status"], answer.json()["problems"]) == (202, "queued", [])
    assert answer.json()["counts"] == counts(created=2, pending=2)
    assert (answer.json()["finished_at"], events()) == (None, ["dead_lettered", "ended", "redriven"])
    assert the_job().events.get(kind="redriven").actor == merchandiser
    (again,) = aws.messages()
    assert again == messages[0]

    complete(worker, again)
    assert the_job().status == JobStatus.SUCCEEDED
    assert the_job().counts == counts(created=4)
    assert events()[3:] == ["ended"]
    assert mail.outbox[-1].subject == "All 4 products were created"


def test_the_claim_of_a_redriven_chunk_has_the_earlier_results(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient
) -> None:
    report = report_dead(worker, messages[0], 1)
    client_of_merchandiser.post(redrive_path())
    granted = claim(worker, messages[0])

    assert (granted.epoch, granted.created, granted.failures_key) == (2, [[1, 1]], report["failures_key"])


def test_a_redriven_chunk_can_be_dead_again(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient
) -> None:
    for _ in range(2):
        report_dead(worker, messages[0])
        client_of_merchandiser.post(redrive_path())

    assert events() == ["dead_lettered", "redriven"] * 2
    assert len(mail.outbox) == 2


def test_a_cancelled_job_is_still_cancelled_after_its_dead_chunk_was_redriven(
    client_of_merchandiser: APIClient, worker: APIClient, messages: list[ChunkMessage], aws: Aws
) -> None:
    store_failures(aws, messages)
    cancelled, dead = messages
    report_dead(worker, dead)
    client_of_merchandiser.delete(f"/products/bulk/{dead.job_id}")
    call(worker, "finish", cancelled, finish(claim(worker, cancelled).epoch, unprocessed=cancelled.row_count))
    client_of_merchandiser.post(redrive_path())

    complete(worker, dead)

    assert (the_job().status, the_job().counts["unprocessed"]) == (JobStatus.CANCELLED, cancelled.row_count)


def test_a_second_redrive_has_no_effect(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient
) -> None:
    report_dead(worker, messages[0])
    first, second = (client_of_merchandiser.post(redrive_path()) for _ in range(2))

    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["counts"] == second.json()["counts"]
    assert events() == ["dead_lettered", "redriven"]
    assert len(aws.messages()) == 1


def test_simultaneous_redrives_run_the_chunks_once(worker: APIClient, messages: list[ChunkMessage], aws: Aws) -> None:
    report_dead(worker, messages[0])
    report_dead(worker, messages[1])

    redriven = in_threads(*[lambda: redrive(ImportJob.objects.get())] * 4)

    assert sorted(redriven) == [0, 0, 0, 2]
    assert events() == ["dead_lettered", "ended", "redriven"]
    assert the_job().counts["pending"] == 4
    assert {message.chunk_id for message in aws.messages()} == {message.chunk_id for message in messages}


def test_a_job_without_dead_chunks_is_not_redriven(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient
) -> None:
    claim(worker, messages[0])
    complete(worker, messages[1])

    assert client_of_merchandiser.post(redrive_path()).status_code == 200
    assert (events(), aws.messages(), the_job().status) == ([], [], JobStatus.PROCESSING)


def test_a_redrive_removes_only_the_problems_of_the_dead_chunks(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient
) -> None:
    """The other problems stay, counted once."""
    refused = problem("category", "does_not_exist", "No such category.", 3)
    report_dead(worker, messages[0])
    report = finish(claim(worker, messages[1]).epoch, rejected=1, problems=[refused])
    call(worker, "finish", messages[1], report)
    answer = client_of_merchandiser.post(redrive_path())

    assert answer.json()["problems"] == [refused]
    report_dead(worker, messages[0])
    assert [(entry["code"], entry["count"]) for entry in the_job().problems] == [
        ("dead_letter", 3),
        ("does_not_exist", 1),
    ]


def test_a_redrive_cancels_the_pending_email_about_the_end(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, client_of_merchandiser: APIClient, settings: Settings
) -> None:
    settings.EMAIL_BACKEND = "missing.Backend"  # so the email stays pending
    for message in messages:
        report_dead(worker, message)
    assert the_job().events.filter(deliveries__channel="email").count() == 1
    client_of_merchandiser.post(redrive_path())

    assert not the_job().events.filter(deliveries__channel="email").exists()


def test_another_users_job_cannot_be_redriven(worker: APIClient, messages: list[ChunkMessage]) -> None:
    report_dead(worker, messages[0])
    other_user = APIClient()
    other_user.force_login(make_user("rival", "add_product"))

    assert status_and_code(other_user.post(redrive_path())) == (404, "not_found")
    assert status_and_code(other_user.post(f"/products/bulk/{uuid.uuid4()}/redrive")) == (404, "not_found")
    assert status_and_code(APIClient().post(redrive_path())) == (401, "not_authenticated")
    assert events() == ["dead_lettered"]


def test_a_user_who_lost_the_permission_to_create_cannot_redrive(
    worker: APIClient, messages: list[ChunkMessage], merchandiser: Any, client_of_merchandiser: APIClient
) -> None:
    report_dead(worker, messages[0])
    merchandiser.user_permissions.clear()

    assert status_and_code(client_of_merchandiser.post(redrive_path())) == (403, "permission_denied")
    assert events() == ["dead_lettered"]


def test_the_command_redrives_a_job_once(worker: APIClient, messages: list[ChunkMessage], aws: Aws) -> None:
    for message in messages:
        report_dead(worker, message)
    output = StringIO()
    for _ in range(2):
        call_command("bulk_import_redrive", str(the_job().pk), stdout=output)

    assert output.getvalue().splitlines() == ["2 chunks redriven", "0 chunks redriven"]
    assert len(aws.messages()) == 2
    assert the_job().events.get(kind="redriven").actor is None
    assert the_job().status == JobStatus.QUEUED


def test_the_command_reports_an_unknown_job() -> None:
    with pytest.raises(CommandError, match=f"There is no job {uuid.UUID(int=4)}"):
        call_command("bulk_import_redrive", str(uuid.UUID(int=4)))


def test_the_relay_sends_the_redriven_chunks_when_the_process_is_killed_before_sending(
    worker: APIClient, messages: list[ChunkMessage], aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SystemExit stands for the kill."""
    report_dead(worker, messages[0])

    def killed(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("bulk_import.outbox.relay.send_messages", killed)
        with pytest.raises(SystemExit):
            redrive(the_job())
    assert aws.messages() == []
    ImportChunk.objects.unsent().update(queued_at="2026-01-01T00:00Z")  # so that the relay sends its message

    call_command("bulk_import_relay", stdout=StringIO())
    assert aws.messages() == [messages[0]]
