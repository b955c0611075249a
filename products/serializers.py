from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from products.models import Category, Product


class ProductSerializer(serializers.ModelSerializer[Product]):
    category = serializers.SlugRelatedField(slug_field="slug", queryset=Category.objects.all())

    class Meta:
        model = Product
        fields = [
            "id",
            "sku",
            "name",
            "description",
            "price",
            "currency",
            "stock",
            "category",
            "weight_kg",
            "color",
            "size",
            "barcode",
            "is_active",
            "created_at",
        ]
        read_only_fields = ["id", "created_at"]

    def validate_category(self, category: Category) -> Category:
        if not category.is_open:
            raise serializers.ValidationError(
                _("The category “%s” is archived and takes no new products.") % category.slug,
                code="category_closed",
            )
        return category

    def validate_barcode(self, barcode: str | None) -> str | None:
        return barcode or None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("is_active", True) and attrs["price"] <= 0:
            raise serializers.ValidationError(
                {"price": _("An active product needs a price above zero.")},
                code="price_required",
            )
        return attrs
