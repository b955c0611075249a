"""The public API of one target. Mount once for each, with the target's name, without a trailing slash:

path("products/bulk", include("bulk_import.urls"), {"target": "products"})

Every address also works with a trailing slash, which the API's schema does not mention. A job's id and a
row's index are any text here, so that a wrong one is answered by the API and not by a page.
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
