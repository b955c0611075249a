"""The public API in a monolith's OpenAPI schema; imported only where drf-spectacular is installed.

Each target is described with its own serializer. The worker API is no part of the schema.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from django.urls import resolve
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    OpenApiWebhook,
    extend_schema,
)
from rest_framework import serializers

from bulk_import.api import openapi_components as components
from bulk_import.api.parameters import MAX_PAGE_SIZE
from bulk_import.conf import conf
from bulk_import.intake.idempotency import MAX_KEY_CHARACTERS
from bulk_import.intake.recipients import MAX_ADDRESSES
from bulk_import.models import NOTIFY_NOBODY, JobStatus

if TYPE_CHECKING:
    from bulk_import.api.views import TargetView
    from bulk_import.conf import Target

Schema = dict[str, Any]
HEADER: Final = "header"
QUERY: Final = "query"
NDJSON = "application/x-ndjson"
STRING: Schema = {"type": "string"}
KEY_PATTERN = r"^[ -~]*[!#-~][ -~]*$"  # printable ASCII, and not only blanks and quotes: see `idempotency`
ATOM = r"[-!#$%&'*+/=?^_`{}|~0-9A-Za-z]+"  # between the dots of a mailbox: see Django's EmailValidator
SECONDS: Schema = {"type": "integer", "minimum": 1}
ANY_JOB = str(UUID(int=0))

ERRORS = {
    400: ("The request or its rows are not valid; nothing was imported.", components.INVALID_ROWS),
    401: ("There are no credentials, or not the right ones.", "not_authenticated"),
    403: ("This user may not do that.", "permission_denied"),
    404: ("There is no such job, page or failure for this user.", "not_found"),
    410: ("What this needs is no longer kept; see `expires_at` of the job.", "expired"),
    411: ("A form came without its Content-Length.", "length_required"),
    413: ("The body, a row or the number of rows is over a limit.", "body_too_large"),
    415: ("The format or its content coding is not one that we take.", "unsupported_media_type"),
    422: ("The Idempotency-Key was used for other content.", "idempotency_key_reused"),
    429: ("Too many requests, open jobs or rows; try again after Retry-After seconds.", "quota_exceeded"),
    503: ("Our storage is not available; try again after Retry-After seconds.", "unavailable"),
}
"""What an error status means, and an example: a whole body, or the code of one."""


class DescribedTarget(OpenApiViewExtension):  # type: ignore[no-untyped-call] # registers itself
    """Gives the views of the public API their schema, and tells them which target their path stands for."""

    target_class = "bulk_import.api.views.TargetView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        operations = OPERATIONS[self.target.__name__]

        class DescribedView(self.target):  # type: ignore[misc, name-defined] # only known at run time
            schema = operations()

            def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
                self.kwargs = resolve(request.path.replace("{job_id}", ANY_JOB)).kwargs
                return super().initialize_request(request, *args, **kwargs)

        return DescribedView


class TargetSchema(AutoSchema):
    """Base: what the operations of a target have in common."""

    names: dict[str, str]
    """The last part of the operation id, by method."""
    summaries: dict[str, str]
    errors: dict[str, tuple[int, ...]]

    @property
    def import_target(self) -> Target:
        return cast("TargetView", self.view).target

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation: Schema | None = super().get_operation(*args, **kwargs)
        if operation and "requestBody" in operation:
            operation["requestBody"]["required"] = True
        return operation

    def get_operation_id(self) -> str:
        return f"{self.import_target.name}_bulk_{self.names[self.method]}"

    def get_tags(self) -> list[str]:
        return [f"{self.import_target.name} bulk import"]

    def get_summary(self) -> str:
        return self.summaries[self.method]

    def get_description(self) -> str:  # type: ignore[override] # as drf-spectacular has it
        return ""

    def get_override_parameters(self) -> list[Any]:
        statuses: list[int] = [status for status in (429, 503) if status in self.errors[self.method]]
        return [response_header("Retry-After", "Seconds to wait.", statuses, SECONDS)] if statuses else []

    def get_response_serializers(self) -> Any:
        return {**self.answers(), **{status: error_answer(status) for status in self.errors[self.method]}}

    def answers(self) -> dict[Any, Any]:
        """What is answered when all goes well."""
        raise NotImplementedError


class JobsSchema(TargetSchema):
    names = {"GET": "list", "POST": "create"}
    summaries = {"GET": "Your imports, newest first", "POST": "Import many rows"}
    errors = {"GET": (400, 401, 403, 404), "POST": (400, 401, 403, 404, 411, 413, 415, 422, 429, 503)}

    def get_description(self) -> str:  # type: ignore[override] # as above
        if self.method == "GET":
            return "Only the jobs that you sent yourself."
        return (
            "Rows are validated, stored and created one by one in the background. The answer is a job: ask for it at "
            "`Location`, every `Retry-After` seconds. The same Idempotency-Key with the same content is one job."
        )

    def get_override_parameters(self) -> list[Any]:
        if self.method == "GET":
            return [
                OpenApiParameter("status", str, QUERY, enum=JobStatus.values),
                OpenApiParameter("page_size", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_SIZE}, QUERY),
                OpenApiParameter("cursor", str, QUERY, description="From the links `next` and `previous`."),
            ]
        return [
            OpenApiParameter(
                "on_invalid",
                {**STRING, "enum": ["reject", "skip"], "default": "reject"},
                QUERY,
                description="With invalid rows: `reject` the whole import, or `skip` them and import the others.",
            ),
            OpenApiParameter(
                "dry_run", {"type": "boolean", "default": False}, QUERY, description="Judge the rows, store nothing."
            ),
            OpenApiParameter(
                "corrects", UUID, QUERY, description="`id` of your import whose failures these are, mended."
            ),
            OpenApiParameter(
                "notify",
                {**STRING, "pattern": notify_pattern()},
                QUERY,
                description="`none` for no mail at all; or whom to mail beside you, addresses with commas between.",
            ),
            OpenApiParameter(
                "Idempotency-Key",
                {**STRING, "minLength": 1, "maxLength": MAX_KEY_CHARACTERS, "pattern": KEY_PATTERN},
                HEADER,
                required=conf().require_idempotency_key,
                description="Any text of your own, such as a UUID.",
            ),
            OpenApiParameter("Content-Encoding", str, HEADER, enum=["identity", "gzip"], description="Not for forms."),
            response_header("Location", "Where the job is.", [202], {**STRING, "format": "uri"}),
            response_header("Retry-After", "Seconds to wait.", [202, 429, 503], SECONDS),
        ]

    def get_request_serializer(self) -> Any:
        serializer = self.import_target.serializer_class()
        item = self.resolve_serializer(serializer, "request").ref
        rows = {"type": "array", "items": item, "minItems": 1, "maxItems": conf().max_rows}
        row = sample_row(serializer)
        form = {"type": "object", "properties": {"file": {**STRING, "format": "binary"}}, "required": ["file"]}
        text = {**STRING, "minLength": 1}
        return {
            "application/json": described(rows, "An array of rows. A decimal may also be a number.", [row]),
            NDJSON: described(text, "JSON Lines: a row a line.", json.dumps(row) + "\n"),
            "text/csv": described(text, "A header row, then a row a line; an empty cell is left out.", as_csv(row)),
            "multipart/form-data": described(
                form,
                "One file, .json, .jsonl or .csv; the field's name is free.",
                encoding={"file": {"contentType": f"application/json, {NDJSON}, text/csv"}},
            ),
        }

    def answers(self) -> dict[Any, Any]:
        if self.method == "GET":
            return {200: answer(components.JobPageSerializer, "A page of jobs.", components.JOB_PAGE)}
        return {
            200: answer(components.DryRunSerializer, "With `dry_run`: nothing was stored.", components.DRY_RUN),
            202: answer(components.JobSerializer, "The rows are stored and will be created.", components.JOB),
        }


class JobSchema(TargetSchema):
    names = {"GET": "retrieve", "DELETE": "cancel"}
    summaries = {"GET": "One import as it stands", "DELETE": "Cancel an import"}
    errors = {"GET": (401, 403, 404), "DELETE": (401, 403, 404)}

    def get_description(self) -> str:  # type: ignore[override] # as above
        if self.method == "GET":
            return ""
        return "No further row is created. What had been created stays; the rest is `unprocessed` and can be retried."

    def get_override_parameters(self) -> list[Any]:
        if self.method == "DELETE":
            return [job_id(), response_header("Retry-After", "Seconds until it is worth asking.", [202], SECONDS)]
        return [
            job_id(),
            OpenApiParameter("If-None-Match", str, HEADER, description="The last ETag: 304 when nothing changed."),
            response_header("ETag", "Of the job as it stands.", [200, 304], STRING),
            response_header(
                "Retry-After", "Seconds until it is worth asking again.", [200, 304], SECONDS, required=False
            ),
        ]

    def answers(self) -> dict[Any, Any]:
        if self.method == "DELETE":
            return {
                200: answer(components.JobSerializer, "It had ended; nothing changed.", components.JOB),
                202: answer(components.JobSerializer, "Calls in flight settle, then it has ended.", components.JOB),
            }
        return {
            200: answer(components.JobSerializer, "The job.", components.JOB),
            304: OpenApiResponse(description="The job stands as in your ETag."),
        }


class ReopenSchema(TargetSchema):
    """Base: rows run again."""

    def get_override_parameters(self) -> list[Any]:
        return [job_id(), *super().get_override_parameters()]

    def get_request_serializer(self) -> Any:
        return None

    def answers(self) -> dict[Any, Any]:
        return {
            200: answer(components.JobSerializer, "There are no such rows; nothing changed.", components.JOB),
            202: answer(components.JobSerializer, "The rows run again.", components.JOB),
        }


class RetrySchema(ReopenSchema):
    names = {"POST": "retry"}
    summaries = {"POST": "Run again all that was not created, once the cause was mended"}
    errors = {"POST": (401, 403, 404, 410, 429)}

    def get_description(self) -> str:  # type: ignore[override] # as above
        return "Of an import that has ended. Nothing that was created is touched."


class RedriveSchema(ReopenSchema):
    names = {"POST": "redrive"}
    summaries = {"POST": "Run again the rows that were given up, once the cause was mended"}
    errors = {"POST": (401, 403, 404, 410)}

    def get_description(self) -> str:  # type: ignore[override] # as above
        return "Also of an import that has not ended. Rows that were rejected or failed stay so."


class FailuresSchema(TargetSchema):
    names = {"GET": "failures"}
    summaries = {"GET": "The rows that were not created, with reasons"}
    errors = {"GET": (400, 401, 403, 404, 410, 503)}

    def get_description(self) -> str:  # type: ignore[override] # as above
        return "In the order that was sent. A CSV, and the rows alone, can be mended and posted again."

    def get_override_parameters(self) -> list[Any]:
        return [
            job_id(),
            OpenApiParameter("format", str, QUERY, enum=["ndjson", "csv"], description="Instead of `Accept`."),
            OpenApiParameter("part", str, QUERY, enum=["rows"], description="The rows alone, as they were sent."),
            response_header(
                "Content-Disposition", "A name for the file of a CSV or of rows.", [200], STRING, required=False
            ),
            *super().get_override_parameters(),
        ]

    def get_response_serializers(self) -> Any:
        errors = {(status, "application/json"): error_answer(status) for status in self.errors[self.method]}
        return {**self.answers(), **errors}

    def answers(self) -> dict[Any, Any]:
        lines = answer(STRING, "JSON Lines, or a CSV for spreadsheets.", json.dumps(components.FAILURE) + "\n")
        table = answer(STRING, "JSON Lines, or a CSV for spreadsheets.", components.FAILURE_TABLE)
        return {(200, NDJSON): lines, (200, "text/csv"): table}


class FailureSchema(TargetSchema):
    names = {"GET": "failure"}
    summaries = {"GET": "One row that was not created, with reasons"}
    errors = {"GET": (401, 403, 404, 410, 503)}

    def get_override_parameters(self) -> list[Any]:
        index = OpenApiParameter(
            "index", {"type": "integer", "minimum": 0}, "path", description="0-based place of the row in what was sent."
        )
        return [job_id(), index, *super().get_override_parameters()]

    def answers(self) -> dict[Any, Any]:
        return {200: answer(components.FailureSerializer, "The failure.", components.FAILURE)}


JOB_WEBHOOK = OpenApiWebhook(
    "importJob",
    extend_schema(
        summary="Something happened to an import",
        description="By the Standard Webhooks specification; answer 2xx within ten seconds.",
        request=components.WebhookSerializer,
        responses={204: OpenApiResponse(description="It was taken; anything else but 2xx, and it comes again.")},
        tags=["bulk import"],
    ),
)
"""For `SPECTACULAR_SETTINGS["WEBHOOKS"]`; such a schema is OpenAPI 3.1."""


OPERATIONS: dict[str, type[TargetSchema]] = {
    "ImportJobsView": JobsSchema,
    "ImportJobView": JobSchema,
    "FailuresView": FailuresSchema,
    "FailureView": FailureSchema,
    "RetryView": RetrySchema,
    "RedriveView": RedriveSchema,
}


def notify_pattern() -> str:
    """What `recipients` accepts, but for blanks and the user's own address."""
    if not conf().notify_domains:
        return f"^{NOTIFY_NOBODY}$"
    domains = "|".join(map(re.escape, conf().notify_domains))
    address = rf"{ATOM}(\.{ATOM})*@({domains})"
    return f"^({NOTIFY_NOBODY}|{address}(,{address}){{0,{MAX_ADDRESSES - 1}}})$"


