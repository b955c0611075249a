"""Staff watch imports here. Only the concurrency of a job can be changed: the rest is what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _

from bulk_import.models import ImportChunk, ImportEvent, ImportJob
from bulk_import.representation import problem_text

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.utils.functional import _StrPromise
    from django.utils.safestring import SafeString

LINE_BREAK = mark_safe("<br>")


class ReadOnly:
    """Whoever may view may look; nobody may add, change or delete."""

    def has_add_permission(self, *_args: Any) -> bool:
        return False

    def has_change_permission(self, *_args: Any) -> bool:
        return False

    def has_delete_permission(self, *_args: Any) -> bool:
        return False


class ChunkInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg] # generic in the stubs only
    model = ImportChunk
    fields = [
        "number",
        "status",
        "first_index",
        "row_count",
        "created",
        "rejected",
        "failed",
        "unprocessed",
        "epoch",
        "lease_expires_at",
    ]
    ordering = ["number"]

    def has_view_permission(self, *_args: Any) -> bool:
        return True  # whoever may see the job


class EventInline(ReadOnly, admin.TabularInline):  # type: ignore[type-arg] # generic in the stubs only
    model = ImportEvent
    fields = ["at", "kind", "actor", "note"]
    readonly_fields = ["at"]
    ordering = ["at"]

    def has_view_permission(self, *_args: Any) -> bool:
        return True  # whoever may see the job


@admin.register(ImportJob)
class ImportJobAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    list_display = [
        "job",
        "submitter",
        "status",
        "rows",
        "created_rows",
        "rejected_rows",
        "failed_rows",
        "pending_rows",
        "age",
    ]
    list_filter = ["status", "target", "created_at"]
    list_select_related = ["submitter"]
    search_fields = ["id"]
    show_full_result_count = False
    fields = [
        "id",
        "target",
        "submitter",
        "status",
        "rows",
        "created_rows",
        "rejected_rows",
        "failed_rows",
        "unprocessed_rows",
        "pending_rows",
        "concurrency",
        "problem_list",
        "pause_code",
        "paused_at",
        "paused_until",
        "created_at",
        "started_at",
        "finished_at",
    ]
    readonly_fields = [str(name) for name in fields if name != "concurrency"]
    inlines = [EventInline, ChunkInline]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def save_model(self, _request: HttpRequest, job: ImportJob, _form: Any, _change: Any) -> None:
        """Write nothing but what was changed: the job lives on while staff look at the form."""
        job.save(update_fields=["concurrency"])

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).with_counts()  # type: ignore[attr-defined] # the model's own queryset

    @admin.display(description=_("import job"), ordering="target")
    def job(self, job: ImportJob) -> SafeString:
        """Short enough for the whole table to fit; the search finds a job by any part of its id."""
        return format_html('<span title="{}">{} {}</span>', job.pk, job.target, str(job.pk)[:8])

    @admin.display(description=_("created"))
    def created_rows(self, job: ImportJob) -> int:
        return job.created_count

    @admin.display(description=_("rejected"))
    def rejected_rows(self, job: ImportJob) -> int:
        return job.rejected_count

    @admin.display(description=_("failed"))
    def failed_rows(self, job: ImportJob) -> int:
        return job.failed_count

    @admin.display(description=_("unprocessed"))
    def unprocessed_rows(self, job: ImportJob) -> int:
        return job.unprocessed_count

    @admin.display(description=_("pending"))
    def pending_rows(self, job: ImportJob) -> int:
        return job.counts["pending"]

    @admin.display(description=_("age"), ordering="created_at")
    def age(self, job: ImportJob) -> str:
        return timesince(job.created_at, timezone.now(), depth=1)

    @admin.display(description=_("problems"))
    def problem_list(self, job: ImportJob) -> SafeString | _StrPromise:
        lines = format_html_join(LINE_BREAK, "{}", ((problem_text(entry),) for entry in job.problems))
        return lines or _("none")
