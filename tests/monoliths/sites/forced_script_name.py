"""A proxy strips the prefix, and FORCE_SCRIPT_NAME adds it to links."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {"FORCE_SCRIPT_NAME": "/shop"}
CASE = {"url_name": "items"}

urlpatterns = [path("items/", create_or_list, name="items")]