def job_id() -> OpenApiParameter:
    return OpenApiParameter("job_id", UUID, "path", description="`id` of the job.")


def response_header(
    name: str, description: str, statuses: list[int], schema: Schema, *, required: bool = True
) -> OpenApiParameter:
    return OpenApiParameter(
        name, schema, HEADER, required=required, description=description, response=cast("Any", statuses)
    )


def answer(schema: Any, description: str, example: Any) -> OpenApiResponse:
    return OpenApiResponse(schema, description, [OpenApiExample("Example", example)])


def error_answer(status: int) -> OpenApiResponse:
    description, example = ERRORS[status]
    if isinstance(example, str):
        example = {"code": example, "message": description}
    return answer(components.ErrorSerializer, description, example)


def described(schema: Schema, description: str, example: Any = None, **options: Any) -> OpenApiRequest:
    examples = [OpenApiExample("Example", example)] if example else []
    return OpenApiRequest({**schema, "description": description}, examples=examples, **options)


def as_csv(row: dict[str, Any]) -> str:
    table = io.StringIO()
    csv.writer(table).writerows([row.keys(), row.values()])
    return table.getvalue()


def sample_row(serializer: serializers.Serializer[Any]) -> dict[str, Any]:
    """A row with the required fields, for the examples."""
    return {name: sample(field) for name, field in serializer.fields.items() if field.required and not field.read_only}


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


def sample(field: Any) -> Any:
    """A value that looks like the field's; its own name where nothing better is known."""
    if isinstance(field, serializers.ChoiceField):
        return next(iter(field.choices), "")
    value = next((value for kind, value in SAMPLES.items() if isinstance(field, kind)), field.field_name)
    return value[: field.max_length] if isinstance(value, str) and getattr(field, "max_length", None) else value
