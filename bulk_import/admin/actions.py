"""The actions that staff can perform on an import.

Each action asks for confirmation first. A double click has one effect. Each action is recorded in the admin's
history.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from bulk_import import operations
from bulk_import.admin.job_page import badge
from bulk_import.exceptions import Expired, OuterTransaction, SentAgain
from bulk_import.reports.messages import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase
    from django.utils.functional import _StrPromise

    from bulk_import.models import ImportJob


@dataclass(frozen=True)
class Action:
    """One action and its texts.

    `perform` takes the job and the acting user. It returns a falsy value if nothing changed, for example because
    another member of staff performed the action first.
    """

    name: str
    label: _StrPromise  # text of the button
    consequence: _StrPromise  # shown when the page asks for confirmation
    done: _StrPromise  # shown afterwards, and written to the admin's history
    perform: Callable[[ImportJob, Any], int]
    is_possible: Callable[[ImportJob], bool]
    is_dangerous: bool = False


def has_dead_chunks(job: ImportJob) -> bool:
    return bool(job.chunks.dead().exists())


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "pause",
            _("Pause"),
            _("Calls that are in progress finish. No further row is created until staff resume the import."),
            _("The import was paused."),
            operations.pause,
            lambda job: job.can_be_cancelled and not job.is_paused_by_staff,
        ),
        Action(
            "resume",
            _("Resume"),
            _("The import continues now, even if it was paused automatically."),
            _("The import was resumed."),
            operations.resume,
            lambda job: job.is_paused,
        ),
        Action(
            "move-to-front",
            _("Move to the front"),
            _("The next free workers create rows of this import, before those of all other imports."),
            _("The import was moved to the front."),
            operations.move_to_front,
            lambda job: job.can_be_moved_to_front,
        ),
        Action(
            "retry",
            _("Retry"),
            _("All rows that were not created run again. Rows that were created stay as they are."),
            _("The rows that were not created run again."),
            operations.retry,
            lambda job: job.can_be_retried,
        ),
        Action(
            "redrive",
            _("Run dead chunks again"),
            _("The unprocessed rows of dead chunks run again. Rows that were created or rejected stay as they are."),
            _("The unprocessed rows of dead chunks run again."),
            operations.redrive,
            lambda job: has_dead_chunks(job) and not job.expired,
        ),
        Action(
            "cancel",
            _("Cancel the import"),
            _("No further row is created. Rows that were created stay."),
            _("The import is being cancelled."),
            operations.cancel,
            lambda job: job.can_be_cancelled,
            is_dangerous=True,
        ),
        Action(
            "stop-user",
            _("Stop all imports of this user"),
            _("Every open import of the user who submitted this one is cancelled. Rows that were created stay."),
            _("All imports of the user are being cancelled."),
            operations.cancel_all_of_submitter,
            lambda job: operations.open_jobs_of_submitter(job).exists(),
            is_dangerous=True,
        ),
    )
}
"""The actions by name, in the order of their buttons."""


def possible_actions(job: ImportJob) -> list[Action]:
    return [action for action in ACTIONS.values() if action.is_possible(job)]


class ActionViews(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """The views behind the buttons on the page of an import."""

    def get_job(self, request: HttpRequest, job_id: Any) -> ImportJob:
        """Return the job. Raises Http404, and PermissionDenied for users without the view permission."""
        job: ImportJob | None = self.get_object(request, str(job_id))
        if job is None:
            raise Http404
        if not self.has_view_permission(request, job):
            raise PermissionDenied
        return job

    def act(self, request: HttpRequest, job_id: Any, name: str) -> HttpResponseBase:
        """Ask for confirmation on GET, and perform the action on POST."""
        job = self.get_job(request, job_id)
        action = ACTIONS.get(name)
        if action is None:
            raise Http404
        if not self.has_change_permission(request, job):
            raise PermissionDenied
        if request.method == "POST":
            self.perform(request, job, action)
            return self.redirect_to(job)
        return self.confirmation(request, job, action)

    def perform(self, request: HttpRequest, job: ImportJob, action: Action) -> None:
        """Perform the action, record it in the admin's history, and show a message on the next page."""
        try:
            has_changed = action.perform(job, request.user)
        except (Expired, SentAgain, OuterTransaction) as error:  # The rows expired after the page was loaded.
            self.message_user(request, str(error), messages.ERROR)
            return
        if has_changed:
            self.log_change(request, job, str(action.done))
            self.message_user(request, action.done, messages.SUCCESS)
        else:  # Somebody else did it first, or this is the second click of a double click.
            self.message_user(
                request,
                gettext("Nothing changed. This action was already done, or is no longer possible."),
                messages.INFO,
            )

    def confirmation(self, request: HttpRequest, job: ImportJob, action: Action) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": action.label,
            "original": job,
            "action": action,
            "is_possible": action.is_possible(job),
            "badge": badge(job),
            "message": summary(job),
            "media": self.media,
        }
        return TemplateResponse(request, "admin/bulk_import/importjob/confirm.html", context)

    def redirect_to(self, job: ImportJob) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:bulk_import_importjob_change", args=[job.pk]))
