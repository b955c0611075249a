"""The page "Imports now": how fast all imports run, what each worker does, and what staff should look at first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from bulk_import.admin import advice, now
from bulk_import.admin.endpoint import endpoints
from bulk_import.models import ImportsNow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from django.utils.functional import _StrPromise


@admin.register(ImportsNow)
class ImportsNowAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """The page has no objects of its own. Staff who may view import jobs may view it."""

    class Media:
        css = {"all": ["bulk_import/admin.css"]}
        js = ["bulk_import/admin.js"]

    def has_view_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return bool(request.user.has_perm("bulk_import.view_importjob"))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, *_args: Any) -> bool:
        return False

    def has_change_permission(self, *_args: Any) -> bool:
        return False

    def has_delete_permission(self, *_args: Any) -> bool:
        return False

    def get_urls(self) -> list[Any]:
        """Return only the page. Its name is that of a list, which the admin's index links."""
        return [path("", self.admin_site.admin_view(self.page), name="bulk_import_importsnow_changelist")]

    def page(self, request: HttpRequest) -> TemplateResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": capfirst(self.opts.verbose_name_plural),
            "media": self.media,
            **report(),
        }
        return TemplateResponse(request, "admin/bulk_import/importsnow/page.html", context)


def report() -> dict[str, Any]:
    """Return the context of the page's template. The number of queries is always the same."""
    claimed, claimed_counts = now.in_flight()
    paused, paused_count = now.paused()
    dead_jobs, dead_count = now.dead()
    found: dict[str, Any] = {
        "rate": now.rate(),
        "endpoints": endpoints(),
        "claimed": claimed,
        "claimed_count": claimed_counts["all"],
        "lost_count": claimed_counts["lost"],
        "oldest": now.oldest_queued(),
        "waiting": now.waiting(),
        "paused": paused,
        "paused_count": paused_count,
        "dead_jobs": dead_jobs,
        "dead_count": dead_count,
        "dead_advice": advice.DEAD,
        "no_worker": advice.NO_WORKER,
    }
    return found | {"alerts": list(alerts(found))}


def alerts(found: dict[str, Any]) -> Iterator[tuple[str, str, _StrPromise | str]]:
    """Yield what staff should look at: the ID of its section on the page, what it is, and what they can do."""
    if lost := found["lost_count"]:
        text = ngettext("%(count)s worker is lost.", "%(count)s workers are lost.", lost)
        is_overdue = any(line.is_overdue for line in found["claimed"])
        yield "bi-workers", text % {"count": lost}, advice.RELAY_LATE if is_overdue else advice.WORKER_LOST
    if count := found["dead_count"]:
        text = ngettext("%(count)s chunk is dead.", "%(count)s chunks are dead.", count)
        yield "bi-dead", text % {"count": count}, advice.DEAD
    for endpoint in found["endpoints"]:
        if trouble := endpoint.trouble:
            text, what_to_do = trouble
            yield "bi-endpoints", f"{endpoint.target}: {text}", what_to_do
    if found["oldest"] and found["oldest"].is_alarming:
        since = {"time": found["oldest"].since}
        yield "bi-waiting", _("A chunk has been waiting for a worker for %(time)s.") % since, advice.NO_WORKER
    if count := found["paused_count"]:
        text = ngettext("%(count)s import is paused.", "%(count)s imports are paused.", count)
        what_to_do = {str(what_to_do) for _job, _since, what_to_do in found["paused"]}
        yield (
            "bi-paused",
            text % {"count": count},
            what_to_do.pop() if len(what_to_do) == 1 else _("See the reason of each import below."),
        )
