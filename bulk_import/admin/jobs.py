"""The admin pages of import jobs: the list, the page of one job, the actions and the downloads.

Staff can edit only the concurrency and the priority of a job. All other fields record what happened.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from bulk_import.admin.actions import possible_actions
from bulk_import.admin.bulk_actions import BulkActionViews
from bulk_import.admin.charts import progress_bar
from bulk_import.admin.dashboard import figures
from bulk_import.admin.downloads import downloads
from bulk_import.admin.filters import DeadLetterFilter, ProblemFilter, SubmitterFilter
from bulk_import.admin.job_form import JobForm
from bulk_import.admin.job_page import badge, describe
from bulk_import.errors import answer_out_of_order
from bulk_import.models import ImportJob, JobMode, without_atomic_requests
from bulk_import.reports.job import rows_per_second
from bulk_import.reports.messages import grouped

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.utils.safestring import SafeString


@admin.register(ImportJob)
class ImportJobAdmin(BulkActionViews):
    """Staff with the view permission see the pages. Staff with the change permission can also perform actions.

    To download rows, staff also need the permission `download_rows`.
    """

    list_display = ["job", "state", "progress", "submitter", "imported_rows", "other_rows", "age"]
    list_filter = [
        "status",
        DeadLetterFilter,
        SubmitterFilter,
        ProblemFilter,
        "target",
        "created_at",
        "mode",
        "rehearsal",
    ]
    list_select_related = ["submitter"]
    list_per_page = 50
    search_help_text = gettext_lazy("Search by part of an ID, file name, Idempotency-Key, user name or problem.")
    show_full_result_count = False
    actions = ["stop_user"]
    form = JobForm
    fields = ["concurrency", "priority"]

    class Media:
        css = {"all": ["bulk_import/admin.css"]}
        js = ["bulk_import/admin.js"]

    # --- permissions

    def has_add_permission(self, *_args: Any) -> bool:
        return False

    def has_delete_permission(self, *_args: Any) -> bool:
        return False

    def save_model(self, request: HttpRequest, job: ImportJob, form: Any, _change: Any) -> None:
        """Save only what the form contains. Other columns may have changed since it was loaded."""
        job.save(update_fields=["concurrency"])
        form.move(request.user)

    def get_search_fields(self, _request: HttpRequest) -> list[str]:
        return ["id", "file_name", "idempotency_key", f"submitter__{get_user_model().USERNAME_FIELD}", "problems"]

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Search also for the term as JSON has it: SQLite stores the problems with escapes for all but ASCII."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        escaped = json.dumps(search_term)[1:-1]
        if escaped != search_term:
            found |= super().get_search_results(request, queryset, escaped)[0]
        return found, may_repeat

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).with_counts()  # type: ignore[attr-defined] # the model's own queryset

    # --- the list

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        shown = figures() if self.has_view_permission(request) else []
        context = {"figures": shown, "now_url": reverse("admin:bulk_import_importsnow_changelist")}
        return super().changelist_view(request, {**(extra_context or {}), **context})

    @admin.display(description=gettext_lazy("import job"), ordering="target")
    def job(self, job: ImportJob) -> SafeString:
        """Show the first 8 characters of the ID, so that the table fits. The search finds a job by any part of it.

        An import that does more than create objects has its mode below.
        """
        mode = "" if job.mode == JobMode.CREATE else job.get_mode_display()
        name = format_html('<small title="{0}"><bdi>{0}</bdi></small>', job.file_name) if job.file_name else ""
        note = format_html("<small>{}</small>", mode) if mode else ""
        return format_html('<span title="{}">{} {}</span>{}{}', job.pk, job.target, str(job.pk)[:8], note, name)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def state(self, job: ImportJob) -> SafeString:
        return badge(job)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, job: ImportJob) -> SafeString:
        finished, rows = grouped(job.finished_rows), grouped(job.rows)
        rate = rows_per_second(job)
        speed = "" if rate is None else format_html(" · {}/s", number_format(rate, 1))
        return format_html("{}<br><small>{} / {}{}</small>", progress_bar(job), finished, rows, speed)

    @admin.display(description=gettext_lazy("imported"))
    def imported_rows(self, job: ImportJob) -> str:
        return grouped(job.done_count)

    @admin.display(description=gettext_lazy("not imported"))
    def other_rows(self, job: ImportJob) -> str:
        return grouped(job.finished_rows - job.done_count)

    @admin.display(description=gettext_lazy("age"), ordering="created_at")
    def age(self, job: ImportJob) -> str:
        return timesince(job.created_at, timezone.now(), depth=1)

    @admin.action(description=gettext_lazy("Stop all imports of this user"), permissions=["change"])
    def stop_user(self, request: HttpRequest, jobs: QuerySet[Any]) -> HttpResponseRedirect | None:
        """Redirect to the page that asks for confirmation before all jobs of this submitter are cancelled."""
        if len({job.submitter_id for job in jobs}) != 1:
            self.message_user(request, _("Select imports of one user only."), messages.ERROR)
            return None
        return HttpResponseRedirect(reverse("admin:bulk_import_importjob_act", args=[jobs[0].pk, "stop-user"]))

    # --- one job

    def get_urls(self) -> list[Any]:
        views: list[tuple[str, Any, str]] = [
            ("do/<str:name>/", self.act_on_many, "bulk_import_importjob_bulk"),
            ("<uuid:job_id>/do/<str:name>/", self.act, "bulk_import_importjob_act"),
            ("<uuid:job_id>/failures/", self.download_failures, "bulk_import_importjob_failures"),
            ("<uuid:job_id>/payload/", self.download_payload, "bulk_import_importjob_payload"),
            ("<uuid:job_id>/results/", self.download_results, "bulk_import_importjob_results"),
        ]
        own = [
            path(route, answer_out_of_order(without_atomic_requests(self.admin_site.admin_view(view))), name=name)
            for route, view, name in views
        ]
        return own + super().get_urls()

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        job: ImportJob = context["original"]
        may_act = self.has_change_permission(request, job)
        context |= {**describe(job, request), "downloads": downloads(job, request), "last_index": job.rows - 1}
        context |= {"possible_actions": possible_actions(job) if may_act else []}
        return super().render_change_form(request, context, *args, **kwargs)
