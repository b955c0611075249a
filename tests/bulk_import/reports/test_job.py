"""A job as the API shows it: its words, its numbers and its shape."""

from __future__ import annotations

import json
import math
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import override
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from bulk_import.models import PAUSE_REASONS, TERMINAL_STATUSES, ImportJob, JobStatus
from bulk_import.reports.job import (
    MAX_POLL_SECONDS,
    MESSAGES,
    MIN_POLL_SECONDS,
    entity_tag,
    eta_seconds,
    job_document,
    message,
    poll_after_seconds,
    rows_per_second,
    things,
)
from bulk_import_wire.contract import PauseCode

if TYPE_CHECKING:
    from pytest_django import Settings

OPEN_STATUSES = [status for status in JobStatus if status not in TERMINAL_STATUSES]

# The example of the design; a job may have fewer links.
KEYS = {
    *("id", "target", "status", "rows", "message", "counts", "problems", "created_at", "started_at", "finished_at"),
    *(
        "rows_per_second",
        "eta_seconds",
        "pause",
        "cancel_requested_at",
        "corrects",
        "links",
        "expires_at",
        "expired_at",
    ),
}
COUNTS = {"created", "rejected", "failed", "unprocessed", "pending"}
LINKS = {"self", "failures", "redrive", "retry", "cancel"}


def job(
    status: JobStatus = JobStatus.PROCESSING, rows: int = 1994, seconds: float | None = None, **counts: int
) -> ImportJob:
    """A job that is not stored, as `with_counts` gives it, `seconds` after its first claim."""
    now = timezone.now()
    made = ImportJob(target="products", status=status, rows=rows, created_at=now)
    if status == JobStatus.PAUSED:
        made.pause_code, made.paused_at, made.paused_until = PauseCode.ENDPOINT_AWAY, now, now + timedelta(seconds=30)
    if seconds is not None:
        made.started_at = now - timedelta(seconds=seconds)
    for outcome in ("created", "rejected", "failed", "unprocessed"):
        setattr(made, f"{outcome}_count", counts.get(outcome, 0))
    return made


def document(of: ImportJob) -> dict[str, Any]:
    return job_document(of, APIView().initialize_request(APIRequestFactory().get("/")))


def test_every_status_has_a_message() -> None:
    """A new one without its words fails this."""
    assert MESSAGES.keys() == set(JobStatus)


@pytest.mark.parametrize("status", JobStatus)
def test_every_message_is_a_sentence_that_says_how_many_of_what(status: JobStatus) -> None:
    text = message(job(status, created=1200))

    assert "1,994 products" in text
    assert re.fullmatch(r"[A-Z0-9][^%]+\.", text)


@pytest.mark.parametrize("status", [JobStatus.PAUSED, JobStatus.PARTIALLY_SUCCEEDED, JobStatus.CANCELLED])
def test_a_job_that_stopped_half_way_says_how_much_was_created(status: JobStatus) -> None:
    assert "1,200" in message(job(status, created=1200))


@pytest.mark.parametrize("status", OPEN_STATUSES)
def test_an_open_job_promises_a_mail_to_whom_it_can_be_sent(status: JobStatus) -> None:
    promise = "We will e-mail you when it is done."
    made = job(status)
    assert promise not in message(made)

    made.submitter = get_user_model()(username="ann", email="")
    assert promise not in message(made)
    made.submitter.email = "ann@shop.example"
    assert message(made).endswith(promise)


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_an_ended_job_promises_no_mail(status: JobStatus) -> None:
    made = job(status)
    made.submitter = get_user_model()(username="ann", email="ann@shop.example")

    assert "e-mail" not in message(made)


@pytest.mark.parametrize("status", [JobStatus.PARTIALLY_SUCCEEDED, JobStatus.FAILED])
def test_a_job_with_failures_says_where_to_look(status: JobStatus) -> None:
    assert "The failures tell why" in message(job(status))


