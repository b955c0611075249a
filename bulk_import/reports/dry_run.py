"""The response to a dry run: what an import would report about its rows."""

from __future__ import annotations

from typing import Any

from django.utils.translation import ngettext
from rest_framework import serializers

from bulk_import.errors import BulkImportRowErrorSerializer
from bulk_import.reports.reading import BulkImportReadingSerializer


class BulkImportDryRunSerializer(serializers.Serializer[Any]):
    """The result of a dry run. Nothing was stored."""

    message = serializers.SerializerMethodField(help_text="For people, in the language of the request.")
    rows = serializers.IntegerField(min_value=1)
    valid_rows = serializers.IntegerField(min_value=0)
    invalid_rows = serializers.IntegerField(min_value=0)
    error_count = serializers.IntegerField(min_value=0, help_text="The number of all errors.")
    errors: Any = BulkImportRowErrorSerializer(
        many=True, help_text="The first errors."
    )  # DRF's property `Serializer.errors` is not affected
    reading = BulkImportReadingSerializer()

    def get_message(self, result: Any) -> str:
        text = ngettext(
            "%(valid)d of %(rows)d row is valid. Nothing was imported: this was a dry run.",
            "%(valid)d of %(rows)d rows are valid. Nothing was imported: this was a dry run.",
            result.valid_rows,
        )
        return text % {"valid": result.valid_rows, "rows": result.rows}
