"""The serializer and the view that the monoliths vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import get_language
from rest_framework import serializers, viewsets

from tests.monoliths.shop.models import Item

if TYPE_CHECKING:
    from collections.abc import Callable


class ItemSerializer(serializers.ModelSerializer[Item]):
    class Meta:
        model = Item
        fields = ["id", "sku", "name", "unit_price"]


class ItemViewSet(viewsets.ModelViewSet[Item]):
    queryset = Item.objects.order_by("sku")
    serializer_class = ItemSerializer

    def perform_create(self, serializer: Any) -> None:
        serializer.save(seen=self.seen())

    def seen(self) -> str:
        """Return what the item remembers of the request that created it."""
        request = self.request
        client, address = request.META.get("REMOTE_ADDR"), request.build_absolute_uri()
        return f"{request.user} {client} {request.method} {address} {request.content_type} {get_language()}"


create_or_list: Callable[..., Any] = ItemViewSet.as_view({"get": "list", "post": "create"})
