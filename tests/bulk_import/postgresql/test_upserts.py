"""An upsert waits for the lock on its object, and then acts on the object as it is now."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction

from bulk_import.models import ImportedRow
from products.models import Product
from tests.bulk_import.conftest import in_threads, product
from tests.bulk_import.test_updates import UPSERT, Call, outcome, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.test import APIClient

    from tests.bulk_import.conftest import Aws

pytestmark = pytest.mark.django_db(transaction=True)

WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def make_call(client_of_merchandiser: APIClient, merchandiser: Any, worker: APIClient, aws: Aws) -> Any:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))

    def make(row: dict[str, Any]) -> Call:
        return Call(client_of_merchandiser, worker, aws, row, UPSERT)

    return make


def send_during(call: Any, change: Callable[[], Any]) -> Any:
    """Send the call while another transaction changes the object, which commits when the call waits for it."""
    answers: list[Any] = []

    def send() -> None:
        answers.append(call.send())
        connection.close()

    caller = threading.Thread(target=send)
    with transaction.atomic(), connection.cursor() as cursor:
        change()
        caller.start()
        for _attempt in range(500):
            cursor.execute(WAITING)
            if cursor.fetchone() != (0,):
                break
            time.sleep(0.01)
        else:
            pytest.fail("The call does not wait for the other transaction.")
    caller.join()
    return answers[0]


@pytest.mark.parametrize(
    "change",
    [lambda: Product.objects.filter(sku="A").update(sku="B"), lambda: Product.objects.filter(sku="A").delete()],
)
def test_an_object_that_is_gone_when_the_lock_is_free_is_created(make_call: Any, change: Callable[[], Any]) -> None:
    stored("A")
    call = make_call(product("A", price="2.00"))

    assert outcome(send_during(call, change))[1] == "created"
    assert str(Product.objects.get(sku="A").price) == "2.00"
    assert not Product.objects.filter(sku="B", price="2.00").exists()


def test_an_object_that_appears_while_the_call_creates_it_is_changed(make_call: Any) -> None:
    """The unique constraint makes the creation wait for the other one, and then refuses it."""
    call = make_call(product("A", price="2.00"))

    assert outcome(send_during(call, lambda: stored("A")))[1] == "updated"
    assert [str(found.price) for found in Product.objects.all()] == ["2.00"]
    assert ImportedRow.objects.count() == 1


def test_many_concurrent_upserts_make_one_object(make_call: Any) -> None:
    calls = [make_call(product("A", price=f"{number + 1}.00")) for number in range(6)]

    verdicts = [outcome(answer)[1] for answer in in_threads(*(call.send for call in calls))]

    assert verdicts.count("created") == 1
    assert set(verdicts) <= {"created", "updated", "refused"}
    assert verdicts[-1] in {"created", "updated"}
    assert str(Product.objects.get().price) == "6.00"
    assert ImportedRow.objects.count() == verdicts.count("created") + verdicts.count("updated")
