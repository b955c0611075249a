"""How a file was read, as the answers to an import and to a dry run show it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from bulk_import.reports.shared_fields import SharedFields


class BulkImportColumnSerializer(serializers.Serializer[dict[str, Any]]):
    """A column of the file, and the field that it was read as."""

    column = serializers.CharField(help_text="Name of the column in the file.")
    field = serializers.CharField()
    match = serializers.ChoiceField(
        ["chosen", "exact", "name", "label", "alias"],
        help_text="How the column was recognised: by the parameter `columns`, by the exact name of the field, by this "
        "name without case, accents, blanks and punctuation, by the label of the field, or by an alias.",
    )


class BulkImportValueSerializer(serializers.Serializer[dict[str, Any]]):
    """The first value of a column that was not imported as it is written."""

    field = serializers.CharField()
    to = serializers.CharField(help_text="The value that is imported.")

    def get_fields(self) -> dict[str, Any]:
        """Add the field `from`, which is a keyword of Python."""
        return {**super().get_fields(), "from": serializers.CharField(help_text="The value in the file.")}


class BulkImportReadingSerializer(SharedFields, serializers.Serializer[dict[str, Any]]):
    """How the file was read. JSON has only `format` and `ignored`. A job without a file has nothing of it."""

    format = serializers.ChoiceField(["json", "csv", "spreadsheet"], required=False)
    ignored = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Columns of the file, or fields of JSON rows, that are not imported.",
    )
    columns = BulkImportColumnSerializer(many=True, required=False)
    missing = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Required fields without a column."
    )
    values = BulkImportValueSerializer(many=True, required=False, help_text="How values were interpreted.")
    locale = serializers.CharField(required=False, help_text="The `locale` of the upload. Corrections obey it, too.")
    decimal = serializers.DictField(child=serializers.CharField(), required=False, help_text="As in the upload.")
    encoding = serializers.CharField(required=False)
    delimiter = serializers.CharField(required=False, trim_whitespace=False)
    sheet = serializers.CharField(required=False)
    sheets = serializers.ListField(child=serializers.CharField(), required=False, help_text="All visible sheets.")
    header_line = serializers.IntegerField(min_value=0, required=False, help_text="Line of the names of the columns.")
    skipped_lines = serializers.ListField(
        child=serializers.IntegerField(min_value=1), required=False, help_text="Lines above it, such as a title."
    )

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the document unchanged. It already has this form."""
        return instance
