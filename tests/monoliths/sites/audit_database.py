"""The view also writes to another database, which no setting shows. Only a probe finds it."""

from typing import Any

from django.urls import path

from tests.monoliths.shop.api import ItemViewSet
from tests.monoliths.shop.models import LogEntry

SETTINGS = {"DATABASES": {"audit": {"ENGINE": "django.db.backends.sqlite3", "NAME": "audit.sqlite3"}}}
CASE = {"url_name": "items", "told": "The endpoint writes to audit, and the ledger is in default", "is_refused": True}


class AuditedViewSet(ItemViewSet):
    def perform_create(self, serializer: Any) -> None:
        LogEntry.objects.using("audit").create(text="created")
        super().perform_create(serializer)


urlpatterns = [path("items/", AuditedViewSet.as_view({"post": "create"}), name="items")]
