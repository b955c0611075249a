"""A middleware opens a transaction around each request. Imports cannot work, and the doctor says so."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {"MIDDLEWARE": ["tests.monoliths.shop.around.transaction_middleware"]}
CASE = {"url_name": "items", "told": "Find it in MIDDLEWARE.", "is_refused": True}

urlpatterns = [path("items/", create_or_list, name="items")]
