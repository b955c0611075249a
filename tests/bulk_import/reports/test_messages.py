"""The message of a job, in English and in Portuguese."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone
from django.utils.translation import override

from bulk_import.models import PAUSE_REASONS, TERMINAL_STATUSES, ImportJob, JobStatus
from bulk_import.reports.message_texts import MESSAGES
from bulk_import.reports.messages import message, things
from bulk_import_wire.contract import PauseCode
from tests.bulk_import.reports.unsaved import unsaved_job

if TYPE_CHECKING:
    from pytest_django import Settings

OPEN_STATUSES = [status for status in JobStatus if status not in TERMINAL_STATUSES]
WITH_FAILURES = [JobStatus.PARTIALLY_SUCCEEDED, JobStatus.FAILED]


def test_every_status_has_a_message() -> None:
    """Fails for a new status without a message."""
    assert MESSAGES.keys() == set(JobStatus)


@pytest.mark.parametrize("status", JobStatus)
def test_every_message_is_made_of_sentences_and_names_the_number_of_products(status: JobStatus) -> None:
    text = message(unsaved_job(status, created=1200))

    assert "1,994 products" in text
    assert re.fullmatch(r"[A-Z0-9][^%]+\.", text)


@pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.PARTIALLY_SUCCEEDED, JobStatus.CANCELLED])
def test_the_message_of_an_incomplete_job_says_how_many_rows_were_created(status: JobStatus) -> None:
    assert "1,200" in message(unsaved_job(status, created=1200))


@pytest.mark.parametrize("status", OPEN_STATUSES)
def test_an_open_job_promises_an_email_only_if_the_submitter_has_an_address(status: JobStatus) -> None:
    promise = "We will email you when it is done."
    job = unsaved_job(status)
    assert promise not in message(job)

    job.submitter = get_user_model()(username="ann", email="")
    assert promise not in message(job)
    job.submitter.email = "ann@shop.example"
    assert message(job).endswith(promise)


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_a_job_that_has_ended_promises_no_email(status: JobStatus) -> None:
    job = unsaved_job(status)
    job.submitter = get_user_model()(username="ann", email="ann@shop.example")

    assert "email" not in message(job)


@pytest.mark.parametrize("status", WITH_FAILURES)
def test_a_job_with_failures_points_to_the_reasons(status: JobStatus) -> None:
    assert re.search(r"See the reasons .*below\.", message(unsaved_job(status)))


PAUSE_CASES = [
    (PauseCode.ENDPOINT_AWAY, "en", ["1,200 were created so far. We retry automatically."]),
    (PauseCode.ENDPOINT_BUSY, "en", ["1,200 were created so far. We retry automatically."]),
    (PauseCode.FORBIDDEN, "en", ["1,200 were created so far. We retry automatically."]),
    (PauseCode.STAFF, "en", ["1,200 were created so far. The import continues when staff resume it."]),
    (
        PauseCode.MOST_ROWS_FAILED,
        "en",
        ["Fix the cause and resume the import, or cancel it."],
    ),
    (PauseCode.MOST_ROWS_FAILED, "pt-br", ["está pausada porque", "1.200", "retome"]),
    (PauseCode.ENDPOINT_AWAY, "pt-br", ["está pausada porque", "1.200"]),
    (PauseCode.ENDPOINT_BUSY, "pt-br", ["está pausada porque", "1.200"]),
    (PauseCode.FORBIDDEN, "pt-br", ["está pausada porque", "1.200"]),
    (PauseCode.STAFF, "pt-br", ["está pausada porque", "1.200"]),
    *[
        (code, "en", ["1,200 were created so far. We retry automatically."])
        for code in (PauseCode.TOKEN_REJECTED, PauseCode.WRONG_ENDPOINT, PauseCode.WRONG_STATUS)
    ],
]


@pytest.mark.parametrize(("code", "language", "parts"), PAUSE_CASES)
def test_the_message_of_a_paused_job_has_the_reason(code: PauseCode, language: str, parts: list[str]) -> None:
    job = unsaved_job(JobStatus.PAUSED, created=1200)
    job.pause_code = code

    with override(language):
        text = message(job)
        assert str(PAUSE_REASONS[code]) in text
    assert all(part in text for part in parts)


def test_every_reason_for_a_pause_is_tested() -> None:
    """Fails for a new reason without a text."""
    assert PAUSE_REASONS.keys() == set(PauseCode) == {code for code, *_rest in PAUSE_CASES}


def test_numbers_have_the_thousands_separator_of_the_language() -> None:
    with override("pt-br"):
        assert "1.994" in message(unsaved_job())


def test_without_a_model_the_noun_is_rows(settings: Settings) -> None:
    """Also for a target that is no longer configured."""
    plain = {"create_url": "products:product-list", "serializer": "rest_framework.serializers.Serializer"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"plain": plain}}

    assert (things("plain", 2), things("products", 2)) == ("rows", "rows")
    assert things("plain", 1) == "row"


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (
            unsaved_job(JobStatus.PENDING, 1),
            "We received 1 product and will create it as soon as our queue is available.",
        ),
        (unsaved_job(JobStatus.QUEUED, 1), "We received 1 product and are about to create it."),
        (unsaved_job(JobStatus.PROCESSING, 1), "We received 1 product and are creating it."),
        (unsaved_job(JobStatus.SUCCEEDED, 1, created=1), "1 product was created."),
        (unsaved_job(JobStatus.FAILED, 1), "1 product was not created. See the reasons below."),
        (
            unsaved_job(JobStatus.PARTIALLY_SUCCEEDED, 3, created=1),
            "1 of 3 products was created. See the reasons for the others below.",
        ),
        (
            unsaved_job(JobStatus.PAUSED, 3, created=1),
            (
                f"The import of 3 products is paused because {PAUSE_REASONS[PauseCode.ENDPOINT_AWAY]}. "
                "1 was created so far. We retry automatically."
            ),
        ),
    ],
    ids=lambda value: value.status if isinstance(value, ImportJob) else "",
)
def test_one_row_has_a_message_in_the_singular(job: ImportJob, text: str) -> None:
    assert message(job) == text


def test_the_portuguese_message_has_a_singular_and_a_plural() -> None:
    job = unsaved_job(JobStatus.PARTIALLY_SUCCEEDED, 3, created=1)
    with override("pt-br"):
        assert message(job).startswith("Foi criado 1 de 3 ")
        job.created_count = 2
        assert message(job).startswith("Foram criados 2 de 3 ")


@pytest.mark.parametrize(("mode", "rehearsal"), [("undo", False), ("undo", True), ("create", True), ("upsert", True)])
def test_a_paused_or_cancelled_undo_or_rehearsal_says_so(mode: str, *, rehearsal: bool) -> None:
    def text(status: JobStatus, **fields: object) -> str:
        job = unsaved_job(status)
        job.mode, job.rehearsal = mode, rehearsal
        for name, value in fields.items():
            setattr(job, name, value)
        return message(job)

    paused = text(JobStatus.PAUSED)
    assert f"It is paused because {PAUSE_REASONS[PauseCode.ENDPOINT_AWAY]}. We retry automatically." in paused
    assert text(JobStatus.CANCELLED).endswith("It was cancelled before its end.")
    cancelling = text(JobStatus.PROCESSING, cancel_requested_at=timezone.now())
    assert cancelling.endswith("It is being cancelled.")


def test_an_undo_that_deleted_nothing_does_not_say_that_it_was_done() -> None:
    job = unsaved_job(JobStatus.FAILED)
    job.mode = "undo"

    assert message(job).startswith("The undo of an import has ended. None of the 1,994 products was deleted.")
