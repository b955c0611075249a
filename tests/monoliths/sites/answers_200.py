"""The endpoint answers 200 to a creation."""

from typing import Any

from django.urls import path
from rest_framework.response import Response

from tests.monoliths.shop.api import ItemViewSet

CASE = {
    "url_name": "items",
    "told": 'Add "success_statuses": [200] to TARGETS["items"].',
    "fix": 'BULK_IMPORT["TARGETS"]["items"]["success_statuses"] = [200]',
}


class PoliteViewSet(ItemViewSet):
    def create(self, *args: Any, **kwargs: Any) -> Response:
        return Response(super().create(*args, **kwargs).data)


urlpatterns = [path("items/", PoliteViewSet.as_view({"post": "create"}), name="items")]
