"""The stand-in monolith's URLs. The two lines that name `bulk_import` are all it takes to bolt it on."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/", include("products.urls")),
]
urlpatterns += staticfiles_urlpatterns()  # the admin's style sheets; with DEBUG only
