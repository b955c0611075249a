"""A gateway rejects the scheme of import tokens in the Authorization header."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {"WSGI_APPLICATION": "tests.monoliths.shop.wsgi.behind_gateway"}
CASE = {
    "url_name": "items",
    "told": '"TOKEN_HEADER": "X-Import-Token"',
    "fix": 'BULK_IMPORT["TOKEN_HEADER"] = "X-Import-Token"',
}

urlpatterns = [path("items/", create_or_list, name="items")]
