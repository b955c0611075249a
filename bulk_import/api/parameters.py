"""The query parameters of the public API.

The serializers validate the parameters and also describe them in the OpenAPI schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from bulk_import.intake.recipients import RecipientsField
from bulk_import.reports.job import StatusField

if TYPE_CHECKING:
    from rest_framework.request import Request

MAX_PAGE_SIZE = 100
"""Largest page of jobs that a client may ask for."""


class ImportOptions(serializers.Serializer[Any]):
    """Query parameters of an import."""

    on_invalid = serializers.ChoiceField(
        [
            ("reject", "refuse the whole import if a row is not valid"),
            ("skip", "leave out the rows that are not valid and import the others"),
        ],
        default="reject",
    )
    dry_run = serializers.BooleanField(default=False, help_text="Validate the rows and store nothing.")
    corrects = serializers.UUIDField(
        required=False, help_text="`id` of your earlier import, if these are its failed rows after correction."
    )
    notify = RecipientsField(
        required=False,
        help_text="Further addresses for emails about the import, separated by commas. `none` sends no email at all.",
    )


class JobFilter(serializers.Serializer[Any]):
    """Query parameters of the list of jobs. The pagination reads its own parameter, `cursor`."""

    status = StatusField(required=False)
    page_size = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_SIZE, required=False)


class FailureOptions(serializers.Serializer[Any]):
    """Query parameters of the failures; DRF itself handles `format`."""

    part = serializers.ChoiceField([("rows", "only the rows, as they were sent")], required=False)


def read_parameters(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return the validated query parameters. Raises ValidationError, which becomes a 400."""
    # DRF ignores empty values in a QueryDict, so `dry_run=` would start a real import. It rejects them in a plain dict.
    serializer = serializer_class(data=request.query_params.dict(), context={"request": request})
    serializer.is_valid(raise_exception=True)
    parameters: dict[str, Any] = serializer.validated_data
    return parameters
