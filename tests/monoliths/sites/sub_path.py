"""The server mounts the site below /shop, so the worker needs this prefix in its base URL."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {"WSGI_APPLICATION": "tests.monoliths.shop.wsgi.below_shop"}
CASE = {"url_name": "items", "told": "BULK_IMPORT_BASE_URL", "fixed_prefix": "/shop"}

urlpatterns = [path("items/", create_or_list, name="items")]
