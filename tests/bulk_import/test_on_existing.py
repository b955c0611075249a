"""`mode=upsert` with `on_existing`: what happens to a row whose object exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.db import transaction

from bulk_import.models import ChunkStatus, ImportChunk, ImportedRow, ImportJob
from products.models import Category, Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import post_rows, product
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings
    from rest_framework.test import APIClient

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)

SKIP = "/products/bulk?mode=upsert&on_existing=skip"
STOP = "/products/bulk?mode=upsert&on_existing=stop"
EAN = "2000000000008"


@pytest.fixture(autouse=True)
def _existing(shop: None) -> None:
    fields = {"price": "1.00", "currency": "EUR", "category": Category.objects.first(), "barcode": EAN}
    Product.objects.create(sku="OLD", name="Old", **fields)


def dry_run(client: APIClient, rows: list[dict[str, Any]], path: str) -> dict[str, Any]:
    answer = post_rows(client, rows, f"{path}&dry_run=true")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("on_existing", ["skip", "update"])
def test_a_file_that_is_sent_twice_succeeds_with_unchanged_rows(
    site: Site, merchandiser: Any, on_existing: str
) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    path = f"/products/bulk?mode=upsert&on_existing={on_existing}"
    rows = [product("A"), product("B", barcode="2000000000015")]
    for created, unchanged in ((2, 0), (0, 2)):
        check = dry_run(site.client, rows, path)
        assert (check["valid_rows"], check["existing_rows"]) == (2, unchanged)
        rehearsal = site.submit(rows, f"{path}&rehearse=true")
        forecast = site.carry_out()
        assert site.document(rehearsal)["counts"] == counts(created=created, unchanged=unchanged)
        job_id = site.post(rehearsal, "run").json()["id"]
        assert site.carry_out() == forecast
        job = site.document(job_id)
        assert (job["status"], job["mode"], job["on_existing"]) == ("succeeded", "upsert", on_existing)
        assert job["counts"] == counts(created=created, unchanged=unchanged)
        if on_existing == "skip" and unchanged:
            assert job["message"] == "All 2 products existed already and were left unchanged."


def test_a_row_that_is_skipped_changes_nothing_and_needs_no_permission_to_change(site: Site) -> None:
    """The row would not be valid for the endpoint, but the endpoint is not called."""
    rows = [product("OLD", category="closed"), product("NEW"), product("TAKEN", barcode=EAN)]
    check = dry_run(site.client, rows, SKIP)
    assert (check["existing_rows"], [error["code"] for error in check["errors"]]) == (1, ["unique"])

    job_id = site.submit(rows, SKIP)

    assert [verdict for _status, verdict, _code in site.carry_out()] == ["unchanged", "created", "not-created"]
    old = Product.objects.get(sku="OLD")
    assert (old.name, str(old.price)) == ("Old", "1.00")
    record = ImportedRow.objects.get(job=job_id, index=0)
    assert (record.object_id, record.lookup) == (str(old.pk), "OLD")


def test_rows_that_are_skipped_must_be_complete(client_of_merchandiser: APIClient) -> None:
    check = dry_run(client_of_merchandiser, [{"sku": "NEW", "name": "x"}], SKIP)
    assert [error["field"] for error in check["errors"]] == ["price", "currency", "category"]


def test_a_dry_run_of_an_upsert_finds_what_new_rows_lack(
    client_of_merchandiser: APIClient, merchandiser: Any, shop: None
) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    rows = [{"sku": "OLD", "name": "x"}, {"sku": "NEW", "name": "x", "price": "1.00"}, product("B")]
    check = dry_run(client_of_merchandiser, rows, "/products/bulk?mode=upsert")
    assert (check["valid_rows"], check["existing_rows"]) == (2, 1)
    assert check["errors"] == [
        {"index": 1, "field": name, "code": "required", "message": "This field is required."}
        for name in ("currency", "category")
    ]


def test_an_import_that_stops_lists_the_rows_whose_objects_exist(client_of_merchandiser: APIClient, aws: Any) -> None:
    rows = [product("NEW"), product("OLD")]
    check = dry_run(client_of_merchandiser, rows, STOP)
    answer = post_rows(client_of_merchandiser, rows, STOP)

    error = {"index": 1, "field": "sku", "code": "exists", "message": "There is already an object with this sku."}
    assert (check["errors"], check["existing_rows"]) == ([error], 1)
    assert (answer.status_code, answer.json()["code"]) == (409, "rows_exist")
    assert (answer.json()["errors"], answer.json()["existing_rows"]) == ([error], 1)
    assert not ImportJob.objects.exists()
    assert not aws.payload_keys()


def test_a_row_whose_object_appears_after_the_check_is_rejected(site: Site) -> None:
    job_id = site.submit([product("NEW"), product("LATE")], STOP)
    Product.objects.create(sku="LATE", name="x", price=1, currency="EUR", category=Category.objects.get(slug="tents"))

    assert site.carry_out() == [(201, "created", ""), (409, "refused", "exists")]
    assert site.document(job_id)["on_existing"] == "stop"


def test_objects_that_the_detail_view_hides_do_not_count(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProductViewSet, "get_queryset", lambda _view: Product.objects.exclude(sku="OLD"))
    assert dry_run(site.client, [product("OLD")], SKIP)["existing_rows"] == 0


def test_a_dry_run_in_each_mode_knows_the_existing_rows(client_of_merchandiser: APIClient, merchandiser: Any) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    rows = [product("OLD"), product("NEW")]
    found = {
        mode: dry_run(client_of_merchandiser, rows, f"/products/bulk?mode={mode}") for mode in ("create", "update")
    }
    assert [check["existing_rows"] for check in found.values()] == [1, 1]
    assert [(error["index"], error["code"]) for check in found.values() for error in check["errors"]] == [
        (0, "unique"),
        (1, "not_found"),
    ]


@pytest.mark.parametrize(
    "query", ["on_existing=skip", "mode=create&on_existing=stop", "mode=update&on_existing=update"]
)
def test_on_existing_needs_an_upsert(client_of_merchandiser: APIClient, merchandiser: Any, query: str) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    answer = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "needs_upsert")


@pytest.mark.parametrize("entry", ["lookup", "detail_url"])
def test_a_target_without_the_entries_answers_400(
    client_of_merchandiser: APIClient, settings: Settings, entry: str
) -> None:
    target = {name: value for name, value in settings.BULK_IMPORT["TARGETS"]["products"].items() if name != entry}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    answer = post_rows(client_of_merchandiser, [product("A")], SKIP)
    assert (answer.status_code, answer.json()["code"]) == (400, "mode_not_supported")
    assert entry in answer.json()["message"]
    assert dry_run(client_of_merchandiser, [product("A")], "/products/bulk?mode=create")["existing_rows"] is None


def test_a_file_that_is_created_twice_has_not_failed_and_says_what_to_do(site: Site, run_worker: Any) -> None:
    rows = [product("A", barcode="2000000000015"), product("B")]
    for _first in range(2):
        job_id = site.submit(rows)
        run_worker()

    job = site.document(job_id)
    assert (job["status"], job["counts"]) == ("partially_succeeded", counts(rejected=2))
    assert job["message"] == (
        "0 of 2 products were created. See the reasons for the others below. 2 of them exist already. To leave them as "
        "they are, send the file again with mode=upsert and on_existing=skip. To change them, send it with "
        "on_existing=update."
    )


@pytest.mark.parametrize(
    ("lookup", "problem", "status"),
    [
        ("sku", {"field": "sku", "code": "unique"}, "partially_succeeded"),
        ("stock_unit", {"field": "stockUnit", "code": "exists"}, "partially_succeeded"),
        ("sku", {"field": "barcode", "code": "unique"}, "failed"),  # another product has this barcode
        ("", {"field": None, "code": "unique"}, "partially_succeeded"),  # a rule over several fields
        ("sku", {"field": "sku", "code": "invalid"}, "failed"),
    ],
)
def test_only_rows_whose_objects_exist_keep_an_import_from_failing(
    site: Site, settings: Settings, lookup: str, problem: dict[str, Any], status: str
) -> None:
    job_id = site.submit([product("A")])
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "lookup": lookup}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    chunk = ImportChunk.objects.get(job=job_id)
    chunk.status, chunk.rejected = ChunkStatus.DONE, 1
    chunk.problems = [{**problem, "message": "x", "count": 1, "first_index": 0}]
    chunk.save()
    with transaction.atomic():
        assert chunk.job.handle_finished_chunk(chunk).status == status
