from django.contrib import admin
from django.http import HttpRequest

from products.models import Category, Product, StockMovement


@admin.register(Category)
class CategoryAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    list_display = ["name", "slug", "is_open"]
    list_filter = ["is_open"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    list_display = ["sku", "name", "category", "price", "currency", "stock", "is_active"]
    list_filter = ["is_active", "category", "currency"]
    list_select_related = ["category"]
    search_fields = ["sku", "name", "barcode"]
    autocomplete_fields = ["category"]
    readonly_fields = ["created_at"]


@admin.register(StockMovement)
class StockMovementAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """Shows the stock movements. The page is read-only."""

    list_display = ["created_at", "product", "quantity", "reason"]
    list_filter = ["reason"]
    list_select_related = ["product"]
    search_fields = ["product__sku", "product__name"]
    date_hierarchy = "created_at"

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        return False

    def has_change_permission(self, request: HttpRequest, obj: StockMovement | None = None) -> bool:  # noqa: ARG002
        return False

    def has_delete_permission(self, request: HttpRequest, obj: StockMovement | None = None) -> bool:  # noqa: ARG002
        return False