PAUSE_CASES = [
    (PauseCode.ENDPOINT_AWAY, "en", "is paused because the create endpoint does not answer; 1,200 were"),
    (PauseCode.ENDPOINT_BUSY, "en", "is paused because the create endpoint is too busy; 1,200 were"),
    (
        PauseCode.FORBIDDEN,
        "en",
        "is paused because the submitter no longer has permission to create these rows; 1,200 were",
    ),
    (
        PauseCode.STAFF,
        "en",
        "is paused because a member of staff paused it; 1,200 were created so far. It goes on when",
    ),
    (PauseCode.STAFF, "pt-br", "está pausada porque alguém da equipe a pausou; 1.200 já"),
    (PauseCode.ENDPOINT_AWAY, "pt-br", "está pausada porque o endpoint que deve criar não responde; 1.200 já"),
    (PauseCode.ENDPOINT_BUSY, "pt-br", "está pausada porque o endpoint que deve criar está ocupado demais; 1.200 já"),
    (PauseCode.FORBIDDEN, "pt-br", "está pausada porque quem enviou não tem permissão para criar; 1.200 já"),
]


@pytest.mark.parametrize(("code", "language", "reason"), PAUSE_CASES)
def test_a_paused_job_says_why(code: PauseCode, language: str, reason: str) -> None:
    paused = job(JobStatus.PAUSED, created=1200)
    paused.pause_code = code

    with override(language):
        assert reason in message(paused)


def test_every_reason_for_a_pause_has_its_words() -> None:
    """A new one without its words fails this."""
    assert PAUSE_REASONS.keys() == set(PauseCode) == {code for code, *_words in PAUSE_CASES}


def test_the_document_of_a_paused_job_tells_why_since_when_and_until_when() -> None:
    paused = job(JobStatus.PAUSED)

    assert document(paused)["pause"] == {
        "code": "endpoint_away",
        "message": "the create endpoint does not answer",
        "since": paused.paused_at,
        "retry_at": paused.paused_until,
    }
    assert document(job(JobStatus.PROCESSING))["pause"] is None


def test_the_entity_tag_changes_with_the_pause() -> None:
    paused = job(JobStatus.PAUSED)
    before = entity_tag(document(paused))
    paused.paused_until = timezone.now() + timedelta(minutes=5)

    assert entity_tag(document(paused)) != before


def test_numbers_are_grouped_as_the_language_does() -> None:
    with override("pt-br"):
        assert "1.994" in message(job())


def test_things_of_a_target_without_a_model_are_rows(settings: Settings) -> None:
    """Also of a target that has gone from the settings."""
    plain = {"create_url": "products:product-list", "serializer": "rest_framework.serializers.Serializer"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"plain": plain}}

    assert (things("plain", 2), things("products", 2)) == ("rows", "rows")
    assert things("plain", 1) == "row"


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (job(JobStatus.PENDING, 1), "We received 1 product and will create it as soon as the queue takes it."),
        (job(JobStatus.QUEUED, 1), "We received 1 product and are about to create it."),
        (job(JobStatus.PROCESSING, 1), "We received 1 product and are creating it."),
        (job(JobStatus.SUCCEEDED, 1, created=1), "1 product was created."),
        (job(JobStatus.FAILED, 1), "1 product was not created. The failures tell why."),
        (
            job(JobStatus.PARTIALLY_SUCCEEDED, 3, created=1),
            "1 of 3 products was created. The failures tell why the others were not.",
        ),
        (
            job(JobStatus.PAUSED, 3, created=1),
            (
                "The import of 3 products is paused because the create endpoint does not answer; "
                "1 was created so far. It goes on by itself when that is over."
            ),
        ),
    ],
    ids=lambda value: value.status if isinstance(value, ImportJob) else "",
)
def test_one_is_not_told_as_many(made: ImportJob, text: str) -> None:
    assert message(made) == text


def test_one_and_many_differ_in_portuguese_too() -> None:
    made = job(JobStatus.PARTIALLY_SUCCEEDED, 3, created=1)
    with override("pt-br"):
        assert message(made).startswith("Foi criado 1 de 3 ")
        made.created_count = 2
        assert message(made).startswith("Foram criados 2 de 3 ")


def test_the_document_has_the_shape_of_the_design() -> None:
    shown = document(job(created=1200, rejected=3, seconds=4))

    assert shown.keys() == KEYS
    assert shown["counts"] == {"created": 1200, "rejected": 3, "failed": 0, "unprocessed": 0, "pending": 791}
    assert {"self", "failures"} <= shown["links"].keys() <= LINKS


def test_the_links_are_absolute_and_the_jobs_own() -> None:
    shown = document(job())
    path = reverse("bulk-import-job", kwargs={"target": "products", "job_id": shown["id"]})

    assert shown["links"]["self"] == f"http://testserver{path}"
    assert all(link.startswith(shown["links"]["self"]) for link in shown["links"].values() if link)


