"""The public API of one target. Mount it once for each target, with the target's name and without a trailing slash:

    path("products/bulk", include("bulk_import.urls"), {"target": "products"})

Every URL also works with a trailing slash. The OpenAPI schema does not list the URLs with a trailing slash. The URLs
accept any text as the job's ID and as the row's index, so that the API responds to a wrong one with a 404 in JSON.
"""

from django.urls import include, path

from bulk_import.api import views

urlpatterns = [
    path("", views.ImportJobsView.as_view(), name="bulk-import-jobs"),
    path(
        "/",
        include(
            [
                path("", views.ImportJobsView.as_view(schema=None)),
                path("<str:job_id>", views.ImportJobView.as_view(), name="bulk-import-job"),
                path("<str:job_id>/", views.ImportJobView.as_view(schema=None)),
                path("<str:job_id>/failures", views.FailuresView.as_view(), name="bulk-import-failures"),
                path("<str:job_id>/failures/", views.FailuresView.as_view(schema=None)),
                path("<str:job_id>/failures/<str:index>", views.FailureView.as_view(), name="bulk-import-failure"),
                path("<str:job_id>/failures/<str:index>/", views.FailureView.as_view(schema=None)),
                path("<str:job_id>/retry", views.RetryView.as_view(), name="bulk-import-retry"),
                path("<str:job_id>/retry/", views.RetryView.as_view(schema=None)),
                path("<str:job_id>/redrive", views.RedriveView.as_view(), name="bulk-import-redrive"),
                path("<str:job_id>/redrive/", views.RedriveView.as_view(schema=None)),
            ],
        ),
    ),
]
