"""A job's document in the API: its shape, its numbers and its entity tag."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from bulk_import.models import PAUSE_REASONS, TERMINAL_STATUSES, ImportJob, JobStatus
from bulk_import.reports.job import (
    MAX_POLL_SECONDS,
    MIN_POLL_SECONDS,
    ImportJobSerializer,
    entity_tag,
    eta_seconds,
    poll_after_seconds,
    rows_per_second,
)
from bulk_import_wire.contract import Outcome, PauseCode
from tests.bulk_import.reports.unsaved import unsaved_job

KEYS = {
    *(
        "id",
        "target",
        "mode",
        "on_existing",
        "rehearsal",
        "status",
        "rows",
        "message",
        "counts",
        "problems",
        "reading",
        "file_name",
        "created_at",
        "started_at",
        "finished_at",
    ),
    *(
        "rows_per_second",
        "eta_seconds",
        "imports_ahead",
        "pause",
        "worker_lost",
        "cancel_requested_at",
        "corrects",
        "corrected_by",
        "runs",
        "run_by",
        "undoes",
        "undone_by",
        "links",
        "expires_at",
        "expired_at",
    ),
}
COUNTS = {*Outcome, "pending"}
LINKS = {"self", "results", "failures", "redrive", "retry", "resume", "run", "correct", "undo", "cancel"}


def document(job: ImportJob) -> dict[str, Any]:
    request = APIView().initialize_request(APIRequestFactory().get("/"))
    rendered: dict[str, Any] = ImportJobSerializer(job, context={"request": request}).data
    return rendered


def test_a_paused_job_has_the_reason_the_start_and_the_end_of_the_pause() -> None:
    paused = unsaved_job(JobStatus.PAUSED)

    assert document(paused)["pause"] == {
        "code": "endpoint_away",
        "message": str(PAUSE_REASONS[PauseCode.ENDPOINT_AWAY]),
        "since": paused.paused_at,
        "retry_at": paused.paused_until,
    }
    assert document(unsaved_job(JobStatus.PROCESSING))["pause"] is None


def test_the_entity_tag_changes_with_the_pause() -> None:
    paused = unsaved_job(JobStatus.PAUSED)
    before = entity_tag(document(paused))
    paused.paused_until = timezone.now() + timedelta(minutes=5)

    assert entity_tag(document(paused)) != before


def test_the_document_has_the_documented_fields() -> None:
    shown = document(unsaved_job(created=1200, rejected=3, seconds=4))

    assert shown.keys() == KEYS
    assert shown["counts"] == {
        "created": 1200,
        "updated": 0,
        "unchanged": 0,
        "deleted": 0,
        "rejected": 3,
        "failed": 0,
        "unprocessed": 0,
        "pending": 791,
    }
    assert shown["links"].keys() == LINKS


def test_the_links_are_absolute_urls_of_the_job() -> None:
    shown = document(unsaved_job())
    path = f"/products/bulk/{shown['id']}"

    assert shown["links"]["self"] == f"http://testserver{path}"
    assert all(link.startswith(shown["links"]["self"]) for link in shown["links"].values() if link)


@pytest.mark.parametrize("status", JobStatus)
def test_the_document_can_be_rendered_in_every_status(status: JobStatus) -> None:
    shown = json.loads(json.dumps(document(unsaved_job(status, seconds=3, created=5)), default=str))

    assert shown["status"] == status.value
    assert shown["counts"].keys() == COUNTS


@given(counts=st.lists(st.integers(0, 100_000), min_size=4, max_size=4), pending=st.integers(0, 100_000))
def test_the_counts_add_up_to_the_number_of_rows(counts: list[int], pending: int) -> None:
    created, rejected, failed, unprocessed = counts
    rows = sum(counts) + pending

    counted = unsaved_job(rows=rows, created=created, rejected=rejected, failed=failed, unprocessed=unprocessed).counts

    assert sum(counted.values()) == rows
    assert counted["pending"] == pending


def test_before_the_job_is_started_rate_and_eta_are_unknown() -> None:
    waiting = unsaved_job(JobStatus.QUEUED)

    assert (rows_per_second(waiting), eta_seconds(waiting)) == (None, None)


def test_before_the_first_outcome_rate_and_eta_are_unknown() -> None:
    started = unsaved_job(seconds=5)

    assert (rows_per_second(started), eta_seconds(started)) == (None, None)


def test_a_clock_behind_the_databases_clock_gives_no_rate() -> None:
    assert rows_per_second(unsaved_job(seconds=-1, created=5)) is None


def test_the_rate_counts_every_row_with_an_outcome() -> None:
    halfway = unsaved_job(rows=1000, seconds=10, created=400, rejected=60, failed=30, unprocessed=10)

    assert rows_per_second(halfway) == pytest.approx(50.0, abs=0.2)
    assert eta_seconds(halfway) in {10, 11}


def test_the_rate_of_an_ended_job_stops_at_its_end() -> None:
    ended = unsaved_job(JobStatus.SUCCEEDED, rows=1000, seconds=3600, created=1000)
    assert ended.started_at
    ended.finished_at = ended.started_at + timedelta(seconds=10)

    assert rows_per_second(ended) == 100.0


def test_a_slow_job_has_an_eta_even_if_its_rate_rounds_to_zero() -> None:
    assert eta_seconds(unsaved_job(rows=11, seconds=1000, created=1)) in {10_000, 10_001}


def test_the_eta_after_a_pause_is_that_of_the_time_since_the_pause() -> None:
    resumed = unsaved_job(rows=1000, seconds=3600, created=600)
    resumed.resumed_at, resumed.tried_since_resume = timezone.now() - timedelta(seconds=10), 100

    assert rows_per_second(resumed) == pytest.approx(10.0, abs=0.1)
    assert eta_seconds(resumed) in {40, 41}
    resumed.status = JobStatus.PAUSED
    assert eta_seconds(resumed) is None
    resumed.status = JobStatus.PROCESSING
    resumed.started_at = timezone.now() - timedelta(seconds=5)  # a retry started after the pause
    assert eta_seconds(resumed) in {3, 4}


@pytest.mark.parametrize("status", sorted(TERMINAL_STATUSES))
def test_an_ended_job_has_no_eta(status: JobStatus) -> None:
    assert eta_seconds(unsaved_job(status, seconds=10, created=5)) is None


@given(
    status=st.sampled_from(JobStatus),
    rows=st.integers(1, 100_000),
    created=st.integers(0, 100_000),
    seconds=st.none() | st.floats(0, 1e7),
)
def test_rate_eta_and_poll_interval_are_always_within_limits(
    status: JobStatus,
    rows: int,
    created: int,
    seconds: float | None,
) -> None:
    shown = unsaved_job(status, rows, seconds, created=min(created, rows))

    rate, eta = rows_per_second(shown), eta_seconds(shown)
    assert rate is None or (rate >= 0 and math.isfinite(rate))
    assert eta is None or eta >= 0
    assert MIN_POLL_SECONDS <= poll_after_seconds(shown) <= MAX_POLL_SECONDS


def test_the_poll_interval_is_a_tenth_of_the_time_left_within_limits() -> None:
    assert poll_after_seconds(unsaved_job(rows=1000, seconds=150, created=500)) in {14, 15}
    assert poll_after_seconds(unsaved_job(rows=1000, seconds=1, created=999)) == MIN_POLL_SECONDS
    assert poll_after_seconds(unsaved_job(rows=100_000, seconds=100, created=1)) == MAX_POLL_SECONDS


@pytest.mark.parametrize(("ahead", "seconds"), [(0, MIN_POLL_SECONDS), (7, 7), (500, MAX_POLL_SECONDS)])
def test_a_client_polls_less_often_the_more_imports_are_ahead(ahead: int, seconds: int) -> None:
    waiting = unsaved_job(JobStatus.PENDING)
    waiting.imports_ahead = ahead

    assert poll_after_seconds(waiting) == seconds


def test_the_entity_tag_does_not_change_as_time_passes() -> None:
    shown = unsaved_job(seconds=10, created=5)
    before = entity_tag(document(shown))
    assert shown.started_at
    shown.started_at -= timedelta(seconds=5)
    later = document(shown) | {"started_at": document(shown)["started_at"] + timedelta(seconds=5)}

    assert entity_tag(later) == before


@pytest.mark.parametrize(
    "change", [{"created_count": 6}, {"status": JobStatus.SUCCEEDED}, {"problems": [{"count": 1}]}]
)
def test_the_entity_tag_changes_with_the_job(change: dict[str, Any]) -> None:
    shown = unsaved_job(seconds=10, created=5)
    before = entity_tag(document(shown))

    for name, value in change.items():
        setattr(shown, name, value)

    assert entity_tag(document(shown)) != before