@pytest.mark.parametrize("status", JobStatus)
def test_the_document_of_any_status_is_json(status: JobStatus) -> None:
    shown = json.loads(json.dumps(document(job(status, seconds=3, created=5)), default=str))

    assert shown["status"] == status.value
    assert shown["counts"].keys() == COUNTS


@given(counts=st.lists(st.integers(0, 100_000), min_size=4, max_size=4), pending=st.integers(0, 100_000))
def test_the_counts_add_up_to_the_rows(counts: list[int], pending: int) -> None:
    created, rejected, failed, unprocessed = counts
    rows = sum(counts) + pending

    shown = job(rows=rows, created=created, rejected=rejected, failed=failed, unprocessed=unprocessed).counts

    assert sum(shown.values()) == rows
    assert shown["pending"] == pending


def test_before_the_first_claim_there_is_neither_rate_nor_eta() -> None:
    waiting = job(JobStatus.QUEUED)

    assert (rows_per_second(waiting), eta_seconds(waiting)) == (None, None)


def test_before_the_first_row_is_settled_there_is_neither_rate_nor_eta() -> None:
    started = job(seconds=5)

    assert (rows_per_second(started), eta_seconds(started)) == (None, None)


def test_a_clock_that_runs_behind_the_databases_gives_no_rate() -> None:
    assert rows_per_second(job(seconds=-1, created=5)) is None


def test_the_rate_is_of_all_that_is_settled() -> None:
    halfway = job(rows=1000, seconds=10, created=400, rejected=60, failed=30, unprocessed=10)

    assert rows_per_second(halfway) == pytest.approx(50.0, abs=0.2)
    assert eta_seconds(halfway) in {10, 11}


def test_the_rate_of_an_ended_job_is_that_of_its_own_time() -> None:
    ended = job(JobStatus.SUCCEEDED, rows=1000, seconds=3600, created=1000)
    assert ended.started_at
    ended.finished_at = ended.started_at + timedelta(seconds=10)

    assert rows_per_second(ended) == 100.0


def test_a_slow_job_has_an_eta_although_its_rate_rounds_to_nothing() -> None:
    assert eta_seconds(job(rows=11, seconds=1000, created=1)) in {10_000, 10_001}


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_an_ended_job_has_no_eta(status: JobStatus) -> None:
    assert eta_seconds(job(status, seconds=10, created=5)) is None


@given(
    status=st.sampled_from(JobStatus),
    rows=st.integers(1, 100_000),
    created=st.integers(0, 100_000),
    seconds=st.none() | st.floats(0, 1e7),
)
def test_whatever_the_job_rate_eta_and_poll_are_within_bounds(
    status: JobStatus,
    rows: int,
    created: int,
    seconds: float | None,
) -> None:
    shown = job(status, rows, seconds, created=min(created, rows))

    rate, eta = rows_per_second(shown), eta_seconds(shown)
    assert rate is None or (rate >= 0 and math.isfinite(rate))
    assert eta is None or eta >= 0
    assert MIN_POLL_SECONDS <= poll_after_seconds(shown) <= MAX_POLL_SECONDS


def test_polling_is_worth_it_after_a_tenth_of_the_time_left() -> None:
    assert poll_after_seconds(job(rows=1000, seconds=150, created=500)) in {14, 15}
    assert poll_after_seconds(job(rows=1000, seconds=1, created=999)) == MIN_POLL_SECONDS
    assert poll_after_seconds(job(rows=100_000, seconds=100, created=1)) == MAX_POLL_SECONDS


def test_the_entity_tag_stays_as_time_passes() -> None:
    shown = job(seconds=10, created=5)
    before = entity_tag(document(shown))
    assert shown.started_at
    shown.started_at -= timedelta(seconds=5)
    later = document(shown) | {"started_at": document(shown)["started_at"] + timedelta(seconds=5)}

    assert entity_tag(later) == before


@pytest.mark.parametrize(
    "change", [{"created_count": 6}, {"status": JobStatus.SUCCEEDED}, {"problems": [{"count": 1}]}]
)
def test_the_entity_tag_changes_with_the_job(change: dict[str, Any]) -> None:
    shown = job(seconds=10, created=5)
    before = entity_tag(document(shown))

    for name, value in change.items():
        setattr(shown, name, value)

    assert entity_tag(document(shown)) != before
