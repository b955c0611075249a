"""The site reads from a replica and writes to the primary."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

SETTINGS = {
    "DATABASE_ROUTERS": ["tests.monoliths.shop.around.ReplicaRouter"],
    "DATABASES": {"replica": {"ENGINE": "django.db.backends.sqlite3", "NAME": "default.sqlite3"}},
}
CASE = {"url_name": "items", "report": "Databases: default (written), replica."}

urlpatterns = [path("items/", create_or_list, name="items")]
