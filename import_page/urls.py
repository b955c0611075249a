"""The URL of the import page. Include it once for each target, with the name of the target:

    path("products/import/", include("import_page.urls"), {"target": "products"})
    path("orders/import/", include("import_page.urls", namespace="import-orders"), {"target": "orders"})

The page needs the API of the same target, mounted with `bulk_import.urls`.
"""

from django.urls import path

from import_page import views

app_name = "import_page"

urlpatterns = [path("", views.ImportPage.as_view(), name="import")]
