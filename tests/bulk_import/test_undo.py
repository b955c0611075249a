"""An undo deletes exactly the objects that an import created and that have not changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse
from rest_framework.exceptions import PermissionDenied

from bulk_import.models import ImportedRow, ImportEvent, ImportJob
from products.models import Category, Product, StockMovement
from products.views import ProductViewSet
from tests.bulk_import.conftest import in_threads, post_rows, product
from tests.bulk_import.retention.retained import expire, set_end_days_ago

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django import Settings

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _owner(merchandiser: Any) -> None:
    """The merchandiser may also change and delete products."""
    merchandiser.user_permissions.add(*Permission.objects.filter(codename__in=["change_product", "delete_product"]))


def imported(site: Site, *skus: str, path: str = "/products/bulk") -> str:
    job_id = site.submit([product(sku, stock=3) for sku in skus], path)
    site.carry_out()
    return job_id


def skus() -> list[str]:
    return list(Product.objects.order_by("sku").values_list("sku", flat=True))


def timeline(job_id: str) -> list[tuple[str, str]]:
    return list(ImportEvent.objects.filter(job=job_id).values_list("kind", "note"))


def test_exactly_the_created_and_unchanged_objects_are_deleted(site: Site) -> None:
    Product.objects.create(sku="OLD", price=1, currency="EUR", category=Category.objects.get(slug="tents"))
    job_id = imported(site, "A", "B", "C", "D", "OLD", path="/products/bulk?mode=upsert")
    Product.objects.filter(sku="B").update(price="1.00")
    Product.objects.filter(sku="C").delete()
    bystander = Product.objects.create(sku="X", price=1, currency="EUR", category=Category.objects.get(slug="tents"))
    ImportedRow.objects.filter(lookup="D").update(object_id=bystander.pk)  # as if the ID was used again

    answer = site.post(job_id, "undo")
    outcomes = site.carry_out()

    assert answer.status_code == 202
    assert outcomes == [
        (204, "deleted", ""),
        (409, "refused", "changed_since"),
        (404, "refused", "not_found"),
        (409, "refused", "changed_since"),
        (0, "refused", "only_updated"),
    ]
    assert skus() == ["B", "D", "OLD", "X"]
    assert not StockMovement.objects.filter(product__sku="A").exists()
    document = site.document(answer.json()["id"])
    assert (document["mode"], document["undoes"], document["counts"]["deleted"]) == ("undo", job_id, 1)
    assert document["message"].startswith("An import was undone. Deleted: 1 of 5 products.")
    assert document["links"]["undo"] is None
    results = site.client.get(f"/products/bulk/{document['id']}/results/0").json()
    assert (results["outcome"], results["lookup"], results["url"]) == ("deleted", "A", None)

    again = site.post(job_id, "undo").json()["id"]
    assert again != document["id"]
    assert {verdict for _status, verdict, _code in site.carry_out()} == {"refused"}
    assert skus() == ["B", "D", "OLD", "X"]


def test_an_undo_is_rehearsed_and_run(site: Site) -> None:
    job_id = imported(site, "A", "B")
    Product.objects.filter(sku="B").update(stock=9)

    rehearsal = site.client.post(f"/products/bulk/{job_id}/undo?rehearse=true").json()
    forecast = site.carry_out()

    assert skus() == ["A", "B"]
    assert [verdict for _status, verdict, _code in forecast] == ["deleted", "refused"]
    assert "nothing was deleted. 1 of 2 products would be deleted." in site.document(rehearsal["id"])["message"]
    answer = site.post(rehearsal["id"], "run")
    assert answer.status_code == 202
    assert site.carry_out() == forecast
    assert skus() == ["B"]
    assert timeline(rehearsal["id"]) == [("ended", "partially_succeeded"), ("run", answer.json()["id"])]
    assert timeline(job_id) == [("ended", "succeeded"), ("undone", answer.json()["id"])]


def test_an_undo_leaves_out_what_an_earlier_one_has_deleted(site: Site) -> None:
    job_id = imported(site, "A", "B")
    Product.objects.filter(sku="B").update(stock=9)
    undo = site.post(job_id, "undo").json()["id"]
    site.carry_out()
    before = site.document(job_id)
    Product.objects.filter(sku="B").update(stock=3)

    again = site.post(job_id, "undo").json()["id"]
    assert site.carry_out() == [(204, "deleted", "")]
    document = site.document(job_id)
    answer = site.post(job_id, "undo")

    assert before["undone_by"] == undo
    assert before["links"]["undo"] is None
    assert (document["undone_by"], document["links"]["undo"]) == (again, None)
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_undo")


def test_an_import_offers_an_undo_again_only_after_it_created_more(site: Site, run_worker: Any) -> None:
    job_id = site.submit([product("A"), product("B", category="boats")])
    run_worker()
    offered = site.document(job_id)["links"]["undo"]
    undo = site.post(job_id, "undo").json()["id"]
    while_it_runs = site.document(job_id)["links"]["undo"]
    Product.objects.all().delete()  # so that the undo does not find the object
    run_worker()
    afterwards = site.document(job_id)["links"]["undo"]
    Category.objects.create(slug="boats", name="Boats")
    site.post(job_id, "retry")
    run_worker()

    assert offered.endswith(f"/{job_id}/undo")
    assert (while_it_runs, afterwards) == (None, None)
    assert site.document(undo)["links"]["retry"]
    assert site.document(job_id)["links"]["undo"] == offered


@pytest.mark.parametrize(
    ("options", "outcome"), [("upsert", "superseded"), ("upsert&on_existing=skip", ""), ("upsert&rehearse=true", "")]
)
def test_an_object_that_a_later_import_contains_too_stays(site: Site, options: str, outcome: str) -> None:
    job_id = imported(site, "A", "B")
    imported(site, "A", "C", path=f"/products/bulk?mode={options}")

    site.post(job_id, "undo")

    assert [code for _status, _verdict, code in site.carry_out()] == [outcome, ""]
    stays = ["A"] if outcome else []
    assert skus() == stays + (["C"] if "rehearse" not in options else [])


def test_an_object_that_a_later_import_contains_too_is_deleted_when_that_one_was_undone(site: Site) -> None:
    first = imported(site, "A", "B")
    second = imported(site, "A", "C", path="/products/bulk?mode=upsert")

    for job_id in (second, first):
        site.post(job_id, "undo")
        site.carry_out()

    assert skus() == []


def test_two_requests_at_the_same_time_start_one_undo(site: Site) -> None:
    job_id = imported(site, "A")

    answers = in_threads(*[lambda: site.post(job_id, "undo")] * 2)

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert site.post(job_id, "undo").json()["id"] == answers[0].json()["id"]
    assert site.carry_out() == [(204, "deleted", "")]


def test_what_stays_is_named_in_the_results_and_the_failures(site: Site, run_worker: Any, admin_client: Client) -> None:
    job_id = site.submit([product("A"), product("B")])
    run_worker()
    Product.objects.update(stock=9)
    undo = site.post(job_id, "undo").json()
    run_worker()

    kept = Product.objects.get(sku="B")
    result = site.client.get(f"{undo['links']['results']}/1").json()
    assert (result["id"], result["lookup"]) == (str(kept.pk), "B")
    assert result["url"] == f"http://testserver/products/{kept.pk}/"
    table: Any = site.client.get(f"{undo['links']['failures']}?format=csv")
    content = b"".join(table.streaming_content)
    header, _first, second = content.decode().splitlines()
    assert header == "\ufeffindex_,line,outcome,HTTP status,reasons,id,lookup,index,other fields"
    assert second.endswith(f",{kept.pk},B,1,")
    for_staff: Any = admin_client.get(reverse("admin:bulk_import_importjob_failures", args=[undo["id"]]) + "?as=csv")
    assert b"".join(for_staff.streaming_content) == content


def test_an_undo_that_is_retried_is_the_one_that_runs(site: Site) -> None:
    job_id = imported(site, "A")
    Product.objects.update(stock=9)
    first, _code = site.post(job_id, "undo").json()["id"], site.carry_out()
    second, _code = site.post(job_id, "undo").json()["id"], site.carry_out()

    assert site.post(first, "retry").status_code == 202
    assert first != second
    assert site.post(job_id, "undo").json()["id"] == first


def test_an_undo_whose_import_expires_meanwhile_does_not_say_that_the_objects_are_gone(site: Site) -> None:
    job_id = imported(site, "A")
    site.post(job_id, "undo")
    ImportedRow.objects.all().delete()

    assert site.carry_out() == [(410, "refused", "expired")]
    assert skus() == ["A"]


def test_what_the_endpoint_refuses_to_delete_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = imported(site, "A", "B", "C")

    def perform_destroy(_view: ProductViewSet, instance: Product) -> None:
        if instance.sku == "A":
            raise PermissionDenied
        if instance.sku == "B":
            instance.category.delete()  # its products protect a category
        instance.delete()

    monkeypatch.setattr(ProductViewSet, "perform_destroy", perform_destroy)
    site.post(job_id, "undo")

    assert site.carry_out() == [
        (403, "refused", "permission_denied"),
        (409, "refused", "protected"),
        (204, "deleted", ""),
    ]
    assert skus() == ["A", "B"]


def test_an_undo_that_is_not_possible_says_why(site: Site, merchandiser: Any, settings: Settings) -> None:
    running = site.submit([product("A")])
    early = site.post(running, "undo")
    assert post_rows(site.client, [product("A")], "/products/bulk?mode=undo").status_code == 400
    site.carry_out()
    nothing = site.submit([product("B", category="boats")])
    site.carry_out()
    empty = site.post(nothing, "undo")
    target = settings.BULK_IMPORT["TARGETS"]["products"]
    without = {name: value for name, value in target.items() if name not in {"detail_url", "lookup"}}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": without}}
    unsupported = site.post(running, "undo")
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    set_end_days_ago(31)
    expire()
    expired = site.post(running, "undo")
    merchandiser.user_permissions.remove(Permission.objects.get(codename="delete_product"))
    forbidden = site.post(running, "undo")

    answers = [early, empty, unsupported, expired, forbidden]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (409, "import_not_ended"),
        (409, "nothing_to_undo"),
        (400, "mode_not_supported"),
        (410, "expired"),
        (403, "permission_denied"),
    ]
    assert "no detail_url" in unsupported.json()["message"]
    assert ImportJob.objects.count() == 2


def test_an_endpoint_that_does_not_delete_keeps_its_objects(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = imported(site, "A")
    monkeypatch.setattr(ProductViewSet, "http_method_names", ["get", "post", "patch"])
    answer = site.post(job_id, "undo")

    assert answer.status_code == 202
    assert site.carry_out() == [(405, "not-created", "method_not_allowed")]
    assert skus() == ["A"]
