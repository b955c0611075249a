"""The public API of one target. Mount it once for each target, with the target's name:

    path("products/bulk", include("bulk_import.urls"), {"target": "products"})

Every URL works with and without a trailing slash. The API's schema lists only the URLs without one. A job's ID and a
row's index may be any text in the URL, so that the API can answer a wrong one with its own 404 in JSON.

The mount itself may also end with a slash: `path("products/bulk/", …)`. The URLs for such a mount begin without a slash
and accept only a UUID as the job's ID. If they accepted any text, a mount without a slash would also match
`/products/bulky`, with "y" as the ID.
"""

from django.urls import URLPattern, include, path

from bulk_import.api import actions, downloads, views


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
    *template_urls,  # these are for a mount with a trailing slash
    *job_urls("<uuid:job_id>"),
]
