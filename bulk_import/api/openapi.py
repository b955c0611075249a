"""The public API in a site's OpenAPI schema. This module is imported only if drf-spectacular is installed.

drf-spectacular derives most of the schema: documents from the serializers in `bulk_import.reports`, query parameters
from `bulk_import.api.parameters`, and texts from the docstrings of the views. This module adds what the code of a view
does not show: the request body, and the statuses and headers in `openapi_operations`. The worker API is not part of the
schema.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.urls import resolve
from drf_spectacular.extensions import OpenApiSerializerFieldExtension, OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    OpenApiWebhook,
    extend_schema,
)

from bulk_import.api import openapi_examples as examples
from bulk_import.api.openapi_operations import (
    CSV,
    ERRORS,
    HEADER,
    JSON,
    NDJSON,
    OPERATIONS,
    PATH_PARAMETERS,
    STRING,
    Operation,
    Schema,
)
from bulk_import.conf import conf
from bulk_import.errors import BulkImportErrorSerializer
from bulk_import.intake.formats import ODS, XLS, XLSX
from bulk_import.intake.idempotency import MAX_KEY_CHARACTERS
from bulk_import.intake.recipients import MAX_ADDRESSES
from bulk_import.models import NOTIFY_NOBODY, JobStatus
from bulk_import.reports.job import ImportJobSerializer, ImportJobWebhookSerializer

if TYPE_CHECKING:
    from bulk_import.api.reading_parameters import JSONObjectField
    from bulk_import.api.target_view import TargetView
    from bulk_import.conf import Target

TEXT: Schema = {"type": "string", "minLength": 1}

KEY_PATTERN = r"^[ -~]*[!#-~][ -~]*$"
"""Pattern of an Idempotency-Key: printable ASCII with at least one character that is neither a blank nor a quote."""

ATOM = r"[-!#$%&'*+/=?^_`{}|~0-9A-Za-z]+"
"""Pattern of the text between the dots of a mailbox, as in Django's EmailValidator."""

CORRECTIONS: Schema = {
    "type": "object",
    "properties": {"rows": {"type": "object", "additionalProperties": {"type": "object"}}},
    "required": ["rows"],
    "additionalProperties": False,
    "example": {"rows": {"17": {"price": "12.50"}}},
}

WORKBOOKS = (XLSX, XLS, ODS)

ANY_JOB = str(UUID(int=0))


class DescribedTarget(OpenApiViewExtension):  # type: ignore[no-untyped-call] # registers itself
    """Gives the views of the public API their schema, and the target that the URL configuration names."""

    target_class = "bulk_import.api.target_view.TargetView"
    match_subclasses = True

    def view_replacement(self) -> Any:
        class DescribedView(self.target):  # type: ignore[misc, name-defined] # only known at run time
            schema = TargetSchema()

            def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
                # drf-spectacular does not pass the extra arguments of `path()`, one of which is the target.
                self.kwargs = resolve(request.path.replace("{job_id}", ANY_JOB)).kwargs
                return super().initialize_request(request, *args, **kwargs)

        DescribedView.__name__ = self.target.__name__
        return DescribedView


class DescribedStatus(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call] # registers itself
    """Makes a job's status a component named ImportJobStatus.

    Otherwise, drf-spectacular would choose its name, which depends on the other `status` fields of the site's API.
    """

    target_class = "bulk_import.reports.job.StatusField"

    def get_name(self) -> str:
        return "ImportJobStatus"

    def map_serializer_field(self, *_args: Any) -> Schema:
        return {**STRING, "enum": JobStatus.values}


class DescribedRecipients(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call] # registers itself
    target_class = "bulk_import.intake.recipients.RecipientsField"

    def map_serializer_field(self, *_args: Any) -> Schema:
        """Accept what the field accepts, except for blanks and the user's own address."""
        if not conf().notify_domains:
            return {**STRING, "pattern": f"^{NOTIFY_NOBODY}$"}
        domains = "|".join(map(re.escape, conf().notify_domains))
        address = rf"{ATOM}(\.{ATOM})*@({domains})"
        pattern = f"^({NOTIFY_NOBODY}|{address}(,{address}){{0,{MAX_ADDRESSES - 1}}})$"
        return {**STRING, "pattern": pattern}


class DescribedObject(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call] # registers itself
    target_class = "bulk_import.api.reading_parameters.JSONObjectField"

    def map_serializer_field(self, *_args: Any) -> Schema:
        field: JSONObjectField = self.target
        text = r'"[^"\\\x00-\x1f]+"'
        values = [f'"[{"".join(field.values)}]"' if field.values else text, *(["null"] if field.has_null else [])]
        entry = f"{text}:({'|'.join(values)})"
        return {**STRING, "pattern": rf"^\{{({entry}(,{entry})*)?\}}$", "example": field.example}


