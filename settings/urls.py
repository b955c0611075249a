"""URLs of the example monolith. The two lines that include `bulk_import` are the only ones that the import requires.

`bulk_import.metrics` is optional: it reports metrics to Prometheus.
"""

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from bulk_import.metrics import metrics
from import_page.views import SignIn
from settings import schema  # noqa: F401 - its import registers it

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("products/bulk", include("bulk_import.urls"), {"target": "products"}),
    path("bulk-import/worker/", include("bulk_import.worker_urls")),
    path("bulk-import/metrics", metrics),
    path(
        "products/import/",
        include("import_page.urls"),
        {"target": "products", "example": "import_page/example.csv"},
    ),
    path("products/", include("products.urls")),
    path("sign-in/", SignIn.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    *staticfiles_urlpatterns(),  # static files of the admin and the API's documentation page; with DEBUG only
]

if apps.is_installed("drf_spectacular_sidecar"):  # in local settings only
    urlpatterns.append(path("api/docs/", SpectacularSwaggerView.as_view(), name="docs"))
