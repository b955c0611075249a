"""The examples in the OpenAPI schema."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from rest_framework import serializers
from rest_framework.renderers import JSONRenderer

from bulk_import.models import ImportJob, JobStatus
from bulk_import.reports.job import ImportJobSerializer
from bulk_import_wire.contract import Outcome
from bulk_import_wire.problems import problem

STARTED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)

SAMPLES: dict[type[serializers.Field[Any, Any, Any, Any]], Any] = {
    serializers.BooleanField: True,
    serializers.IntegerField: 1,
    serializers.PrimaryKeyRelatedField: 1,
    serializers.FloatField: 1.5,
    serializers.DecimalField: "19.90",
    serializers.DateTimeField: "2026-01-31T12:00:00Z",
    serializers.DateField: "2026-01-31",
    serializers.EmailField: "name@example.com",
    serializers.URLField: "https://example.com/",
}


def job(target: str) -> dict[str, Any]:
    """Return the document of a job that has ended. The document of an open job would change from day to day."""
    reason = problem("category", "does_not_exist", "There is no category “kayaks”.", index=17)
    ended = ImportJob(
        id=UUID("6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55"),
        target=target,
        status=JobStatus.PARTIALLY_SUCCEEDED,
        rows=1994,
        problems=[{**reason, "count": 3}],
        created_at=STARTED_AT,
        started_at=STARTED_AT,
        finished_at=STARTED_AT + timedelta(seconds=6),
    )
    ended.annotate_as_new()
    ended.totals = dict.fromkeys(map(str, Outcome), 0) | {"created": 1991, "rejected": 3}
    document: dict[str, Any] = json.loads(JSONRenderer().render(ImportJobSerializer(ended).data))
    return document


def table(row: dict[str, Any]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([row.keys(), row.values()])
    return file.getvalue()


def row(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """Return a row with the required fields."""
    return {name: sample(field) for name, field in serializer.fields.items() if field.required and not field.read_only}


def sample(field: Any) -> Any:
    """Return a value of the field's type, or the field's name for text and unknown types."""
    if isinstance(field, serializers.ChoiceField):
        return next(iter(field.choices), "")
    value = next((value for kind, value in SAMPLES.items() if isinstance(field, kind)), field.field_name)
    return value[: field.max_length] if isinstance(value, str) and getattr(field, "max_length", None) else value
