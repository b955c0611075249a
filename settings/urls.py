"""The stand-in monolith's URLs. The two lines that include `bulk_import` are all it takes to bolt it on."""

from django.apps import apps
from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("products/", include("products.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    *staticfiles_urlpatterns(),  # the style sheets of the admin and of the API's page; with DEBUG only
]

if apps.is_installed("drf_spectacular_sidecar"):  # in local settings only
    urlpatterns.append(path("api/docs/", SpectacularSwaggerView.as_view(), name="docs"))
