"""The public API of one target. Mount it once for each target, with the target's name:

    path("products/bulk", include("bulk_import.urls"), {"target": "products"})

Every URL works with and without a trailing slash; the API's schema leaves the variants with one out. The converters of
the job's id and the row's index accept any text, so that the API answers a wrong one with its own 404 in JSON.

It also works with a trailing slash, `path("products/bulk/", …)`. Then a job's id must be a UUID: Django cannot tell
where the URL is mounted, and any other text would also match `/products/bulky` of a mount without a trailing slash.
"""

from django.urls import URLPattern, include, path

from bulk_import.api import views


def job_urls(job_id: str) -> list[URLPattern]:
    """Return the URLs of a job. `job_id` is the part of the path with its id."""
    found = []
    for suffix, view in {
        "": views.ImportJobView,
        "/failures": views.FailuresView,
        "/failures/<str:index>": views.FailureView,
        "/retry": views.RetryView,
        "/redrive": views.RedriveView,
    }.items():
        found += [
            path(f"{job_id}{suffix}", view.as_view()),
            path(f"{job_id}{suffix}/", view.as_view(schema=None)),
        ]
    return found


urlpatterns = [
    path("", views.ImportJobsView.as_view(), name="bulk-import-jobs"),
    path("/", include([path("", views.ImportJobsView.as_view(schema=None)), *job_urls("<str:job_id>")])),
    *job_urls("<uuid:job_id>"),  # for a mount with a trailing slash
]
