"""Updates and upserts: the detail endpoint changes the objects that exist, and never overwrites a newer value."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.db.models.signals import post_save
from rest_framework.test import APIClient

from bulk_import import existing_object, middleware
from bulk_import.models import ImportedRow, ImportJob
from bulk_import_wire.contract import VERDICT_HEADER
from products.models import Category, Product
from products.serializers import ProductSerializer
from products.views import ProductViewSet
from tests.bulk_import.conftest import Aws, claim, in_threads, post_rows, product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from bulk_import_wire.contract import Claim
    from bulk_import_wire.message import ChunkMessage

pytestmark = pytest.mark.django_db(transaction=True)

UPSERT, UPDATE = "/products/bulk?mode=upsert", "/products/bulk?mode=update"
SKIP = f"{UPSERT}&on_existing=skip"


@pytest.fixture(autouse=True)
def editor(merchandiser: Any) -> Any:
    """The merchandiser may also change products."""
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    return merchandiser


@pytest.fixture
def saved() -> Iterator[list[str]]:
    """The SKUs of the products that were saved, in order."""
    skus: list[str] = []

    def note(instance: Product, **_signal: Any) -> None:
        skus.append(instance.sku)

    post_save.connect(note, sender=Product)
    yield skus
    post_save.disconnect(note, sender=Product)


def stored(sku: str, **fields: Any) -> Product:
    values = {"name": "Ridge Tent", "price": "249.90", "currency": "EUR", "category": Category.objects.first()}
    return Product.objects.create(sku=sku, **{**values, **fields})


class Call:
    """A worker's call for one row of a job of its own."""

    def __init__(self, client: APIClient, worker: APIClient, aws: Aws, row: dict[str, Any], path: str = UPSERT) -> None:
        answer = post_rows(client, [row], path)
        assert answer.status_code == 202, answer.content
        self.row = row
        self.message: ChunkMessage = aws.messages()[0]
        self.claim: Claim = claim(worker, self.message)

    def send(self) -> Any:
        headers = {"Authorization": f"Import {self.claim.token}", "Idempotency-Key": f"{self.message.job_id}:0"}
        body = json.dumps(self.row, separators=(",", ":"))
        # The view may raise IntegrityError. A server turns it into a 500, and the middleware then tries again.
        client = APIClient(raise_request_exception=False)
        return client.generic("POST", "/products/", body, content_type="application/json", headers=headers)

    @property
    def record(self) -> ImportedRow:
        found: ImportedRow = ImportedRow.objects.get(job_id=self.message.job_id)
        return found


@pytest.fixture
def make_call(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws) -> Any:
    def make(row: dict[str, Any], path: str = UPSERT) -> Call:
        return Call(client_of_merchandiser, worker, aws, row, path)

    return make


def outcome(answer: Any) -> tuple[int, str, str]:
    """Return the status, the verdict, and the code of the error."""
    document = answer.json()
    error = (document.get("errors") or [document])[0]
    return answer.status_code, answer[VERDICT_HEADER], error.get("code", "")


def test_an_upsert_changes_what_exists_and_creates_the_rest(make_call: Any, saved: list[str]) -> None:
    existing = stored("A", description="kept", color="red")
    saved.clear()
    change, create = make_call({"sku": "A", "price": "300.00"}), make_call(product("B"))

    assert outcome(change.send()) == (200, "updated", "")
    assert outcome(change.send()) == (201, "replayed", "")
    assert outcome(create.send()) == (201, "created", "")

    existing.refresh_from_db()
    assert (str(existing.price), existing.description, existing.color) == ("300.00", "kept", "red")
    assert saved == ["A", "B"]
    found = ImportedRow.objects.order_by("lookup").values_list("outcome", "object_id", "lookup")
    new = Product.objects.get(sku="B")
    assert list(found) == [("updated", str(existing.pk), "A"), ("created", str(new.pk), "B")]


