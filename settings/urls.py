"""The stand-in monolith's URLs. The two lines that include `bulk_import` are all it takes to bolt it on."""

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/", include("products.urls")),
    *staticfiles_urlpatterns(),  # the admin's style sheets; with DEBUG only
]
