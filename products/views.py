from django.db import transaction
from rest_framework import viewsets
from rest_framework.serializers import BaseSerializer
from rest_framework.throttling import BaseThrottle, ScopedRateThrottle

from products.models import Product
from products.serializers import ProductSerializer


class ProductViewSet(viewsets.ModelViewSet[Product]):
    queryset = Product.objects.select_related("category").order_by("id")
    serializer_class = ProductSerializer
    lookup_value_regex = "[0-9]+"
    throttle_scope = "products"

    def get_throttles(self) -> list[BaseThrottle]:
        return [ScopedRateThrottle()] if self.action == "create" else []

    @transaction.atomic
    def perform_create(self, serializer: BaseSerializer[Product]) -> None:
        serializer.save()  # writes the product and its first stock movement, or neither of them
