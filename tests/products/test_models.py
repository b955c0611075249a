import re
from pathlib import Path

import pytest
from django.db import IntegrityError
from django.db.models import ProtectedError

import products
from products.models import Category, Product, StockMovement

SOURCES = sorted(Path(products.__file__).parent.rglob("*.py"))


def new_product(category: Category, **fields: object) -> Product:
    return Product(
        **{"sku": "T-1", "name": "Dune", "price": 10, "currency": "EUR", "category": category, **fields},
    )


def test_the_initial_stock_of_a_new_product_is_recorded(tents: Category) -> None:
    """Creating a product with stock creates its first stock movement."""
    product = new_product(tents, stock=7)
    product.save()

    movement = StockMovement.objects.get()
    assert (movement.product, movement.quantity, movement.reason) == (product, 7, "initial")


def test_a_product_without_stock_has_no_movement(tents: Category) -> None:
    """A product that is created with a stock of 0 needs no stock movement."""
    new_product(tents).save()

    assert not StockMovement.objects.exists()


def test_saving_a_product_again_records_nothing(tents: Category) -> None:
    """Only the creation of a product records its initial stock."""
    product = new_product(tents, stock=7)
    product.save()

    product.stock = 9
    product.save()

    assert StockMovement.objects.count() == 1


@pytest.mark.parametrize("fields", [{"price": "-0.01"}, {"weight_kg": "0"}])
def test_the_database_refuses_impossible_numbers(tents: Category, fields: dict[str, str]) -> None:
    """Database constraints refuse values that no serializer has validated."""
    with pytest.raises(IntegrityError):
        new_product(tents, **fields).save()


def test_a_category_with_products_is_not_deleted(tents: Category) -> None:
    """Staff can archive it instead."""
    new_product(tents).save()

    with pytest.raises(ProtectedError):
        tents.delete()


def test_models_have_readable_names(tents: Category) -> None:
    """`str()` shows the category's name, the product's name and SKU, and the movement's quantity and reason."""
    product = new_product(tents, stock=7)
    product.save()

    assert str(tents) == "Tents"
    assert str(product) == "Dune (T-1)"
    assert str(product.stock_movements.get()) == "T-1: +7 (initial stock)"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_shop_knows_nothing_of_imports(source: Path) -> None:
    """No module of the shop imports or names the bulk import app."""
    assert not re.search("bulk.?import", source.read_text(encoding="utf-8"), re.IGNORECASE)
