"""The response to a dry run: what an import would report about its rows."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers

from bulk_import.errors import BulkImportRowErrorSerializer
from bulk_import.reports.reading import BulkImportReadingSerializer


class BulkImportRuleSerializer(serializers.Serializer[Any]):
    """A validation rule that only the create endpoint can check."""

    field = serializers.CharField(allow_null=True, help_text="The field; null for a rule over several fields.")
    rule = serializers.CharField(help_text="The validator, field class or method, such as `validate_category`.")


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

    def get_message(self, result: Any) -> str:
        text = ngettext(
            "%(valid)d of %(rows)d row is valid. Nothing was imported: this was a dry run.",
            "%(valid)d of %(rows)d rows are valid. Nothing was imported: this was a dry run.",
            result.valid_rows,
        )
        limits = _("Some rules are checked only when the rows are imported, for example rules over several fields.")
        return f"{text % {'valid': result.valid_rows, 'rows': result.rows}} {limits}"
