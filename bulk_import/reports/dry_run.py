"""The response to a dry run: what an import would report about its rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers

from bulk_import.errors import BulkImportRowErrorSerializer
from bulk_import.reports.cells import escape_cell
from bulk_import.reports.reading import BulkImportReadingSerializer
from bulk_import.reports.tables import table_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class BulkImportRuleSerializer(serializers.Serializer[Any]):
    """A validation rule that only the create endpoint can check."""

    field = serializers.CharField(allow_null=True, help_text="The field; null for a rule over several fields.")
    rule = serializers.CharField(help_text="The validator, field class or method, such as `validate_category`.")


class BulkImportListedRowSerializer(serializers.Serializer[Any]):
    """A row that is not valid."""

    index = serializers.IntegerField(min_value=0)
    line = serializers.IntegerField(min_value=1, required=False)
    row = serializers.JSONField(help_text="The row as it was read.")

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the row unchanged. It already has this form."""
        return instance


class BulkImportDryRunSerializer(serializers.Serializer[Any]):
    """The result of a dry run. Nothing was stored."""

    message = serializers.SerializerMethodField(help_text="For people, in the language of the request.")
    rows = serializers.IntegerField(min_value=1)
    valid_rows = serializers.IntegerField(min_value=0)
    invalid_rows = serializers.IntegerField(min_value=0)
    existing_rows = serializers.IntegerField(
        allow_null=True,
        min_value=0,
        help_text="The number of valid rows whose object exists, found by the field that identifies objects for "
        "people. Null if the site does not support updates here.",
    )
    error_count = serializers.IntegerField(min_value=0, help_text="The number of all errors.")
    errors: Any = BulkImportRowErrorSerializer(
        many=True, help_text="The first errors."
    )  # DRF's property `Serializer.errors` is not affected
    listed_rows = BulkImportListedRowSerializer(
        many=True, required=False, help_text="With `rows=true`: the rows of these errors, up to 4 MiB."
    )
    reading = BulkImportReadingSerializer()

    compared_with_database = serializers.ListField(
        source="database_checks.fields",
        child=serializers.CharField(),
        help_text="The fields whose values were compared with the database: unique values and related objects.",
    )
    left_to_endpoint = BulkImportRuleSerializer(
        source="database_checks.left_to_endpoint",
        many=True,
        help_text="The rules of the serializer that are checked only when a row is imported. The endpoint may have "
        "further rules.",
    )

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Leave out the rows if nobody asked for them."""
        document: dict[str, Any] = super().to_representation(instance)
        if instance.listed_rows is None:
            document.pop("listed_rows", None)
        return document

    def get_message(self, result: Any) -> str:
        text = ngettext(
            "%(valid)d row of %(rows)d is valid. Nothing was imported: this was a dry run.",
            "%(valid)d rows of %(rows)d are valid. Nothing was imported: this was a dry run.",
            result.valid_rows,
        )
        limits = _("Some rules are checked only when the rows are imported, for example rules over several fields.")
        return f"{text % {'valid': result.valid_rows, 'rows': result.rows}} {limits}"


def error_table(errors: Iterable[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the lines of a CSV with these errors of rows, and the values that are wrong."""
    by_index = {listed["index"]: listed["row"] for listed in rows}
    headings = [_("index"), _("line"), _("field"), _("value"), _("message")]
    for text in table_lines(headings, (_record(error, by_index.get(error["index"])) for error in errors)):
        yield text.encode("utf-8", "replace")


def _record(error: dict[str, Any], row: Any) -> list[Any]:
    value = row.get(error["field"], "") if isinstance(row, dict) else ""
    texts = [error["field"] or "", value if isinstance(value, str) else json.dumps(value), error["message"]]
    return [error["index"], error.get("line"), *map(escape_cell, texts)]
