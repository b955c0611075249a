"""PgBouncer with statement pooling refuses transactions. Imports cannot work, and the doctor says so."""

from django.urls import path

from tests.monoliths.shop.api import create_or_list

CASE = {
    "url_name": "items",
    "database": "pgbouncer statement",
    "told": "pool_mode = transaction",
    "is_refused": True,
}

urlpatterns = [path("items/", create_or_list, name="items")]
