"""The public API of one target. Mount it once for each target, with the target's name:

    path("products/bulk", include("bulk_import.urls"), {"target": "products"})

Every URL works with and without a trailing slash. The API's schema lists only the URLs without one. A job's ID and a
row's index may be any text in the URL, so that the API can answer a wrong one with its own 404 in JSON.

The mount itself may also end with a slash: `path("products/bulk/", …)`. The URLs for such a mount begin without a slash
and accept only a UUID as the job's ID. On a mount without a slash, they would also match `/products/bulktemplate`. That
is a 404 of the site, because only the mount decides what `/products/bulk…` means; see `after_slash`.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.urls import URLPattern, include, path

from bulk_import.api import actions, downloads, views

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest


def after_slash(pattern: URLPattern) -> URLPattern:
    """Return the pattern with a view that raises Http404 unless the mount before the pattern ends with a slash."""
    view: Callable[..., Any] = pattern.callback

    @wraps(view)  # also copies the attributes by which the OpenAPI schema and DRF know the view
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        match = request.resolver_match
        mount = match.route.removesuffix(str(pattern.pattern)) if match else ""
        if mount and not mount.endswith("/"):
            raise Http404
        return view(request, *args, **kwargs)

    return URLPattern(pattern.pattern, checked, pattern.default_args, pattern.name)


def job_urls(job_id: str) -> list[URLPattern]:
    """Return the URLs of a job. `job_id` is the part of the route that matches the job's ID."""
    found = []
    for suffix, view in {
        "": views.ImportJobView,
        "/failures": downloads.FailuresView,
        "/failures/<str:index>": downloads.FailureView,
        "/results": downloads.ResultsView,
        "/results/<str:index>": downloads.ResultView,
        "/retry": actions.RetryView,
        "/run": actions.RunView,
        "/correct": actions.CorrectView,
        "/undo": actions.UndoView,
        "/redrive": actions.RedriveView,
        "/resume": actions.ResumeView,
    }.items():
        found += [
            path(f"{job_id}{suffix}", view.as_view()),
            path(f"{job_id}{suffix}/", view.as_view(schema=None)),
        ]
    return found


template_urls = [
    path("template", downloads.TemplateView.as_view()),
    path("template/", downloads.TemplateView.as_view(schema=None)),
]

urlpatterns = [
    path("", views.ImportJobsView.as_view(), name="bulk-import-jobs"),
    path(
        "/",
        include([path("", views.ImportJobsView.as_view(schema=None)), *template_urls, *job_urls("<str:job_id>")]),
    ),
    *map(after_slash, [*template_urls, *job_urls("<uuid:job_id>")]),  # for a mount that ends with a slash
]
