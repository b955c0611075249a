"""The URL of the endpoint has a version and the ID of a parent."""

from django.urls import path

from tests.monoliths.shop.api import ItemViewSet

SETTINGS = {
    "REST_FRAMEWORK": {
        "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.URLPathVersioning",
        "ALLOWED_VERSIONS": ["v1"],
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    }
}
CASE = {
    "url_name": "items",
    "init": ["--kwargs", "version=v1", "store=7"],
    "bulk_path": "/api/v1/stores/7/items/bulk",
    "query": "SELECT sku, seen FROM shop_item ORDER BY sku",
    "stored": [["A", "v1 7"], ["B", "v1 7"]],
}


class NestedViewSet(ItemViewSet):
    def seen(self) -> str:
        return f"{self.request.version} {self.kwargs['store']}"


view = NestedViewSet.as_view({"post": "create"})
urlpatterns = [path("api/<str:version>/stores/<int:store>/items/", view, name="items")]
