"""A middleware chooses the tenant by the host of the request."""

from typing import Any

from django.urls import path

from tests.monoliths.shop.api import ItemViewSet

SETTINGS = {
    "ALLOWED_HOSTS": ["127.0.0.1", ".shop.example"],
    "MIDDLEWARE": ["tests.monoliths.shop.around.tenant_middleware"],
}
CASE = {
    "url_name": "items",
    "host": "north.shop.example",
    "report": "Host north.shop.example, tenant north.",
    "query": "SELECT sku, seen FROM shop_item ORDER BY sku",
    "stored": [["A", "north"], ["B", "north"]],
}


class TenantViewSet(ItemViewSet):
    def seen(self) -> str:
        request: Any = self.request
        return str(request.tenant)


urlpatterns = [path("items/", TenantViewSet.as_view({"post": "create"}), name="items")]
