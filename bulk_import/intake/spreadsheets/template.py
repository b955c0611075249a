"""Generates an empty table from a target's serializer: a header that every upload recognises, and one example row."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import override
from rest_framework import serializers
from rest_framework.exceptions import NotAcceptable

from bulk_import.conf import conf
from bulk_import.intake.sample_row import sample_object
from bulk_import.intake.spreadsheets.target_fields import Kind, kind_of, labels, target_fields
from bulk_import.reports.cells import escape_cell
from bulk_import.reports.tables import table_lines
from bulk_import.target_views import ViewFormat

if TYPE_CHECKING:
    from rest_framework.request import Request

    from bulk_import.conf import Target
    from bulk_import.intake.spreadsheets.target_fields import TargetFields

REQUIRED_MARK = " *"
"""Follows the heading of a required field. A heading is recognised without regard to punctuation."""

EXAMPLE = "example"
"""What a text in the example row consists of."""

MAX_CHOICES = 500
"""Longest drop-down list. A field with more choices has none."""

COLUMN_WIDTH = 18
"""Width of a column in characters."""

CHOICES_SHEET = "Choices"
"""Hidden sheet with the values of the drop-down lists. Within the validation of a cell, a list has few characters."""

NOT_IN_A_CELL = (
    serializers.BaseSerializer,
    serializers.DictField,
    serializers.FileField,
    serializers.ListField,
    serializers.ManyRelatedField,
    serializers.MultipleChoiceField,
)
"""Fields whose values a cell cannot hold. They are left out, unless they are required."""


@dataclass(frozen=True, slots=True)
class TemplateColumn:
    """A column of a template."""

    heading: str
    example: str | int | float | bool  # "" for a field without an example
    is_required: bool
    is_text: bool  # as opposed to a number, a date or a truth value
    choices: list[Any]  # [] for a field without a fixed list of values, or with a very long one


def template_columns(target: Target, request: Request) -> list[TemplateColumn]:
    """Return a column for each field that the user of the request can set. Raises whatever the serializer raises.

    A heading is the field's label in the active language if an upload in any language recognises it. Otherwise it is
    the name of the field.
    """
    serializer: Any = target.create_serializer(request)
    view_format = ViewFormat(serializer.context["view"])
    with override(settings.LANGUAGE_CODE):  # otherwise, `target_fields` would also know the user's own language
        fields = target_fields(target, request)
    examples = sample_object(serializer, EXAMPLE)
    known: dict[str, list[str]] = {}
    for name, label in labels(serializer):
        known.setdefault(name, []).append(label)
    return [
        TemplateColumn(
            heading=heading(view_format.field_name(name), own_label(name, known[name]), field.required, fields),
            example=example_cell(field, examples.get(name)),
            is_required=field.required,
            is_text=kind_of(field) in {Kind.TEXT, Kind.OTHER},
            choices=choices_of(field),
        )
        for name, field in serializer.fields.items()
        if view_format.field_name(name) in fields.fields
        and (field.required or not isinstance(field, NOT_IN_A_CELL))
        and not field.read_only
    ]


def own_label(name: str, found: list[str]) -> str:
    """Return the label to show for a field. `found` has the serializer's label, and the model's name if there is one.

    The label that DRF makes out of a field's name is never translated, so the model's name is better.
    """
    is_automatic = found[0] == name.replace("_", " ").capitalize()
    return capfirst(found[-1 if is_automatic else 0])


def heading(name: str, label: str, is_required: bool, fields: TargetFields) -> str:
    """Return a heading that an upload reads as this field: its label or its name with a mark, or its bare name."""
    mark = REQUIRED_MARK if is_required else ""
    for text in (label + mark, name + mark):
        found = fields.find(text)
        if found and found[0] == name:
            return text
    return name


def example_cell(field: Any, value: Any) -> str | int | float | bool:
    """Return a value of JSON as a cell; "" if a cell cannot hold it."""
    if isinstance(value, str) and kind_of(field) is Kind.NUMBER:
        return float(value) if "." in value else int(value)
    return value if isinstance(value, str | int | float | bool) else ""


def choices_of(field: Any) -> list[Any]:
    """Return the values that a field accepts; [] if there are too many, or if they are not known."""
    if isinstance(field, NOT_IN_A_CELL):
        return []
    if isinstance(field, serializers.ChoiceField):
        found = list(field.choices)
    elif isinstance(field, serializers.RelatedField):
        queryset: Any = field.get_queryset()
        found = [field.to_representation(related) for related in queryset[: MAX_CHOICES + 1]]
    else:
        return []
    return [] if len(found) > MAX_CHOICES else [value for value in found if value not in ("", None)]


def csv_template(columns: list[TemplateColumn]) -> bytes:
    """Return the template as a CSV for the spreadsheets of the active language."""
    headings = (escape_cell(column.heading) for column in columns)
    example = [csv_cell(column.example) for column in columns]
    return "".join(table_lines(headings, [example])).encode()


def csv_cell(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else escape_cell(str(value))


def xlsx_template(columns: list[TemplateColumn]) -> bytes:
    """Return the template as a workbook with drop-down lists. Raises NotAcceptable if XlsxWriter is not installed."""
    if find_spec("xlsxwriter") is None:
        raise NotAcceptable(_("This site does not write files of Excel. Ask for format=csv."))
    import xlsxwriter  # noqa: PLC0415 - it belongs to an extra
    from xlsxwriter.utility import xl_range_abs  # noqa: PLC0415

    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet, lists = book.add_worksheet("Import"), book.add_worksheet(CHOICES_SHEET)
        lists.hide()
        formats = {True: book.add_format({"num_format": "@"}), False: book.add_format()}
        headings = {True: book.add_format({"bold": True}), False: book.add_format()}
        sheet.freeze_panes(1, 0)
        for number, column in enumerate(columns):
            # Text stays as the user types it. Otherwise, Excel would remove the leading zeros of a barcode.
            sheet.set_column(number, number, max(COLUMN_WIDTH, len(column.heading)), formats[column.is_text])
            sheet.write(0, number, column.heading, headings[column.is_required])
            sheet.write(1, number, column.example, formats[column.is_text])
            if column.choices:
                lists.write_column(0, number, column.choices)
                source = f"={CHOICES_SHEET}!{xl_range_abs(0, number, len(column.choices) - 1, number)}"
                # Another value is only a warning, because the list may have changed since the download.
                rule = {"validate": "list", "source": source, "error_type": "warning"}
                sheet.data_validation(1, number, conf().max_rows, number, rule)
    return file.getvalue()
