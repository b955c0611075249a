"""All paths of the API end with a slash, also that of the bulk endpoint."""

from django.urls import include, path

from tests.monoliths.shop.api import create_or_list

CASE = {"url_name": "items", "bulk_path": "/api/items/bulk/"}

urlpatterns = [
    path("api/items/bulk/", include("bulk_import.urls"), {"target": "items"}),
    path("api/items/", create_or_list, name="items"),
]
