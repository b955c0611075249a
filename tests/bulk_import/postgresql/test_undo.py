"""An undo and a change of the same object take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission

from products.models import Product
from tests.bulk_import.conftest import product
from tests.bulk_import.postgresql.test_upserts import send_during
from tests.bulk_import.test_undo import imported
from tests.bulk_import.test_updates import UPSERT, Call, outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)


class UndoRow:
    def __init__(self, site: Site) -> None:
        self.site = site

    def send(self) -> Any:
        return self.site.carry_out()


@pytest.fixture(autouse=True)
def _owner(merchandiser: Any) -> None:
    merchandiser.user_permissions.add(*Permission.objects.filter(codename__in=["change_product", "delete_product"]))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda: Product.objects.filter(sku="A").update(price="7.00"), "changed_since"),
        (lambda: Product.objects.filter(sku="A").delete(), "not_found"),
    ],
)
def test_an_undo_waits_for_a_change_and_then_sees_it(site: Site, change: Callable[[], Any], code: str) -> None:
    job_id = imported(site, "A")
    site.post(job_id, "undo")

    assert [row[2] for row in send_during(UndoRow(site), change)] == [code]


def test_an_upsert_that_waits_for_an_undo_creates_the_object_again(site: Site) -> None:
    job_id = imported(site, "A")
    call = Call(site.client, site.worker, site.aws, product("A", price="2.00"), UPSERT)
    answer = send_during(call, lambda: Product.objects.filter(sku="A").delete())

    assert outcome(answer)[1] == "created"
    site.post(job_id, "undo")
    assert [row[2] for row in site.carry_out()] == ["not_found"]
    assert str(Product.objects.get(sku="A").price) == "2.00"
