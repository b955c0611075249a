"""The hash of an object's columns, which the database computes, tells any two values of a column apart."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from bulk_import.object_hash import object_hash
from products.models import Category, Product

pytestmark = pytest.mark.django_db

COLUMNS: dict[str, list[Any]] = {
    "name": ["", "A", "a", "NULL", "'A'", 'A"', "A,B", "A\\", "(", "Ä", "日本", "A\n", " A", "1"],
    "description": ["", "A", "A,B"],
    "price": ["0.00", "1.00", "10.00"],
    "weight_kg": [None, "1.000", "0.100"],
    "barcode": [None, "NULL", "4006381333931"],
    "is_active": [True, False],
}


def test_each_value_of_a_column_has_a_hash_of_its_own() -> None:
    category = Category.objects.create(slug="hashed", name="Hashed")
    pk = Product.objects.create(sku="A", name="A", description="B", price=5, currency="EUR", category=category).pk
    hashes = {object_hash(Product, "pk", pk)}

    for column, values in COLUMNS.items():
        before = Product.objects.filter(pk=pk).values(column).get()
        found = []
        has_nul = connection.vendor == "sqlite" and column == "name"  # PostgreSQL refuses this character
        for value in [*values, *(["A\0", "A\0A", "A\0B"] if has_nul else [])]:
            Product.objects.filter(pk=pk).update(**{column: value})
            found.append(object_hash(Product, "pk", pk))
        Product.objects.filter(pk=pk).update(**before)
        assert len(set(found)) == len(found), column
        hashes.add(object_hash(Product, "sku", "A"))

    assert len(hashes) == 1  # the same columns again, found by another unique field
    assert object_hash(Product, "pk", pk + 1) == b""


def test_values_do_not_move_from_one_column_to_the_next() -> None:
    category = Category.objects.create(slug="hashed", name="Hashed")
    product = Product.objects.create(sku="A", name="A", price=5, currency="EUR", category=category)
    found = set()
    for color, size in [("A", ""), ("", "A"), ("A,B", "C"), ("A", "B,C"), ("','", ""), ("", "','")]:
        Product.objects.filter(pk=product.pk).update(color=color, size=size)
        found.add(object_hash(Product, "pk", product.pk))

    assert len(found) == 6


class Visible(models.Manager[Any]):
    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().filter(is_hidden=False)


@pytest.mark.django_db(transaction=True)
@isolate_apps("products")
def test_an_object_that_the_managers_of_its_model_hide_has_a_hash_as_well() -> None:
    """Its row would fail otherwise. The name of the column is the one that Django would give to the hash."""

    class Drawer(models.Model):  # noqa: DJ008 - for this test only
        is_hidden = models.BooleanField()
        hash1 = models.DecimalField(max_digits=5, decimal_places=2, null=True)

        objects = Visible()

        class Meta:
            app_label = "products"
            base_manager_name = "objects"

    with connection.schema_editor() as editor:
        editor.create_model(Drawer)
    try:
        drawers = [Drawer.objects.create(is_hidden=hidden) for hidden in (True, False)]
        found = [object_hash(Drawer, "pk", drawer.pk) for drawer in drawers]
        Drawer.objects.update(hash1=0)  # of the second one, which had NULL
        found.append(object_hash(Drawer, "pk", drawers[1].pk))
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Drawer)
    assert len({*found, b""}) == 4
