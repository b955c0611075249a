"""A dry run lists all errors, the rows that have them, and a CSV of both."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from tests.bulk_import.conftest import post_rows, product

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

CHECK = "/products/bulk?dry_run=true"
TABLE = "sku,name,price,currency,category\n" + "".join(f"S{n},=Mug,x{n},EUR,tents\n" for n in range(150))


def test_all_errors_and_their_rows_are_listed(client_of_merchandiser: APIClient, shop: None) -> None:
    answer = client_of_merchandiser.post(f"{CHECK}&rows=true", TABLE.encode(), content_type="text/csv").json()

    assert len(answer["errors"]) == len(answer["listed_rows"]) == answer["error_count"] == 150
    last = {"sku": "S149", "name": "=Mug", "price": "x149", "currency": "EUR", "category": "tents"}
    assert answer["listed_rows"][-1] == {"index": 149, "line": 151, "row": last}
    without = client_of_merchandiser.post(CHECK, TABLE.encode(), content_type="text/csv").json()
    assert (len(without["errors"]), "listed_rows" in without) == (100, False)


@pytest.mark.parametrize(("query", "headers"), [("&format=csv", {}), ("", {"Accept": "text/csv"})])
def test_the_errors_can_be_downloaded(
    client_of_merchandiser: APIClient, shop: None, query: str, headers: dict[str, str]
) -> None:
    answer: Any = client_of_merchandiser.post(CHECK + query, TABLE.encode(), content_type="text/csv", headers=headers)

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    table = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert table[0] == ["index", "line", "field", "value", "message"]
    assert len(table) == 151
    assert table[2] == ["1", "3", "price", "x1", "This is not a number. Write it like this: 12.50."]


def test_an_import_and_an_error_are_json_for_a_client_that_asks_for_csv(client_of_merchandiser: APIClient) -> None:
    answer = post_rows(client_of_merchandiser, [product("A", price="x")], "/products/bulk?format=csv")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_rows")


def test_the_rows_in_a_response_are_limited_in_size(client_of_merchandiser: APIClient, shop: None) -> None:
    rows = [product(f"S{n}", price="x", description="d" * 60_000) for n in range(80)]
    answer = post_rows(client_of_merchandiser, rows, f"{CHECK}&rows=true").json()
    assert (len(answer["errors"]), 60 < len(answer["listed_rows"]) < 80) == (80, True)
