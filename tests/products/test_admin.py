import pytest
from django.test import Client
from django.urls import reverse

from products.models import Category, Product, StockMovement


@pytest.fixture
def movement(tents: Category) -> StockMovement:
    product = Product.objects.create(
        sku="T-1",
        name="Dune",
        price=10,
        currency="EUR",
        category=tents,
        stock=7,
    )
    return product.stock_movements.get()


@pytest.mark.usefixtures("movement")
@pytest.mark.parametrize("model", ["category", "product", "stockmovement"])
def test_the_list_page_loads_for_staff(admin_client: Client, model: str) -> None:
    """The request includes a search, so that it also checks `search_fields`."""
    response = admin_client.get(reverse(f"admin:products_{model}_changelist"), {"q": "Dune"})

    assert response.status_code == 200


@pytest.mark.parametrize("model", ["category", "product"])
def test_the_add_page_loads_for_staff(admin_client: Client, model: str) -> None:
    """Staff can add categories and products."""
    assert admin_client.get(reverse(f"admin:products_{model}_add")).status_code == 200


def test_every_change_page_loads_for_staff(admin_client: Client, movement: StockMovement) -> None:
    """The page of a stock movement loads too, although it is read-only."""
    for record in (movement, movement.product, movement.product.category):
        url = reverse(f"admin:products_{record._meta.model_name}_change", args=[record.pk])

        assert admin_client.get(url).status_code == 200


def test_an_empty_barcode_in_the_admin_is_stored_as_null(admin_client: Client, tents: Category) -> None:
    """Two products without a barcode do not violate the unique constraint."""
    for sku in ("T-1", "T-2"):
        admin_client.post(
            reverse("admin:products_product_add"),
            {
                "sku": sku,
                "name": "Dune",
                "price": "10",
                "currency": "EUR",
                "stock": "0",
                "category": tents.pk,
                "barcode": "",
            },
        )

    assert list(Product.objects.values_list("sku", "barcode")) == [("T-1", None), ("T-2", None)]


def test_stock_movements_are_read_only_in_the_admin(admin_client: Client, movement: StockMovement) -> None:
    """Even a superuser cannot add, change or delete one."""
    change = reverse("admin:products_stockmovement_change", args=[movement.pk])
    delete = reverse("admin:products_stockmovement_delete", args=[movement.pk])

    assert admin_client.get(reverse("admin:products_stockmovement_add")).status_code == 403
    assert admin_client.post(change, {"quantity": 1}).status_code == 403
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
