"""The query parameters of an import that say how to read its file."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from django.utils.translation import gettext as _
from rest_framework import serializers

from bulk_import.intake.spreadsheets.locales import LOCALES
from bulk_import.intake.spreadsheets.options import ReadingOptions
from bulk_import.intake.spreadsheets.text_encoding import ENCODINGS

MAX_SHEET_CHARACTERS = 100
"""Longest name of a sheet. Excel allows 31 characters."""


class JSONObjectField(serializers.Field[dict[str, str | None], str, str, Any]):
    """Accepts a JSON object without nested values. `values` are the values that it may have; None allows every text."""

    def __init__(self, values: tuple[str, ...] | None = None, *, has_null: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.values, self.has_null = values, has_null

    def to_internal_value(self, data: str) -> dict[str, str | None]:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(map(self._is_allowed, found.values())):
            message = _("Send a JSON object such as %(example)s.")
            raise serializers.ValidationError(message % {"example": self.example}, code="invalid")
        return found

    @property
    def example(self) -> str:
        return '{"weight_kg": "."}' if self.values else '{"Preço": "price", "Notes": null}'

    def _is_allowed(self, value: Any) -> bool:
        if value is None:
            return self.has_null
        return isinstance(value, str) and (self.values is None or value in self.values)


class ReadingParameters(serializers.Serializer[Any]):
    """Query parameters about the file. `reading_options` turns them into ReadingOptions."""

    sheet = serializers.RegexField(
        r"^[^\x00-\x1f]+$",
        required=False,
        trim_whitespace=False,
        max_length=MAX_SHEET_CHARACTERS,
        help_text="Name or number (from 1) of the sheet, if the file has several.",
    )
    encoding = serializers.ChoiceField(
        list(ENCODINGS), required=False, help_text="Encoding of a CSV. Needed only if it is not certain."
    )
    locale = serializers.ChoiceField(
        list(LOCALES),
        required=False,
        help_text="Locale in which numbers, dates and truth values are written. Without it, they stay as they are.",
    )
    columns = JSONObjectField(
        required=False, has_null=True, help_text="JSON object: the field of each column, or null to ignore the column."
    )
    decimal = JSONObjectField(
        (".", ","), required=False, help_text="JSON object: the decimal separator of each field that is not clear."
    )
    unknown = serializers.ChoiceField(
        [("ignore", "ignore columns and fields that do not exist, and list them"), ("reject", "refuse the import")],
        default="ignore",
    )
    damage = serializers.ChoiceField(
        [
            ("reject", "report values that a spreadsheet has probably damaged as errors"),
            ("accept", "import them as they are"),
        ],
        default="reject",
    )


def reading_options(parameters: dict[str, Any]) -> ReadingOptions:
    """Return the options in the validated parameters, which may contain others."""
    names = [option.name for option in fields(ReadingOptions)]
    return ReadingOptions(**{name: parameters[name] for name in names if name in parameters})
