"""A proxy replaces the host, and the site reads it from X-Forwarded-Host."""

from django.urls import path

from tests.monoliths.shop.api import ItemViewSet

SETTINGS = {
    "ALLOWED_HOSTS": ["127.0.0.1", ".shop.example"],
    "WSGI_APPLICATION": "tests.monoliths.shop.wsgi.behind_rewriting_proxy",
}
CASE = {
    "url_name": "items",
    "host": "north.shop.example",
    "told": '"HOST_HEADER": "X-Forwarded-Host"',
    "fix": "USE_X_FORWARDED_HOST = True",
    "report": "Host north.shop.example",
    "query": "SELECT sku, seen FROM shop_item ORDER BY sku",
    "stored": [["A", "north.shop.example"], ["B", "north.shop.example"]],
}


class HostViewSet(ItemViewSet):
    def seen(self) -> str:
        return self.request.get_host()


urlpatterns = [path("items/", HostViewSet.as_view({"post": "create"}), name="items")]