class TargetSchema(AutoSchema):
    """Describes the operations of a target, with the target's own serializer for the rows."""

    def is_excluded(self) -> bool:
        # `bulk_import.urls` has its URLs twice: for a mount without a trailing slash and for one with it. For
        # this mount, the URLs of the other kind have two slashes or none before the ID, so they are left out.
        return "//" in self.path or bool(re.search(r"[^/](\{job_id\}|template$)", self.path))

    @property
    def import_target(self) -> Target:
        return cast("TargetView", self.view).target

    @property
    def bulk_operation(self) -> Operation:
        return OPERATIONS[type(self.view).__name__, self.method]

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation: Schema | None = super().get_operation(*args, **kwargs)
        if operation and "requestBody" in operation:
            operation["requestBody"]["required"] = True
        return operation

    def get_operation_id(self) -> str:
        return f"{self.import_target.name}_bulk_{self.bulk_operation.name}"

    def get_tags(self) -> list[str]:
        return [f"{self.import_target.name} bulk import"]

    def get_summary(self) -> str:
        return self.docstring_parts()[0]

    def get_description(self) -> str:  # type: ignore[override] # as in drf-spectacular
        return self.docstring_parts()[1]

    def docstring_parts(self) -> tuple[str, str]:
        docstring = inspect.getdoc(getattr(self.view, self.method.lower())) or ""
        summary, _blank, description = docstring.partition("\n\n")
        return summary, description

    def get_override_parameters(self) -> list[Any]:
        in_path = [parameter for parameter in PATH_PARAMETERS if f"{{{parameter.name}}}" in self.path]
        parameters = [*in_path, *self.bulk_operation.parameters]
        if self.bulk_operation.name in {"create", "correct"}:
            schema = {**TEXT, "maxLength": MAX_KEY_CHARACTERS, "pattern": KEY_PATTERN}
            required = conf().require_idempotency_key
            description = "Any text of your own, such as a UUID."
            parameters.append(
                OpenApiParameter("Idempotency-Key", schema, HEADER, required=required, description=description)
            )
        return parameters

    def get_request_serializer(self) -> Any:
        if self.bulk_operation.name == "correct":
            return {JSON: body(CORRECTIONS, "The corrected fields of each row, by the index of the row.")}
        if self.bulk_operation.name != "create":
            return None
        serializer = self.import_target.serializer_class()
        item = self.resolve_serializer(serializer, "request").ref
        rows = {"type": "array", "items": item, "minItems": 1, "maxItems": conf().max_rows}
        row = examples.row(serializer)
        parts = {"file": {**STRING, "format": "binary"}, "corrections": {**STRING, "description": CORRECTIONS_HELP}}
        form = {"type": "object", "properties": parts, "required": ["file"]}
        binary = {**STRING, "format": "binary"}
        file_types = {"file": {"contentType": ", ".join((JSON, NDJSON, CSV, *WORKBOOKS))}}
        return {
            JSON: body(rows, "An array of rows. A decimal may also be a number.", [row]),
            NDJSON: body(TEXT, "JSON Lines: one row per line.", json.dumps(row) + "\n"),
            CSV: body(TEXT, "A header and one row per line. Empty cells are left out.", examples.table(row)),
            **{workbook: body(binary, "A workbook of Excel or LibreOffice.") for workbook in WORKBOOKS},
            "multipart/form-data": body(
                form, "One .json, .jsonl, .csv, .xlsx, .xls or .ods file. Any field name.", encoding=file_types
            ),
        }

    def get_response_serializers(self) -> Any:
        operation = self.bulk_operation
        answers = {
            (status, media_type): self.answer(serializer, description)
            for status, (serializer, description) in operation.answers.items()
            for media_type in operation.media_types
        }
        return answers | {
            (status, JSON): OpenApiResponse(BulkImportErrorSerializer, ERRORS[status]) for status in operation.errors
        }

    def answer(self, serializer: Any, description: str) -> Any:
        if not description:  # drf-spectacular does not look for the serializer of a list within an OpenApiResponse
            return serializer
        example = examples.job(self.import_target.name) if serializer is ImportJobSerializer else None
        return OpenApiResponse(serializer, description, [OpenApiExample("Example", example)] if example else [])


CORRECTIONS_HELP = (
    "The corrected fields of each row by its index, as JSON, as in `POST …/correct`. They replace what the file has."
)


def body(schema: Schema, description: str, example: Any = None, **options: Any) -> OpenApiRequest:
    request_examples = [OpenApiExample("Example", example)] if example else []
    return OpenApiRequest({**schema, "description": description}, examples=request_examples, **options)


JOB_WEBHOOK = OpenApiWebhook(
    "importJob",
    extend_schema(
        summary="Something happened to an import",
        description="Follows the Standard Webhooks specification. Respond with 2xx within ten seconds.",
        request=ImportJobWebhookSerializer,
        responses={204: OpenApiResponse(description="Received. After any other status than 2xx, we send it again.")},
        tags=["bulk import"],
    ),
)
"""For `SPECTACULAR_SETTINGS["WEBHOOKS"]`, which needs OpenAPI 3.1."""
