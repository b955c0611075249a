from io import StringIO

import pytest
from django.core.management import call_command

from products.models import Category, Product, StockMovement
from products.validators import validate_ean13

pytestmark = pytest.mark.django_db


def seed() -> str:
    output = StringIO()
    call_command("seed_shop", stdout=output)
    return output.getvalue()


def test_seeding_creates_categories_and_products() -> None:
    """One of the categories is archived, and each product has its initial stock movement."""
    assert seed() == "The shop has 11 categories and 2 products.\n"
    assert list(Category.objects.filter(is_open=False).values_list("slug", flat=True)) == ["ski-rental"]
    assert StockMovement.objects.count() == 2


def test_seeding_twice_changes_nothing() -> None:
    """The command is idempotent: a second run does not overwrite a change made by staff."""
    seed()
    Product.objects.filter(sku="TENT-RIDGE-2").update(stock=1)

    assert seed() == "The shop has 11 categories and 2 products.\n"
    assert Product.objects.get(sku="TENT-RIDGE-2").stock == 1
    assert StockMovement.objects.count() == 2


def test_seeded_products_are_valid() -> None:
    """The command does not validate the products, so this test does."""
    seed()

    for product in Product.objects.all():
        product.full_clean()
        validate_ean13(product.barcode or "")
