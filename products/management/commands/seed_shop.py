from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from products.models import Category, Product

OPEN_CATEGORIES = {
    "tees": "Tees",
    "hoodies-sweatshirts": "Hoodies & Sweatshirts",
    "jackets": "Jackets",
    "pants": "Pants",
    "shorts": "Shorts",
    "backpacks": "Backpacks",
    "tents": "Tents",
    "footwear": "Footwear",
    "sleeping-bags": "Sleeping Bags",
    "cookware": "Cookware",
}
ARCHIVED_CATEGORIES = {"ski-rental": "Ski Rental"}

PRODUCTS: dict[str, dict[str, Any]] = {
    "TENT-RIDGE-2": {
        "name": "Tarnfell Ridge 2 Tent",
        "description": "Freestanding three-season tent for two, with a vestibule on either side.",
        "price": Decimal("389.00"),
        "currency": Product.Currency.USD,
        "stock": 14,
        "category": "tents",
        "weight_kg": Decimal("1.980"),
        "color": "Lichen",
        "size": "2 person",
        "barcode": "2041760001201",
    },
    "BAG-ALPINE-35": {
        "name": "Brackenfold Alpine 35 Backpack",
        "description": "Slim climbing pack with a removable lid and a sleeve for two ice tools.",
        "price": Decimal("179.50"),
        "currency": Product.Currency.EUR,
        "stock": 22,
        "category": "backpacks",
        "weight_kg": Decimal("1.140"),
        "color": "Slate",
        "size": "35 L",
        "barcode": "2052310003507",
    },
}


class Command(BaseCommand):
    help = "Creates the shop's categories and first products. Existing ones are not changed."

    @transaction.atomic
    def handle(self, *_args: object, **_options: object) -> None:
        for slug, name in OPEN_CATEGORIES.items():
            Category.objects.get_or_create(slug=slug, defaults={"name": name})
        for slug, name in ARCHIVED_CATEGORIES.items():
            Category.objects.get_or_create(slug=slug, defaults={"name": name, "is_open": False})
        for sku, fields in PRODUCTS.items():
            category = Category.objects.get(slug=fields["category"])
            Product.objects.get_or_create(sku=sku, defaults={**fields, "category": category})
        self.stdout.write(
            f"The shop has {Category.objects.count()} categories and {Product.objects.count()} products.",
        )
