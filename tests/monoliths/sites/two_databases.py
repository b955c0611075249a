"""A router keeps the items in another database than the users. Imports cannot work, and `check` says so."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "DATABASE_ROUTERS": ["tests.monoliths.shop.around.CatalogueRouter"],
    "DATABASES": {"catalogue": {"ENGINE": "django.db.backends.sqlite3", "NAME": "catalogue.sqlite3"}},
}
CASE = {"url_name": "items", "told": "in one database", "is_refused": True}

urlpatterns = [path("items/", create_or_list, name="items")]
