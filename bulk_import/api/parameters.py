"""The query parameters of the public API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from bulk_import.intake.recipients import RecipientsField
from bulk_import.models import JobStatus

if TYPE_CHECKING:
    from rest_framework.request import Request

MAX_PAGE_SIZE = 100


class ImportOptions(serializers.Serializer[Any]):
    """Query parameters of a submission."""

    corrects = serializers.UUIDField(required=False)

    on_invalid = serializers.ChoiceField(["reject", "skip"], default="reject")
    dry_run = serializers.BooleanField(default=False)
    notify = RecipientsField(default="")


class JobFilter(serializers.Serializer[Any]):
    """Query parameters of the list of jobs."""

    status = serializers.ChoiceField(JobStatus.choices, required=False)
    page_size = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_SIZE, required=False)


class FailureOptions(serializers.Serializer[Any]):
    """Query parameters of the failures; `format` is DRF's own."""

    part = serializers.ChoiceField(["rows"], required=False)


def read_parameters(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """The query parameters; raises ValidationError, which `error_response` turns into a 400."""
    # A plain dict: of a query, as of a form, DRF takes empty values for absent ones, and `dry_run=` is not "no".
    serializer = serializer_class(data=request.query_params.dict(), context={"request": request})
    serializer.is_valid(raise_exception=True)
    parameters: dict[str, Any] = serializer.validated_data
    return parameters
