"""The documents of the public API as components of the OpenAPI schema, each with an example.

The serializers describe only; `representation` and `views` write the documents. The tests hold both together.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from bulk_import.models import TERMINAL_STATUSES, EventKind, JobStatus
from bulk_import_wire.contract import Outcome

Document = serializers.Serializer[Any]

WEBHOOK_TYPES = sorted({*TERMINAL_STATUSES, *EventKind} - {EventKind.ENDED})


# A component of its own, so that another "status" of the monolith keeps the name it has.
@extend_schema_field({"type": "string", "enum": [str(value) for value in JobStatus]}, component_name="ImportJobStatus")
class StatusField(serializers.CharField):
    pass


@extend_schema_serializer(component_name="ImportJobCounts")
class CountsSerializer(Document):
    """Rows by outcome; `pending` have none yet. Their sum is always `rows`."""

    created = serializers.IntegerField(min_value=0)
    rejected = serializers.IntegerField(min_value=0)
    failed = serializers.IntegerField(min_value=0)
    unprocessed = serializers.IntegerField(min_value=0)
    pending = serializers.IntegerField(min_value=0)


@extend_schema_serializer(component_name="ImportJobProblem")
class ProblemSerializer(Document):
    """Rows that were not created for the same reason."""

    field = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField(min_value=1)
    first_index = serializers.IntegerField(min_value=0)


@extend_schema_serializer(component_name="ImportJobLinks")
class LinksSerializer(Document):
    self = serializers.URLField()
    failures = serializers.URLField(allow_null=True)
    retry = serializers.URLField(allow_null=True, help_text="`POST` there; null while there is nothing to retry.")
    redrive = serializers.URLField(allow_null=True)
    cancel = serializers.URLField(allow_null=True, help_text="`DELETE` there; null when it is too late.")


@extend_schema_serializer(component_name="ImportJobPause")
class PauseSerializer(Document):
    """Why no row can be created now. The import goes on by itself, or, without `retry_at`, when staff let it."""

    code = serializers.CharField()
    message = serializers.CharField()
    since = serializers.DateTimeField()
    retry_at = serializers.DateTimeField(allow_null=True)


@extend_schema_serializer(component_name="ImportJob")
class JobSerializer(Document):
    """One accepted import."""

    id = serializers.UUIDField()
    target = serializers.CharField()
    status = StatusField()
    rows = serializers.IntegerField(min_value=1)
    message = serializers.CharField(help_text="For people, in the language of the request.")
    counts = CountsSerializer()
    problems = ProblemSerializer(many=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    rows_per_second = serializers.FloatField(allow_null=True, min_value=0)
    eta_seconds = serializers.IntegerField(allow_null=True, min_value=0)
    pause = PauseSerializer(allow_null=True)
    cancel_requested_at = serializers.DateTimeField(allow_null=True)
    corrects = serializers.UUIDField(allow_null=True, help_text="The import whose failures these are, mended.")
    expires_at = serializers.DateTimeField(
        allow_null=True, help_text="From then on it cannot run again, and its failures may be gone."
    )
    expired_at = serializers.DateTimeField(allow_null=True, help_text="Since when that is so.")
    links = LinksSerializer()


@extend_schema_serializer(component_name="ImportJobWebhook")
class WebhookSerializer(Document):
    """What happened to an import, and the import as it stands when this is sent; its links are paths."""

    type = serializers.ChoiceField([f"import.{what}" for what in WEBHOOK_TYPES])
    timestamp = serializers.DateTimeField(help_text="When it happened.")
    data = JobSerializer()  # type: ignore[assignment] # Serializer.data is never asked for here


@extend_schema_serializer(component_name="ImportJobPage")
class JobPageSerializer(Document):
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = JobSerializer(many=True)


@extend_schema_serializer(component_name="BulkImportRowError")
class RowErrorSerializer(Document):
    """What is wrong with one field of one row, or with one parameter."""

    index = serializers.IntegerField(min_value=0, required=False, help_text="0-based place of the row.")
    line = serializers.IntegerField(min_value=1, required=False, help_text="Of the file, for CSV and JSON Lines.")
    field = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()
    first_index = serializers.IntegerField(
        min_value=0, required=False, help_text="The earlier row with the same value, for `duplicate`."
    )


@extend_schema_serializer(component_name="ImportJobFailure")
class FailureSerializer(Document):
    """A row that was not created, and why."""

    index = serializers.IntegerField(min_value=0, help_text="0-based place of the row.")
    outcome = serializers.ChoiceField([str(outcome) for outcome in Outcome if outcome != Outcome.CREATED])
    status = serializers.IntegerField(allow_null=True, help_text="What the create endpoint answered.")
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment] # Serializer.errors is never asked for here
    attempts = serializers.IntegerField(min_value=0, help_text="Calls of the create endpoint.")
    at = serializers.DateTimeField()
    row = serializers.JSONField(help_text="As it was sent.")


@extend_schema_serializer(component_name="BulkImportError")
class ErrorSerializer(Document):
    """The shape of every error."""

    code = serializers.CharField(help_text="For programs.")
    message = serializers.CharField(help_text="For people, in the language of the request.")
    errors = RowErrorSerializer(many=True, required=False, help_text="The first of them.")  # type: ignore[assignment] # Serializer.errors is never asked for here
    error_count = serializers.IntegerField(min_value=1, required=False, help_text="All of them.")
    invalid_rows = serializers.IntegerField(min_value=1, required=False)


@extend_schema_serializer(component_name="BulkImportDryRun")
class DryRunSerializer(Document):
    """What an import would say of these rows."""

    message = serializers.CharField()
    rows = serializers.IntegerField(min_value=1)
    valid_rows = serializers.IntegerField(min_value=0)
    invalid_rows = serializers.IntegerField(min_value=0)
    error_count = serializers.IntegerField(min_value=0)
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment] # Serializer.errors is never asked for here


ROW_ERROR = {"index": 17, "field": "price", "code": "required", "message": "This field is required."}
INVALID_ROWS = {
    "code": "invalid_rows",
    "message": "1 of 1994 rows is not valid, so nothing was imported. Correct this row and send the file again.",
    "errors": [ROW_ERROR],
    "error_count": 1,
    "invalid_rows": 1,
}
DRY_RUN = {
    "message": "1993 of 1994 rows are valid. Nothing was imported: this was a dry run.",
    "rows": 1994,
    "valid_rows": 1993,
    "invalid_rows": 1,
    "error_count": 1,
    "errors": [ROW_ERROR],
}
URL = "https://shop.example/products/bulk/6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55"
JOB = {
    "id": "6bb4a9f6-58b4-4b1c-9d0e-1f1f4a7a3c55",
    "target": "products",
    "status": "processing",
    "rows": 1994,
    "message": "We received 1,994 products and are creating them. We will e-mail you when it is done.",
    "counts": {"created": 1200, "rejected": 3, "failed": 0, "unprocessed": 0, "pending": 791},
    "problems": [
        {
            "field": "category",
            "code": "does_not_exist",
            "message": "Object with slug=kayaks does not exist.",
            "count": 3,
            "first_index": 17,
        }
    ],
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:01Z",
    "finished_at": None,
    "rows_per_second": 310.5,
    "eta_seconds": 3,
    "pause": None,
    "cancel_requested_at": None,
    "corrects": None,
    "expires_at": None,
    "expired_at": None,
    "links": {"self": URL, "failures": f"{URL}/failures", "retry": None, "redrive": f"{URL}/redrive", "cancel": URL},
}
JOB_PAGE = {"next": None, "previous": None, "results": [JOB]}
FAILURE = {
    "index": 17,
    "outcome": "rejected",
    "status": 400,
    "errors": [{"field": "category", "code": "does_not_exist", "message": "Object with slug=kayaks does not exist."}],
    "attempts": 1,
    "at": "2026-01-31T12:00:02.123+00:00",
    "row": {"sku": "KAYAK-1", "category": "kayaks"},
}
FAILURE_TABLE = (
    "index,outcome,HTTP status,reasons,sku,category,other fields\r\n"
    "17,rejected,400,category: Object with slug=kayaks does not exist.,KAYAK-1,kayaks,\r\n"
)
