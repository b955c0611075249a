"""A rehearsal tries every row and changes nothing. The import of its rows has the outcomes that it forecast."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulk_import.models import ImportedRow, ImportJob
from bulk_import.signals import job_finished
from bulk_import_wire.contract import VERDICT_HEADER
from products.models import Category, Product, StockMovement
from products.views import ProductViewSet
from tests.bulk_import.conftest import claim, in_threads, post_rows, product
from tests.bulk_import.retention.retained import expire, set_end_days_ago
from tests.examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django import Settings

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)

REHEARSE = "/products/bulk?rehearse=true"
EAN = "2000000000008"


def checksums() -> dict[str, str]:
    """Return a checksum of each table that is not one of ours."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if not table.startswith("bulk_import_"):
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - names of tables
                rows = sorted(map(repr, cursor.fetchall()))
                found[table] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    return found


def view_with_side_effects(ran: list[str]) -> Any:
    """Return a `perform_create` that does what views do: several writes, hooks, rollbacks and late errors."""

    def perform_create(_view: ProductViewSet, serializer: Any) -> None:
        created = serializer.save()
        transaction.on_commit(lambda: ran.append(created.sku))
        with transaction.atomic():
            created.category.name += "!"
            created.category.save()
        if created.name == "dangling":  # a foreign key is checked at the commit
            StockMovement.objects.create(product_id=2**30, quantity=1, reason="sale")
        if created.name == "undone":
            transaction.set_rollback(True)
        if created.name == "taken":
            Product.objects.create(sku=created.sku, price=1, currency="EUR", category=created.category)

    return perform_create


# Independent rows: each one has a SKU of its own.
KINDS = {
    "valid": {},
    "exists": {"sku": "OLD"},
    "unknown": {"category": "boats"},
    "closed": {"category": "skis"},
    "free": {"price": "0.00"},
    "barcode": {"barcode": EAN},
    "dangling": {"name": "dangling"},
    "undone": {"name": "undone"},
    "taken": {"name": "taken"},
}


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=9, unique_by=lambda kind: kind))
def test_an_import_has_the_outcomes_that_its_rehearsal_forecast(
    kinds: list[str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in (ImportJob, StockMovement, Product):
        model.objects.all().delete()
    skis, _ = Category.objects.get_or_create(slug="skis", defaults={"is_open": False})
    Product.objects.create(sku="OLD", price=1, currency="EUR", category=skis, barcode=EAN)
    ran: list[str] = []
    monkeypatch.setattr(ProductViewSet, "perform_create", view_with_side_effects(ran))
    rows = [{**product(f"NEW-{kind}"), **KINDS[kind]} for kind in kinds]

    before = checksums()
    rehearsal = site.submit(rows, REHEARSE)
    forecast = site.carry_out()

    assert checksums() == before
    assert ran == []
    counts = site.document(rehearsal)["counts"]

    answer = site.post(rehearsal, "run")
    assert answer.status_code == 202
    assert site.carry_out() == forecast
    imported = site.document(answer.json()["id"])
    assert imported["counts"] == counts
    assert (imported["runs"], imported["rehearsal"]) == (rehearsal, False)
    assert (site.document(rehearsal)["run_by"], imported["run_by"]) == (imported["id"], None)
    assert Product.objects.filter(sku__startswith="NEW").count() == counts["created"] == len(ran)
    records = ImportedRow.objects.order_by("index").values_list("index", "outcome", "lookup")
    assert list(records.filter(job=rehearsal)) == list(records.filter(job=imported["id"]))


def test_an_upsert_is_rehearsed(site: Site, merchandiser: Any) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    fields = {
        "name": "Ridge Tent",
        "price": "249.90",
        "currency": "EUR",
        "category": Category.objects.get(slug="tents"),
    }
    for sku in ("SAME", "OTHER"):
        Product.objects.create(sku=sku, **fields)
    rows = [product("SAME"), product("OTHER", price="1.00"), product("NEW")]

    before = checksums()
    rehearsal = site.submit(rows, f"{REHEARSE}&mode=upsert")
    forecast = site.carry_out()

    assert checksums() == before
    assert [verdict for _status, verdict, _code in forecast] == ["unchanged", "updated", "created"]
    site.post(rehearsal, "run")
    assert site.carry_out() == forecast


def rehearse_one_row(site: Site) -> Callable[[], Any]:
    """Start a rehearsal of one row, and return a function that makes the worker's call for it."""
    site.submit([product("A")], REHEARSE)
    [message] = site.aws.messages()
    claimed = claim(site.worker, message)
    headers = {"Authorization": f"Import {claimed.token}", "Idempotency-Key": f"{message.job_id}:0"}
    body = json.dumps(product("A"), separators=(",", ":"))
    client: Any = Client(raise_request_exception=False)
    return lambda: client.generic("POST", "/products/", body, content_type="application/json", headers=headers)


def test_a_repeated_call_of_a_rehearsal_is_answered_from_the_ledger(site: Site) -> None:
    create = rehearse_one_row(site)

    answers = [create(), create()]

    assert [answer[VERDICT_HEADER] for answer in answers] == ["created", "replayed"]
    assert list(ImportedRow.objects.values_list("outcome", "object_id")) == [("created", "")]
    assert not Product.objects.exists()


class Died(BaseException):
    """The process was killed. No `except Exception` sees it."""


def test_wherever_the_process_dies_nothing_remains_of_a_rehearsed_row(site: Site) -> None:
    """It dies after the first SQL statement of the call, then after the second one of a repeated call, and so on."""
    create, before, deaths = rehearse_one_row(site), checksums(), 0
    statements: list[str] = []

    def die(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        statements.append(sql)
        if len(statements) > deaths:
            connection.connection.rollback()  # as the database does when the connection of a dead process breaks
            raise Died
        return result

    while True:
        statements.clear()
        try:
            with connection.execute_wrapper(die):
                answer = create()
            break
        except Died:
            deaths += 1
            connection.close()  # otherwise the next statements see the data as a statement that was not read to its end
        assert checksums() == before
        assert not ImportedRow.objects.exists()

    assert deaths > 5  # at least the lock, the record, the savepoint, the product and its stock movement
    assert answer[VERDICT_HEADER] == "created"
    assert checksums() == before


def test_a_rehearsed_row_without_its_savepoint_creates_nothing(site: Site) -> None:
    """The database fails when the savepoint is set that is rolled back later, and works again afterwards."""
    create = rehearse_one_row(site)
    failed: list[str] = []

    def fail_once(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.startswith("SAVEPOINT") and not failed:
            failed.append(sql)
            raise OperationalError("The database does not respond.")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail_once):
        answer = create()

    assert failed
    assert answer.get(VERDICT_HEADER) != "created"
    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()
    assert create()[VERDICT_HEADER] == "created"  # the worker repeats the call, and gets the forecast
    assert not Product.objects.exists()


def test_a_rehearsal_reports_itself_as_one(site: Site, settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "METRICS_SECRETS": ["a-metrics-secret-of-enough-letters"]}
    ended: list[Any] = []

    def receive(job: ImportJob, **_signal: Any) -> None:
        ended.append(job)

    job_finished.connect(receive)
    rows = [product("A"), product("B", category="boats")]
    rehearsal = site.submit(rows, REHEARSE)
    waiting = site.document(rehearsal)
    headers = {"Authorization": "Bearer a-metrics-secret-of-enough-letters"}
    gauges = Client().get("/bulk-import/metrics", headers=headers).content.decode()
    site.carry_out()
    job_finished.disconnect(receive)

    assert 'bulk_import_open_jobs{status="queued"} 0' in gauges
    assert ended == []
    assert waiting["message"].startswith("This is a rehearsal: every row is tried, and nothing is imported.")
    assert waiting["links"]["run"] is None
    document = site.document(rehearsal)
    text = "This was a rehearsal, and nothing was imported. 1 of 2 products would be imported."
    assert document["message"] == text
    assert document["links"]["run"].endswith(f"/{rehearsal}/run")
    [sent] = mail.outbox
    assert sent.subject == "Rehearsal: 1 of 2 products would be imported"
    assert "This is about a rehearsal. Nothing was changed." in sent.body


def test_a_target_has_to_allow_rehearsals(site: Site, settings: Settings) -> None:
    target = {name: value for name, value in settings.BULK_IMPORT["TARGETS"]["products"].items() if name != "rehearse"}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}

    answer = post_rows(site.client, [product("A")], REHEARSE)

    assert (answer.status_code, answer.json()["code"]) == (400, "rehearsal_not_supported")
    assert "no rehearse" in answer.json()["message"]
    assert not ImportJob.objects.exists()


# --- run


def test_a_rehearsal_is_run_once(site: Site, admin_client: Client) -> None:
    rows = [product("A")]
    rehearsal = site.submit(rows, REHEARSE)
    early = site.post(rehearsal, "run")
    site.carry_out()

    answers = in_threads(*[lambda: site.post(rehearsal, "run")] * 2)

    assert (early.status_code, early.json()["code"]) == (409, "rehearsal_not_ended")
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer["Location"] for answer in answers}) == 1
    run_id = answers[0].json()["id"]
    assert ImportJob.objects.count() == 2
    assert len(site.aws.payload_keys()) == 1
    page = admin_client.get(f"/admin/bulk_import/importjob/{rehearsal}/change/").content.decode()
    assert "rehearsal: succeeded" in page
    assert f"/importjob/{run_id}/change/" in page
    refused = site.post(run_id, "run")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_a_rehearsal")
    assert site.client.post(f"/products/bulk/{rehearsal}/retry").status_code == 200
    assert site.carry_out() == [(201, "created", "")]


