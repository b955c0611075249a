"""The site runs under ASGI."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

CASE = {"url_name": "items", "server": "asgi"}

urlpatterns = [path("items/", create_or_list, name="items")]
