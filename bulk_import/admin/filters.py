"""The filters of the list of imports that Django does not have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _

from bulk_import.models import ChunkStatus, ImportJob
from bulk_import.reports.problems import error_text

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

NEWEST_JOBS = 200
"""Number of the newest jobs whose submitters and problems the filters offer, so that a filter costs one short query."""

MAX_CHOICES = 15
"""Maximum number of choices of a filter."""


class DeadLetterFilter(admin.SimpleListFilter):
    title = _("dead chunks")
    parameter_name = "dead"

    def lookups(self, *_args: Any) -> list[tuple[str, Any]]:
        return [("1", _("with dead chunks"))]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(chunks__status=ChunkStatus.DEAD).distinct() if self.value() else queryset


class SubmitterFilter(admin.SimpleListFilter):
    """Offers the submitters of the newest jobs. The search finds the others."""

    title = _("submitter")
    parameter_name = "submitter"

    def lookups(self, *_args: Any) -> list[tuple[str, Any]]:
        name = f"submitter__{get_user_model().USERNAME_FIELD}"
        newest = ImportJob.objects.order_by("-created_at").values_list("submitter", name)[:NEWEST_JOBS]
        names = dict(newest)
        names.pop(None, None)
        return [(str(key), name) for key, name in names.items()][:MAX_CHOICES]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        known = {key for key, _name in self.lookup_choices}
        return queryset.filter(submitter=self.value()) if self.value() in known else queryset


class ProblemFilter(admin.SimpleListFilter):
    """Offers the problems of the newest jobs. The search finds the others by their text."""

    title = _("problem")
    parameter_name = "problem"

    def lookups(self, *_args: Any) -> list[tuple[str, Any]]:
        newest = ImportJob.objects.order_by("-created_at").values_list("problems", flat=True)[:NEWEST_JOBS]
        texts: dict[str, str] = {}
        for problem in (problem for problems in newest for problem in problems):
            texts.setdefault(problem["code"], error_text(problem))
        return list(texts.items())[:MAX_CHOICES]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # Both databases compare the JSON as text, in which a colon is followed by a space.
        return queryset.filter(problems__icontains=f'"code": {json.dumps(self.value())}') if self.value() else queryset
