"""A job as JSON: the same document in the response to POST and GET, in the list of jobs and in webhooks.

The serializers render the document and also describe it in the OpenAPI schema: their docstrings and help texts are
part of the public documentation, and the name of a class without "Serializer" is the name of its component.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from bulk_import.conf import conf
from bulk_import.models import RETAINED_DATA, TERMINAL_STATUSES, EventKind, ImportJob, JobStatus
from bulk_import.models.event import KINDS_WITHOUT_WEBHOOK
from bulk_import.reports.links import ImportJobLinksSerializer
from bulk_import.reports.messages import imports_ahead, message
from bulk_import.reports.problems import ImportJobProblemSerializer
from bulk_import.reports.reading import BulkImportReadingSerializer
from bulk_import.reports.shared_fields import SharedFields

MIN_POLL_SECONDS = 1
"""Shortest time between two requests for a job: its counts change about once a second."""

MAX_POLL_SECONDS = 30
"""Longest time between two requests for a job, so that a client learns of the end soon."""

VOLATILE_FIELDS = frozenset({"rows_per_second", "eta_seconds"})
"""Fields of a job's document that change merely because time passes."""

WEBHOOK_TYPES = [
    f"import.{name}"
    for name in sorted({*TERMINAL_STATUSES, *(set(EventKind) - KINDS_WITHOUT_WEBHOOK - {EventKind.ENDED})})
]
"""Types of webhooks: the end of a job is reported under the job's status, everything else under the event's kind."""


class TimestampField(serializers.DateTimeField):
    """A time. It stays a datetime, so that the renderer writes it in UTC whatever TIME_ZONE and DATETIME_FORMAT are."""

    def to_representation(self, value: Any) -> Any:
        return value


class StatusField(serializers.ChoiceField):
    """The status of a job. It is a component of its own in the OpenAPI schema; see `api.openapi`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(JobStatus.choices, **options)


class ImportJobCountsSerializer(SharedFields, serializers.Serializer[dict[str, int]]):
    """The number of rows with each outcome. `pending` rows have no outcome yet. The sum is always `rows`."""

    created = serializers.IntegerField(min_value=0)
    updated = serializers.IntegerField(min_value=0)
    unchanged = serializers.IntegerField(min_value=0)
    deleted = serializers.IntegerField(min_value=0)
    rejected = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0)
    unprocessed = serializers.IntegerField(min_value=0)
    pending = serializers.IntegerField(min_value=0)


class ImportJobPauseSerializer(serializers.Serializer[ImportJob]):
    """Why no row can be created now. If `retry_at` is null, the import continues when it is resumed."""

    code = serializers.CharField(source="pause_code")
    message = serializers.CharField(source="get_pause_code_display")
    since = TimestampField(source="paused_at")
    retry_at = TimestampField(source="paused_until", allow_null=True, help_text="When we retry automatically.")

    def get_attribute(self, instance: ImportJob) -> ImportJob | None:
        """Return the job, because the pause has no object of its own. Return None if the job is not paused."""
        return instance if instance.is_paused else None


class ImportJobLostWorkerSerializer(serializers.Serializer[ImportJob]):
    """A worker stopped without a word. Another worker continues with its rows. None of them is lost."""

    since = TimestampField(source="worker_lost_at", help_text="When it last reported.")
    resumes_at = TimestampField(source="worker_resumes_at", help_text="When its rows are sent to another worker.")

    def get_attribute(self, instance: ImportJob) -> ImportJob | None:
        """Return the job, because the loss has no object of its own. Return None if no worker is lost."""
        return instance if instance.worker_resumes_at else None


class ImportJobSerializer(SharedFields, serializers.Serializer[Any]):
    """One accepted import. Load a job with `for_reports()` before you render it."""

    id = serializers.UUIDField()
    target = serializers.CharField()
    mode = serializers.ChoiceField(["create", "update", "upsert", "undo"], source="api_mode")
    on_existing = serializers.ChoiceField(
        ["update", "skip", "stop"],
        allow_null=True,
        help_text="With the mode `upsert`: what happens to a row whose object exists. Otherwise null.",
    )
    rehearsal = serializers.BooleanField(help_text="Every row was tried and rolled back. The counts are a forecast.")
    status = StatusField()
    rows = serializers.IntegerField(min_value=1)
    message = serializers.SerializerMethodField(help_text="A text for people, in the language of the request.")
    counts = ImportJobCountsSerializer()
    problems = ImportJobProblemSerializer(many=True)
    reading = BulkImportReadingSerializer()
    file_name = serializers.CharField(help_text="Name of the uploaded file, or an empty text if you sent none.")
    created_at = TimestampField()
    started_at = TimestampField(allow_null=True)
    finished_at = TimestampField(allow_null=True)
    rows_per_second = serializers.SerializerMethodField()
    eta_seconds = serializers.SerializerMethodField(
        help_text="Estimated seconds until the import ends; null before its first rows have an outcome."
    )
    imports_ahead = serializers.SerializerMethodField(
        help_text="While the import waits for its turn: how many other imports come before it. Otherwise null."
    )
    pause = ImportJobPauseSerializer(allow_null=True)
    worker_lost = ImportJobLostWorkerSerializer(allow_null=True)
    cancel_requested_at = TimestampField(allow_null=True)
    corrects = serializers.UUIDField(
        source="corrects_id", allow_null=True, help_text="The import whose failed rows this one sends again."
    )
    corrected_by = serializers.UUIDField(allow_null=True, help_text="The newest import that corrects this one.")
    undoes = serializers.UUIDField(
        source="undoes_id", allow_null=True, help_text="The import whose objects this job deletes."
    )
    undone_by = serializers.UUIDField(
        allow_null=True, help_text="The last job that deletes what this import has created."
    )
    runs = serializers.UUIDField(
        source="runs_id", allow_null=True, help_text="The rehearsal whose rows this one imports."
    )
    run_by = serializers.UUIDField(allow_null=True, help_text="The import of the rows of this rehearsal.")
    expires_at = serializers.SerializerMethodField(
        help_text="After this time the import cannot be retried, and its failures may be deleted."
    )
    expired_at = serializers.SerializerMethodField(help_text="When rows or failures of the import were first deleted.")
    links = ImportJobLinksSerializer(source="*")

    def get_message(self, job: ImportJob) -> str:
        return message(job)

    def get_rows_per_second(self, job: ImportJob) -> float | None:
        return rows_per_second(job)

    def get_eta_seconds(self, job: ImportJob) -> int | None:
        return eta_seconds(job)

    def get_imports_ahead(self, job: ImportJob) -> int | None:
        return imports_ahead(job)

    def get_expires_at(self, job: ImportJob) -> datetime | None:
        return expires_at(job)

    def get_expired_at(self, job: ImportJob) -> datetime | None:
        return min(job.expired.values(), default=None)


class ImportJobWebhookSerializer(serializers.Serializer[dict[str, Any]]):
    """What happened to an import, and the import at the time of sending. Its links are paths."""

    type = serializers.ChoiceField(WEBHOOK_TYPES)
    timestamp = TimestampField(help_text="When it happened.")
    data: Any = ImportJobSerializer()  # DRF moves fields out of the class, so `Serializer.data` still works


def entity_tag(document: dict[str, Any]) -> str:
    """Return the weak ETag of a job's document. It ignores the VOLATILE_FIELDS."""
    stable = {name: value for name, value in document.items() if name not in VOLATILE_FIELDS}
    digest = hashlib.sha256(json.dumps(stable, default=str, sort_keys=True).encode())
    return f'W/"{digest.hexdigest()[:32]}"'


