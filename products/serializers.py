from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from products.models import Category, Product


class ProductSerializer(serializers.ModelSerializer[Product]):
    category = serializers.SlugRelatedField(
        label=_("Category"),
        slug_field="slug",
        queryset=Category.objects.all(),
        error_messages={"does_not_exist": _("There is no category “{value}”.")},
    )

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
        # Most products come from spreadsheets, where a price is often written with a comma or a currency sign.
        extra_kwargs = {
            "price": {"error_messages": {"invalid": _("This is not a number. Write it like this: 12.50.")}},
            "currency": {"error_messages": {"invalid_choice": _("“{input}” is not a currency of this shop.")}},
            "stock": {"error_messages": {"invalid": _("This is not a whole number. Write it like this: 12.")}},
            "weight_kg": {"error_messages": {"invalid": _("This is not a number. Write it like this: 1.250.")}},
        }

    def validate_category(self, category: Category) -> Category:
        if not category.is_open:
            raise serializers.ValidationError(
                _("The category “%s” is archived and takes no new products.") % category.slug,
                code="category_closed",
            )
        return category

    def validate_barcode(self, barcode: str | None) -> str | None:
        """Store an empty barcode as null, so that it does not collide with other empty barcodes."""
        return barcode or None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        is_active = attrs.get("is_active", self.instance.is_active if self.instance else True)
        price = attrs["price"] if "price" in attrs or self.instance is None else self.instance.price
        if is_active and price <= 0:
            raise serializers.ValidationError(
                {"price": _("An active product needs a price above zero.")},
                code="price_required",
            )
        return attrs