def test_only_the_submitter_with_the_permission_can_run_a_rehearsal(
    site: Site, merchandiser: Any, admin_client: Client
) -> None:
    rows = [product("A")]
    rehearsal = site.submit(rows, REHEARSE)
    site.carry_out()

    assert admin_client.post(f"/products/bulk/{rehearsal}/run").status_code == 404
    merchandiser.user_permissions.clear()
    assert site.post(rehearsal, "run").status_code == 403
    assert ImportJob.objects.count() == 1


@pytest.mark.parametrize("first", ["rehearsal", "import"])
def test_the_shared_payload_is_deleted_with_the_last_of_both_jobs(site: Site, first: str) -> None:
    rows = [product("A")]
    rehearsal = site.submit(rows, REHEARSE)
    site.carry_out()
    imported = site.post(rehearsal, "run").json()["id"]
    site.carry_out()
    order = [rehearsal, imported] if first == "rehearsal" else [imported, rehearsal]

    left = []
    for job_id in order:
        ImportJob.objects.filter(pk=job_id).update(finished_at=timezone.now() - timedelta(days=31))
        left.append((expire(), len(site.aws.payload_keys())))

    assert [keys for _printed, keys in left] == [1, 0]
    assert ["0 payloads" in left[0][0], "1 payloads" in left[1][0]] == [True, True]


def test_a_rehearsal_whose_rows_have_expired_cannot_be_run(site: Site) -> None:
    rows = [product("A")]
    rehearsal = site.submit(rows, REHEARSE)
    site.carry_out()
    set_end_days_ago(31)
    expire()

    answer = site.post(rehearsal, "run")

    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert site.document(rehearsal)["links"]["run"] is None
