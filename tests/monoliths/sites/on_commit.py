"""The view passes a function to on_commit. It runs once for each row, and never for a probe."""

from typing import Any

from django.db import transaction
from django.urls import path

from tests.monoliths.shop.api import ItemViewSet
from tests.monoliths.shop.models import LogEntry

CASE = {
    "url_name": "items",
    "report": "1 on_commit functions would run after the commit.",
    "query": "SELECT text FROM shop_logentry ORDER BY text",
    "stored": [["A"], ["B"]],
}


class NotifyingViewSet(ItemViewSet):
    def perform_create(self, serializer: Any) -> None:
        super().perform_create(serializer)
        transaction.on_commit(lambda: LogEntry.objects.create(text=serializer.data["sku"]))


urlpatterns = [path("items/", NotifyingViewSet.as_view({"post": "create"}), name="items")]
