"""Formats errors and problems for people: "category: There is no category “kayaks”. (412 rows, first in line 17)".

An error belongs to one row. A problem groups the equal errors of many rows; see `bulk_import_wire.problems`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import serializers

from bulk_import.reports.messages import grouped
from bulk_import_wire.problems import OTHER


class ImportJobProblemSerializer(serializers.Serializer[dict[str, Any]]):
    """Rows that were not created for the same reason."""

    field = serializers.CharField(allow_null=True)
    code = serializers.CharField()
    message = serializers.CharField()
    count = serializers.IntegerField(min_value=1)
    first_index = serializers.IntegerField(min_value=0)
    first_line = serializers.IntegerField(
        min_value=1, required=False, help_text="Line of the first row, in a table or in JSON Lines."
    )

    def to_representation(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Return the problem unchanged. It is stored in the API's format, and a page of jobs has thousands of them."""
        return instance


class ProblemText(NamedTuple):
    """The parts of a problem, each on one line; `str()` joins them."""

    field: str
    """Name of the field, or ""."""
    reason: str
    where: str
    """How many rows have the problem, and where the first of them is."""

    def __str__(self) -> str:
        return f"{_with_field(self.field, self.reason)} ({self.where})"


def problem_text(problem: dict[str, Any]) -> ProblemText:
    """Return a problem as a text for people, in the active language."""
    is_other = all(problem[name] == value for name, value in OTHER.items())
    reason = _("Other reasons; the failures list each of them.") if is_other else problem["message"]
    count, line = problem["count"], problem.get("first_line")
    if line:
        where = ngettext("%(count)s row, in line %(first)s", "%(count)s rows, first in line %(first)s", count)
    else:
        where = ngettext("%(count)s row, at index %(first)s", "%(count)s rows, first at index %(first)s", count)
    where %= {"count": grouped(count), "first": line or problem["first_index"]}
    return ProblemText(_on_one_line(problem["field"] or ""), _on_one_line(reason), where)


def error_text(error: dict[str, Any]) -> str:
    """Return the error of a row as a text for people, for example "price: A valid number is required."."""
    return _with_field(error["field"] or "", error["message"])


def _with_field(field: str, reason: str) -> str:
    return f"{field}: {reason}" if field else reason


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