def test_an_update_rejects_a_row_without_an_object(make_call: Any) -> None:
    call = make_call({"sku": "nowhere", "price": "1.00"}, UPDATE)

    answer = call.send()

    assert outcome(answer) == (404, "refused", "not_found")
    assert answer.json()["field"] == "sku"
    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        ({"price": "249.9", "category": "tents", "is_active": True, "weight_kg": None}, "unchanged"),
        ({"price": "249.91"}, "updated"),
        ({"category": "cookware"}, "updated"),
        ({"is_active": False}, "updated"),
        ({"weight_kg": "1.000"}, "updated"),
    ],
)
def test_a_row_that_equals_the_object_writes_nothing(
    make_call: Any, saved: list[str], row: dict[str, Any], verdict: str
) -> None:
    stored("A", category=Category.objects.get(slug="tents"))
    saved.clear()
    call = make_call({"sku": "A", **row})

    assert outcome(call.send())[1] == verdict
    assert (call.record.outcome, saved) == (verdict, ["A"] * (verdict == "updated"))


def test_a_view_with_its_own_update_always_decides(make_call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stored("A")
    call = make_call({"sku": "A"})
    update = ProductViewSet.update

    def own_update(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return update(*args, **kwargs)

    calls: list[Any] = []
    monkeypatch.setattr(ProductViewSet, "update", own_update)

    assert outcome(call.send())[1] == "updated"
    assert len(calls) == 1


def test_the_row_of_an_older_job_does_not_overwrite_a_newer_one(make_call: Any) -> None:
    stored("A")
    older, newer = make_call({"sku": "A", "price": "1.00"}), make_call({"sku": "A", "price": "2.00"})

    assert outcome(newer.send())[1] == "updated"
    answer = older.send()

    assert outcome(answer) == (409, "refused", "superseded")
    assert newer.message.job_id in answer.json()["message"]
    assert str(Product.objects.get().price) == "2.00"


@pytest.mark.parametrize("tables", ["shared", "own"])
def test_a_newer_job_of_another_tenant_wrote_another_object(make_call: Any, settings: Settings, tables: str) -> None:
    """Both tenants have an object with this SKU. In tables of their own, the two objects have the same ID as well."""
    stored("A")
    older, newer = make_call({"sku": "A", "price": "1.00"}), make_call({"sku": "A", "price": "2.00"})
    assert outcome(newer.send())[1] == "updated"
    if tables == "shared":
        ImportedRow.objects.update(object_id=stored("B").pk)
    else:
        settings.TENANT_APPS = ["products"]
        ImportJob.objects.filter(pk=newer.message.job_id).update(host="south.shop.example")

    assert outcome(older.send())[1] == "updated"


def test_a_newer_job_overwrites_an_older_one_also_if_that_created_the_object(make_call: Any) -> None:
    older, newer = make_call(product("A")), make_call({"sku": "A", "price": "2.00"})

    assert [outcome(call.send())[1] for call in (older, newer)] == ["created", "updated"]


def test_a_job_that_only_creates_counts_as_a_newer_writer(make_call: Any) -> None:
    older, newer = make_call(product("A", price="1.00")), make_call(product("A"), "/products/bulk")

    assert [outcome(call.send())[2] for call in (newer, older)] == ["", "superseded"]


def test_of_two_concurrent_upserts_one_creates_and_the_other_one_updates(make_call: Any) -> None:
    first, second = make_call(product("A", price="1.00")), make_call(product("A", price="2.00"))

    answers = in_threads(first.send, second.send)

    verdicts = [outcome(answer)[1] for answer in answers]
    assert max(answer.status_code for answer in answers) < 500
    assert verdicts in (["created", "updated"], ["refused", "created"])
    assert str(Product.objects.get().price) == "2.00"
    assert ImportedRow.objects.count() == verdicts.count("created") + verdicts.count("updated")


def test_of_two_concurrent_imports_that_skip_what_exists_one_creates_and_the_other_one_changes_nothing(
    make_call: Any,
) -> None:
    calls = [make_call(product("A", price=price), SKIP) for price in ("1.00", "2.00")]

    answers = in_threads(*(call.send for call in calls))

    assert sorted(outcome(answer)[1] for answer in answers) == ["created", "unchanged"]
    assert Product.objects.count() == 1


def test_an_import_that_skipped_an_object_has_not_written_it(make_call: Any) -> None:
    stored("A")
    older, newer = make_call({"sku": "A", "price": "1.00"}, UPDATE), make_call(product("A"), SKIP)

    assert [outcome(call.send())[1] for call in (newer, older)] == ["unchanged", "updated"]


def test_a_creation_that_fails_is_tried_once_more_and_the_first_answer_stays_if_there_is_still_no_object(
    make_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call creates the object after this one has looked for it, so the view cannot create it."""
    call = make_call(product("A", price="2.00"))
    find = existing_object.find_object

    def find_too_early(*args: Any) -> Any:
        monkeypatch.setattr(middleware, "find_object", find)
        found = find(*args)
        # In the same transaction, because SQLite has only one. The creation fails, and its rollback removes this one.
        appeared.append(stored("A"))
        return found

    appeared: list[Product] = []
    monkeypatch.setattr(middleware, "find_object", find_too_early)

    answer = call.send()

    # The rollback has removed the other object as well, so the second try finds none: the first answer is final.
    assert outcome(answer) == (400, "not-created", "unique")
    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()


def test_nobody_reaches_objects_that_the_detail_view_does_not_show(
    make_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored("A", is_active=False)
    monkeypatch.setattr(ProductViewSet, "get_queryset", lambda _view: Product.objects.filter(is_active=True))

    assert outcome(make_call({"sku": "A", "price": "1.00"}, UPDATE).send()) == (404, "refused", "not_found")
    assert outcome(make_call(product("A", price="1.00")).send())[0] == 400  # the endpoint's own unique check
    assert str(Product.objects.get().price) == "249.90"


def test_a_lookup_that_fails_is_the_problem_of_its_row_only(make_call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the verdict, the worker tries the row again and does not pause the job."""
    stored("A")
    call = make_call({"sku": "A", "price": "1.00"})
    monkeypatch.setattr(ProductViewSet, "get_queryset", lambda _view: 1 / 0)

    assert outcome(call.send()) == (500, "not-created", "error")


def test_the_detail_view_checks_the_permission_of_the_submitter(make_call: Any, editor: Any, saved: list[str]) -> None:
    stored("A")
    saved.clear()
    calls = [make_call({"sku": "A", "price": "1.00"}), make_call({"sku": "A"})]
    editor.user_permissions.remove(Permission.objects.get(codename="change_product"))

    assert [outcome(call.send()) for call in calls] == [(403, "not-created", "permission_denied")] * 2
    assert saved == []


def test_an_object_of_several_rows_in_the_queryset_is_one_object(
    make_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A join can return an object twice, and DISTINCT cannot be locked."""
    found = stored("A", stock=3)
    found.stock_movements.create(quantity=1, reason="sale")
    joined = Product.objects.filter(stock_movements__quantity__gt=0).distinct()
    monkeypatch.setattr(ProductViewSet, "get_queryset", lambda _view: joined.all())

    assert outcome(make_call({"sku": "A", "price": "1.00"}).send())[1] == "updated"


def test_two_objects_for_one_row_are_both_left_alone(make_call: Any, settings: Settings) -> None:
    stored("A", name="Twin"), stored("B", name="Twin")
    call = make_call(product("C", name="Twin"))
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "lookup": "name"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    assert outcome(call.send()) == (409, "refused", "not_unique")
    assert Product.objects.count() == 2


def test_a_worker_upserts_a_file(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    """The results say what became of each row, with its line, in order."""
    stored("A"), stored("B")
    table = "sku,name,price,currency,category,stock\nA,,1.00,,,\nB,Ridge Tent,,,,\nC,New,5.00,EUR,tents,\nD,New,,,,\n"
    answer = client_of_merchandiser.post(UPSERT, table.encode(), content_type="text/csv")
    assert answer.status_code == 202, answer.content

    run_worker()

    job = client_of_merchandiser.get(answer.json()["links"]["self"]).json()
    assert (job["mode"], job["status"]) == ("upsert", "partially_succeeded")
    counts = {name: count for name, count in job["counts"].items() if count}
    assert counts == {"created": 1, "updated": 1, "unchanged": 1, "rejected": 1}
    text = b"".join(client_of_merchandiser.get(job["links"]["results"]).streaming_content)  # type: ignore[attr-defined]
    results = [json.loads(line) for line in text.splitlines()]
    assert [(r["index"], r["line"], r["outcome"], r["lookup"]) for r in results] == [
        (0, 2, "updated", "A"),
        (1, 3, "unchanged", "B"),
        (2, 4, "created", "C"),
        (3, 5, "rejected", "D"),
    ]
    urls = [f"http://testserver/products/{Product.objects.get(sku=sku).pk}/" for sku in "ABC"]
    assert [r["url"] for r in results] == [*urls, None]
    assert {error["field"] for error in results[3]["errors"]} == {"price", "currency", "category"}


def test_an_empty_cell_leaves_a_field_alone_and_the_mark_clears_it(
    client_of_merchandiser: APIClient, run_worker: Any
) -> None:
    existing = stored("A", description="old", color="red", weight_kg=2, size="(clear)")
    table = "sku,description,weight_kg,color\nA,(clear),(clear),\n"
    answer = client_of_merchandiser.post(UPDATE, table.encode(), content_type="text/csv")
    assert answer.status_code == 202, answer.content

    run_worker()

    existing.refresh_from_db()
    assert (existing.description, existing.weight_kg, existing.color) == ("", None, "red")
    json_row = {"sku": "A", "size": "(clear)", "color": "(clear)"}  # a text of JSON stays what it is
    assert post_rows(client_of_merchandiser, [json_row], UPDATE).status_code == 202
    run_worker()
    existing.refresh_from_db()
    assert existing.color == "(clear)"


def test_the_failures_of_an_update_can_be_sent_again(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    """A field that was cleared is cleared again, and a field that was left alone is left alone again."""
    table = "sku,description,color,weight_kg\nA,(clear),,(clear)\n"
    first = client_of_merchandiser.post(UPDATE, table.encode(), content_type="text/csv").json()
    run_worker()
    existing = stored("A", description="old", color="red", weight_kg=2)
    download: Any = client_of_merchandiser.get(f"{first['links']['failures']}?format=csv")
    body = b"".join(download.streaming_content)

    assert client_of_merchandiser.post(UPDATE, body, content_type="text/csv").status_code == 202
    run_worker()

    existing.refresh_from_db()
    assert (existing.description, existing.weight_kg, existing.color) == ("", None, "red")


@pytest.mark.parametrize(
    ("rows", "errors"),
    [
        ([{"price": "1.00"}], [("sku", "required", 0)]),
        ([{"sku": "", "price": "1.00"}], [("sku", "blank", 0)]),
        ([{"sku": "A"}, {"sku": "A"}], [("sku", "duplicate", 1)]),
        ([{"sku": "A", "price": "x"}], [("price", "invalid", 0)]),
    ],
)
def test_the_rows_of_an_update_are_validated_as_changes(
    client_of_merchandiser: APIClient, aws: Aws, rows: list[dict[str, Any]], errors: list[tuple[str, str, int]]
) -> None:
    answer = post_rows(client_of_merchandiser, rows, UPDATE)

    assert answer.status_code == 400
    assert [(error["field"], error["code"], error["index"]) for error in answer.json()["errors"]] == errors


@pytest.mark.parametrize(("entry", "mode"), [("detail_url", "update"), ("lookup", "upsert")])
def test_a_target_without_the_entries_answers_400(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings, entry: str, mode: str
) -> None:
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], entry: ""}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    answer = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk?mode={mode}")

    assert (answer.status_code, answer.json()["code"]) == (400, "mode_not_supported")
    assert entry in answer.json()["message"]
    assert not ImportJob.objects.exists()


@pytest.mark.parametrize(
    ("permissions", "mode", "status"),
    [
        ("add_product", "update", 403),
        ("change_product", "update", 202),
        ("add_product", "upsert", 202),
        ("change_product", "upsert", 202),
        ("change_product", "create", 403),
        ("view_product", "upsert", 403),
    ],
)
def test_each_mode_needs_the_permission_of_its_endpoint(
    client_of_merchandiser: APIClient, editor: Any, aws: Aws, *, permissions: str, mode: str, status: int
) -> None:
    editor.user_permissions.set(Permission.objects.filter(codename=permissions))

    answer = post_rows(client_of_merchandiser, [product("A")], f"/products/bulk?mode={mode}")

    assert answer.status_code == status


def test_defaults_of_the_serializer_do_not_change_fields_that_the_row_lacks(
    make_call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = stored("A", stock=7, is_active=False)
    fields = ProductSerializer().get_fields()
    assert not fields["stock"].required
    assert not fields["is_active"].required

    assert outcome(make_call({"sku": "A", "name": "New"}).send())[1] == "updated"

    existing.refresh_from_db()
    assert (existing.stock, existing.is_active, existing.name) == (7, False, "New")
