"""With multi-table inheritance, an object is locked in each of its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.test.utils import isolate_apps

from bulk_import.existing_object import lock_visible
from tests.bulk_import.conftest import in_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ["products_place", "products_restaurant", "products_bar"]


@pytest.fixture
def bar() -> Iterator[Any]:
    """Create the tables of a model with two parents, one above the other, and return its only object."""
    with isolate_apps("products"):

        class Place(models.Model):  # noqa: DJ008 - for this test only
            name = models.CharField(max_length=9)

            class Meta:
                app_label = "products"

        class Restaurant(Place):  # noqa: DJ008
            stars = models.IntegerField(default=1)

            class Meta:
                app_label = "products"

        class Bar(Restaurant):  # noqa: DJ008
            beers = models.IntegerField(default=1)

            class Meta:
                app_label = "products"

        with connection.schema_editor() as editor:
            for model in (Place, Restaurant, Bar):
                editor.create_model(model)
        yield Bar._default_manager.create(name="A")
        with connection.schema_editor() as editor:
            for model in (Bar, Restaurant, Place):
                editor.delete_model(model)


@pytest.mark.parametrize("no_key", [False, True])
def test_nobody_changes_a_parent_of_a_locked_object(bar: Any, no_key: bool) -> None:
    model = type(bar)

    class View:
        def get_queryset(self) -> Any:
            return model.objects.all()

    def is_locked(table: str) -> bool:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SELECT 1 FROM {table} FOR NO KEY UPDATE NOWAIT")  # noqa: S608 - a constant
        except DatabaseError:
            return True
        return False

    with transaction.atomic():
        assert lock_visible(View(), {"name": "A"}, no_key=no_key) == [bar]
        assert in_threads(*[lambda table=table: is_locked(table) for table in TABLES]) == [True] * 3
