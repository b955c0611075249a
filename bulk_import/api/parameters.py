"""The query parameters of the public API.

The serializers validate the parameters and also describe them in the OpenAPI schema.
"""

from __future__ import annotations

import codecs
from functools import cache
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from bulk_import.api.reading_parameters import ReadingParameters
from bulk_import.exceptions import BadImport
from bulk_import.intake.recipients import RecipientsField
from bulk_import.models import ON_EXISTING, OUTCOME_LABELS, JobMode
from bulk_import.reports.job import StatusField
from bulk_import_wire.contract import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rest_framework.request import Request

MAX_PAGE_SIZE = 100
"""Largest page of jobs that a client may ask for."""


class CorrectionOptions(serializers.Serializer[Any]):
    """Query parameters of an import, also of one that corrects the rows of another one."""

    on_invalid = serializers.ChoiceField(
        [
            ("reject", "refuse the whole import if a row is not valid"),
            ("skip", "leave out the rows that are not valid and import the others"),
        ],
        default="reject",
    )
    rehearse = serializers.BooleanField(
        default=False, help_text="Try every row with the endpoint and roll it back. Nothing is imported."
    )


class ImportOptions(CorrectionOptions, ReadingParameters):
    """Query parameters of an import with a file."""

    mode = serializers.ChoiceField(
        [
            ("create", "create an object for each row"),
            ("update", "change the objects that the rows name; a row without an object is rejected"),
            ("upsert", "change the objects that exist, and create the others"),
        ],
        default="create",
    )
    on_existing = serializers.ChoiceField(
        [
            ("update", "change the object; this is the default"),
            ("skip", "leave the object as it is; the row is `unchanged`"),
            ("stop", "refuse the whole import"),
        ],
        required=False,
        help_text="With `mode=upsert`: what happens to a row whose object exists.",
    )
    dry_run = serializers.BooleanField(default=False, help_text="Validate the rows and store nothing.")
    rows = serializers.BooleanField(
        default=False, help_text="With `dry_run`: list all errors, and the rows that have them."
    )
    corrects = serializers.UUIDField(
        required=False, help_text="`id` of your earlier import, if these are its failed rows after correction."
    )
    notify = RecipientsField(
        required=False,
        help_text="Further addresses for emails about the import, separated by commas. `none` sends no email at all.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Replace `mode` by the mode of the job, which depends on `on_existing` too."""
        if "on_existing" in attrs and attrs["mode"] != JobMode.UPSERT:
            raise BadImport(_("The parameter “on_existing” needs mode=upsert."), code="needs_upsert")
        if attrs["dry_run"] and attrs["rehearse"]:
            message = _(
                "A dry run and a rehearsal are two different checks. Send either dry_run=true, which only validates "
                "the rows, or rehearse=true, which also tries them with the endpoint."
            )
            raise BadImport(message, code="two_checks")
        return {**attrs, "mode": job_mode(attrs)}


def job_mode(parameters: Mapping[str, str]) -> str:
    """Return the mode of a job with these parameters. An unknown mode is returned as it is."""
    mode = parameters.get("mode", JobMode.CREATE)
    asked = parameters.get("on_existing") if mode == JobMode.UPSERT else None
    return next((found for found, on_existing in ON_EXISTING.items() if on_existing == asked), mode)


class UndoOptions(serializers.Serializer[Any]):
    """Query parameters of an undo."""

    rehearse = serializers.BooleanField(
        default=False, help_text="Try to delete every object and roll it back. Nothing is deleted."
    )


class JobFilter(serializers.Serializer[Any]):
    """Query parameters of the list of jobs. The pagination reads its own parameter, `cursor`."""

    status = StatusField(required=False)
    page_size = serializers.IntegerField(min_value=1, max_value=MAX_PAGE_SIZE, required=False)


class PageOptions(serializers.Serializer[Any]):
    """Query parameters that the pagination reads."""

    cursor = serializers.CharField(required=False)


class FailureOptions(serializers.Serializer[Any]):
    """Query parameters of the failures; DRF itself handles `format`."""

    part = serializers.ChoiceField([("rows", "only the rows, as they were sent")], required=False)


class TemplateOptions(serializers.Serializer[Any]):
    """Query parameters of the template."""

    format = serializers.ChoiceField(["csv", "xlsx"], required=False, help_text="Instead of `Accept`. By default, csv.")


class ResultOptions(serializers.Serializer[Any]):
    """Query parameters of the results; DRF itself handles `format`."""

    outcome = serializers.ChoiceField(
        [(str(outcome), OUTCOME_LABELS[outcome]) for outcome in Outcome], required=False, help_text="Only these rows."
    )
    after = serializers.IntegerField(
        min_value=0, required=False, help_text="Only rows with a larger index, for example than the last one you have."
    )


MAX_LISTED_NAMES = 10
MAX_NAME_CHARACTERS = 100
"""Limits of an error that quotes the names of parameters: they come from the client."""


def check_names(request: Request, *serializer_classes: type[serializers.Serializer[Any]]) -> None:
    """Raise ValidationError if a query parameter is not a field of these serializers, or is given twice.

    Without this check, a dry run with a misspelled name would import the rows. DRF itself reads `format`.
    """
    known = {"format"}.union(*map(_field_names, serializer_classes))
    errors = {}
    for name, values in request.query_params.lists():
        if name not in known:
            message = _("This parameter does not exist here.")
            errors[name] = [serializers.ErrorDetail(message, code="unknown")]
        elif len(values) > 1:
            message = _("This parameter is given more than once.")
            errors[name] = [serializers.ErrorDetail(message, code="repeated")]
    if errors:
        listed = list(errors.items())[:MAX_LISTED_NAMES]
        raise serializers.ValidationError({name[:MAX_NAME_CHARACTERS]: found for name, found in listed})


@cache
def _field_names(serializer_class: type[serializers.Serializer[Any]]) -> frozenset[str]:
    return frozenset(serializer_class().fields)


def check_charset(request: Request) -> None:
    """Raise BadImport if the Content-Type names a charset with which no text can be decoded, such as `hex`."""
    charset = (request._request.content_params or {}).get("charset", "utf-8")  # noqa: SLF001 - DRF's own name for Django's request
    try:
        codecs.lookup(charset)
        "".encode(charset)
    except (LookupError, ValueError) as error:
        message = _("The charset in the Content-Type is not supported. Send UTF-8.")
        raise BadImport(message, code="unsupported_charset") from error


def read_parameters(serializer_class: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return the validated query parameters. Raises ValidationError, which becomes a 400."""
    # DRF ignores empty values in a QueryDict, so `dry_run=` would start a real import. It rejects them in a plain dict.
    given = request.query_params.dict()
    return _validate(serializer_class, given, request) if given else {**_defaults(serializer_class)}


@cache
def _defaults(serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """Return the parameters of a request without any. DRF takes half a millisecond to find them."""
    return _validate(serializer_class, {})


def _validate(
    serializer_class: type[serializers.Serializer[Any]], given: dict[str, str], request: Request | None = None
) -> dict[str, Any]:
    serializer = serializer_class(data=given, context={"request": request})
    serializer.is_valid(raise_exception=True)
    parameters: dict[str, Any] = serializer.validated_data
    return parameters
