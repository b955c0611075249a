"""The actions on several selected imports of the list.

Each of them asks for confirmation first, and is recorded in the history of each import that it changed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import ngettext

from bulk_import.admin.actions import ACTIONS, Action
from bulk_import.admin.downloads import DownloadViews
from bulk_import.admin.job_page import badge
from bulk_import.exceptions import Expired, OuterTransaction, SentAgain

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from bulk_import.models import ImportJob

BULK_ACTIONS = ("retry", "pause", "resume", "move-to-front", "cancel")
"""The names of the actions that the list offers, in the order of their buttons."""

MAX_JOBS = 100
"""Maximum number of imports that one request changes, so that it ends before a proxy gives up. A page has fewer."""


class BulkActionViews(DownloadViews):
    """The buttons above the list, and the view that performs their actions."""

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = dict(super().get_actions(request))
        if not self.has_change_permission(request):
            return found
        bulk = {
            name: (partial(type(self).confirm_bulk_action, action=ACTIONS[name]), name, ACTIONS[name].label)
            for name in BULK_ACTIONS
        }
        return {**bulk, **found}

    def confirm_bulk_action(self, request: HttpRequest, jobs: QuerySet[Any], *, action: Action) -> TemplateResponse:
        """Show which of the selected imports the action would change, and ask for confirmation.

        The list keeps its filters and its page, which are in the query string of the URL.
        """
        selected = list(jobs[:MAX_JOBS])
        possible = [job for job in selected if action.is_possible(job)]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": action.label,
            "action": action,
            "jobs": [(job, badge(job)) for job in possible],
            "skipped": len(selected) - len(possible),
            "too_many": jobs.count() - len(selected),
            "max_jobs": MAX_JOBS,
            "query": request.GET.urlencode(),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/bulk_import/importjob/confirm_bulk.html", context)

    def act_on_many(self, request: HttpRequest, name: str) -> HttpResponseBase:
        """Perform the action on the imports in the field `jobs` of the form, and return to the list."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_change_permission(request):
            raise PermissionDenied
        if name not in BULK_ACTIONS:
            raise Http404
        try:
            jobs = list(self.get_queryset(request).filter(pk__in=request.POST.getlist("jobs")[:MAX_JOBS]))
        except ValidationError as error:  # an ID that is no UUID
            raise Http404 from error
        changed = sum(self.perform_quietly(request, job, ACTIONS[name]) for job in jobs)
        text = ngettext("%(label)s: %(changed)s import changed.", "%(label)s: %(changed)s imports changed.", changed)
        level = messages.SUCCESS if changed == len(jobs) else messages.WARNING
        self.message_user(request, text % {"label": ACTIONS[name].label, "changed": changed}, level)
        return HttpResponseRedirect(f"{reverse('admin:bulk_import_importjob_changelist')}?{request.GET.urlencode()}")

    def perform_quietly(self, request: HttpRequest, job: ImportJob, action: Action) -> bool:
        """Perform the action, record it in the history if it had an effect, and return whether it had one."""
        try:
            has_changed = bool(action.perform(job, request.user))
        except (Expired, SentAgain, OuterTransaction) as error:
            self.message_user(request, f"{job}: {error}", messages.ERROR)
            return False
        if has_changed:
            self.log_change(request, job, str(action.done))
        return has_changed
