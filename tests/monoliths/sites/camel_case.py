"""Clients send and receive camelCase names."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "REST_FRAMEWORK": {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_PARSER_CLASSES": ["tests.monoliths.shop.formats.CamelCaseParser"],
        "DEFAULT_RENDERER_CLASSES": ["tests.monoliths.shop.formats.CamelCaseRenderer"],
    }
}
CASE = {
    "url_name": "items",
    "rows": [{"sku": "A", "name": "Tent", "unitPrice": "1.50"}, {"sku": "B", "name": "Stove", "unitPrice": "2.25"}],
    "query": "SELECT sku, unit_price FROM shop_item ORDER BY sku",
    "stored": [["A", 1.5], ["B", 2.25]],
}

urlpatterns = [path("items/", create_or_list, name="items")]