def rows_per_second(job: ImportJob) -> float | None:
    """Return how many rows per second got an outcome since the job or its last retry started. None if unknown.

    While a job runs that was paused, only the time since its last pause counts.
    """
    rate = _rate(job)
    return round(rate, 1) if rate else None


def eta_seconds(job: ImportJob) -> int | None:
    """Return the seconds until the job ends at its present rate; None if unknown, if it is paused or has ended."""
    rate = _rate(job)
    return None if job.is_terminal or job.is_paused or not rate else math.ceil(job.counts["pending"] / rate)


def _rate(job: ImportJob) -> float | None:
    if not job.started_at:
        return None
    start, rows = job.started_at, job.finished_rows - job.finished_rows_before
    if job.resumed_at and job.resumed_at > start and not job.is_terminal:
        start, rows = job.resumed_at, job.tried_since_resume
    # The clocks of this machine and of the database may differ, so the difference may be negative.
    seconds = ((job.finished_at or timezone.now()) - start).total_seconds()
    return rows / seconds if seconds > 0 else None


def poll_after_seconds(job: ImportJob) -> int:
    """Return the seconds after which a client should ask again, within limits.

    This is a tenth of the time left. For a job that waits for its turn, it is one second for each import before it.
    """
    seconds = (eta_seconds(job) or 0) // 10 or imports_ahead(job) or 0
    return min(max(seconds, MIN_POLL_SECONDS), MAX_POLL_SECONDS)


def expires_at(job: ImportJob) -> datetime | None:
    """Return the first time at which data of the job expires or has expired.

    None if the job is open or its data never expires.
    """
    if job.expired:
        return min(job.expired.values())
    days = days_kept().values()
    return job.finished_at + timedelta(days=min(days)) if job.finished_at and days else None


def days_kept() -> dict[str, int]:
    """Return the retention in days of each kind of data and of the "job" itself.

    A kind that is kept forever is left out. No data is kept longer than its job.
    """
    kinds = {kind: getattr(conf(), f"{kind}_retention_days") for kind in (*RETAINED_DATA, "job")}
    return {kind: min(filter(None, (days, kinds["job"]))) for kind, days in kinds.items() if days or kinds["job"]}
