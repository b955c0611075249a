"""The public API of one target. Mount once for each, with the target's name, without a trailing slash:

path("products/bulk", include("bulk_import.urls"), {"target": "products"})
"""

from django.urls import re_path

from bulk_import import views

# Written as a class because Django warns of a pattern that begins with a plain slash (urls.W002), which is
# right for most; here it lets the mount point itself be called with and without a trailing slash.
JOB = r"^[/](?P<job_id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"

urlpatterns = [
    re_path(r"^[/]?$", views.ImportJobsView.as_view(), name="bulk-import-jobs"),
    re_path(rf"{JOB}/?$", views.ImportJobView.as_view(), name="bulk-import-job"),
    re_path(rf"{JOB}/failures/?$", views.FailuresView.as_view(), name="bulk-import-failures"),
]
