"""Rows of a rehearsal or an import are corrected and sent again, without another upload."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from bulk_import.models import ImportJob
from products.models import Product
from tests.bulk_import.conftest import in_threads, make_user, product
from tests.bulk_import.intake.spreadsheets.workbooks import xlsx
from tests.bulk_import.retention.retained import expire, set_end_days_ago
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.bulk_import.site import Site

pytestmark = pytest.mark.django_db(transaction=True)

TABLE = """Lista
sku,name,price,currency,category,weight_kg
A,Mug,9.50,EUR,cookware,
B,"Two
lines",x,EUR,cookware,
B,Twin,9.50,EUR,cookware,
C,Tent,9.50,EUR,kayaks,
D,Pan,9.50,EUR,cookware,1.200
"""
REHEARSE = "/products/bulk?rehearse=true&on_invalid=skip&locale=de-DE&decimal=" + '{"price":"."}'


def correct(site: Site, job_id: str, rows: Any, query: str = "", key: str = "") -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    body = json.dumps({"rows": rows}) if isinstance(rows, dict) else rows
    path = f"/products/bulk/{job_id}/correct{query}"
    return site.client.post(path, body, content_type="application/json", headers=headers)


def results(site: Site, job_id: str) -> list[tuple[Any, ...]]:
    answer: Any = site.client.get(f"/products/bulk/{job_id}/results")
    lines = map(json.loads, b"".join(answer.streaming_content).splitlines())
    return [
        (line["line"], line["outcome"], line["lookup"], *{error["code"] for error in line["errors"]}) for line in lines
    ]


@pytest.fixture
def rehearsal(site: Site, run_worker: Any) -> str:
    """The rehearsal of TABLE, which has ended."""
    answer = site.client.post(REHEARSE, TABLE.encode(), content_type="text/csv")
    assert answer.status_code == 202, answer.content
    run_worker()
    return str(answer.json()["id"])


def test_rows_are_corrected_until_the_rehearsal_is_right_and_then_imported(
    site: Site, rehearsal: str, run_worker: Any
) -> None:
    found = results(site, rehearsal)
    assert found == [
        (3, "created", "A"),
        (4, "rejected", "B", "invalid"),
        (6, "created", "B"),
        (7, "rejected", "C", "does_not_exist"),
        (8, "rejected", "D", "ambiguous_number"),
    ]

    some = correct(
        site,
        rehearsal,
        {1: {"price": "12.50"}, 3: {"category": "tents", "weight_kg": "1,25"}},
        "?rehearse=true&on_invalid=skip",
    )
    run_worker()

    assert some.status_code == 202, some.content
    second = some.json()
    assert (second["corrects"], second["rehearsal"], second["reading"]["format"]) == (rehearsal, True, "csv")
    assert site.document(rehearsal)["corrected_by"] == second["id"]
    document = site.document(second["id"])
    places = {problem["code"]: problem["first_line"] for problem in document["problems"]}
    assert places == {"duplicate": 6, "ambiguous_number": 8}
    failures: Any = site.client.get(document["links"]["failures"])
    errors = [json.loads(line) for line in b"".join(failures.streaming_content).splitlines()]
    assert [(failure["line"], failure["errors"][0].get("first_line")) for failure in errors] == [(6, 4), (8, None)]
    one = site.client.get(f"{document['links']['failures']}/2").json()
    assert (one["index"], one["line"]) == (2, 6)
    # Now that row 1 is valid, row 2 has the same SKU. The cell of row 4 is still ambiguous.
    assert results(site, second["id"]) == [
        (3, "created", "A"),
        (4, "created", "B"),
        (6, "rejected", "B", "duplicate"),
        (7, "created", "C"),
        (8, "rejected", "D", "ambiguous_number"),
    ]

    ambiguous = correct(site, second["id"], {2: {"sku": "B2"}, 4: {"weight_kg": "1.200"}}, "?rehearse=true")
    assert [(error["line"], error["code"]) for error in ambiguous.json()["errors"]] == [(8, "ambiguous_number")]
    rest = correct(site, second["id"], {2: {"sku": "B2"}, 4: {"weight_kg": "1,200"}}, "?rehearse=true")
    run_worker()
    third = rest.json()["id"]
    assert site.document(third)["counts"] == counts(created=5)
    assert not Product.objects.exists()

    imported = site.post(third, "run").json()["id"]
    run_worker()
    assert site.document(imported)["status"] == "succeeded"
    skus = dict(Product.objects.values_list("sku", "name"))
    assert skus == {"A": "Mug", "B": "Two\nlines", "B2": "Twin", "C": "Tent", "D": "Pan"}
    weights = Product.objects.filter(weight_kg__isnull=False).order_by("sku")
    assert [str(weight) for weight in weights.values_list("weight_kg", flat=True)] == ["1.250", "1.200"]
    conflict = correct(site, third, {})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "nothing_to_correct")


def test_only_the_rows_that_were_not_imported_are_sent_again(site: Site, run_worker: Any) -> None:
    rows: list[Any] = [product("A"), product("B", category="kayaks", note=9.50), [1], product("C")]
    first = site.submit(rows, "/products/bulk?on_invalid=skip")
    run_worker()
    assert site.document(first)["counts"] == counts(created=2, rejected=2)

    corrected = product("D", price=12.50)
    answer = correct(site, first, {1: {"category": "tents", "note": None}, 2: corrected})

    assert answer.status_code == 202, answer.content
    second = answer.json()["id"]
    assert [
        json.loads(line) for line in site.aws.payload(ImportJob.objects.get(pk=second).payload_key).splitlines()
    ] == [
        product("B"),
        corrected,
    ]
    run_worker()
    assert site.document(second)["counts"] == counts(created=2)
    assert set(Product.objects.values_list("sku", flat=True)) == set("ABCD")
    assert correct(site, second, {}).json()["code"] == "nothing_to_correct"
    assert site.document(second)["links"]["correct"] is None
    assert correct(site, first, {0: {"price": "1.00"}}).json()["code"] == "unknown_row"


def test_a_workbook_without_a_valid_row_is_rehearsed_and_corrected(site: Site, run_worker: Any) -> None:
    body = xlsx(["sku", "name", "price", "currency", "category"], ["A", "Mug", "free", "EUR", "cookware"])
    path = "/products/bulk?on_invalid=skip&rehearse=true"
    answer = site.client.post(path, body, content_type="application/octet-stream")
    assert answer.status_code == 202, answer.content
    run_worker()
    rehearsal = answer.json()["id"]
    assert results(site, rehearsal) == [(2, "rejected", "A", "invalid")]

    corrected = correct(site, rehearsal, {0: {"price": 12.50}}, "?rehearse=true")

    run_worker()
    assert results(site, corrected.json()["id"]) == [(2, "created", "A")]


def test_the_text_that_clears_a_field_clears_it_in_a_correction_too(
    site: Site, run_worker: Any, merchandiser: Any
) -> None:
    merchandiser.user_permissions.add(Permission.objects.get(codename="change_product"))
    site.submit([product("A", description="old")])
    run_worker()
    table = "sku,description,price\nA,,x\nB,,1.00\n"
    answer = site.client.post("/products/bulk?mode=update&on_invalid=skip", table.encode(), content_type="text/csv")
    run_worker()

    fixed = correct(site, answer.json()["id"], {0: {"description": "(clear)", "price": "1.00"}})

    assert (fixed.status_code, fixed.json()["mode"]) == (202, "update")
    run_worker()
    assert Product.objects.filter(description="", price=1).exists()


def test_invalid_corrections_leave_nothing_behind(site: Site, rehearsal: str) -> None:
    before = site.aws.payload_keys()
    refused = {
        "invalid_rows": correct(site, rehearsal, {1: {"price": "y"}}),
        "unknown_row": correct(site, rehearsal, {5: {"price": "1"}}),
        "malformed_body": correct(site, rehearsal, b'{"rows": [1]}'),
    }
    assert [answer.json()["code"] for answer in refused.values()] == list(refused)
    places = [(error["line"], error["code"]) for error in refused["invalid_rows"].json()["errors"]]
    assert places == [(4, "invalid"), (8, "ambiguous_number")]
    assert correct(site, rehearsal, b"{" + b" " * 9_000_000).status_code == 413
    assert site.client.post(f"/products/bulk/{rehearsal}/correct", {"rows": "x"}).status_code == 415
    assert ImportJob.objects.count() == 1
    assert site.aws.payload_keys() == before


def test_a_correction_that_is_sent_twice_starts_one_job(site: Site, rehearsal: str) -> None:
    query = "?on_invalid=skip"
    one, other = (correct(site, rehearsal, {1: {"price": "2.00"}}, query, "key") for _request in range(2))
    assert one.json()["id"] == other.json()["id"]
    different = correct(site, rehearsal, {1: {"price": "3.00"}}, query, "key")
    assert (different.status_code, different.json()["code"]) == (422, "idempotency_key_reused")


def test_a_job_that_is_not_ones_own_not_ended_or_expired_is_not_corrected(site: Site, rehearsal: str) -> None:
    other = APIClient()
    other.force_login(make_user("other", "add_product"))
    path = f"/products/bulk/{rehearsal}/correct"
    assert other.post(path, {"rows": {}}, format="json").status_code == 404

    running = site.submit([product("X")])
    assert correct(site, running, {}).json()["code"] == "import_not_ended"
    assert site.document(running)["links"]["correct"] is None

    set_end_days_ago(31)
    expire()
    answer = correct(site, rehearsal, {})
    assert (answer.status_code, answer.json()["code"]) == (410, "expired")
    assert site.document(rehearsal)["links"]["correct"] is None


def left_by_a_cancel(site: Site, run_worker: Any) -> str:
    """Return the ID of an import whose two rows are left, because it was cancelled."""
    job_id = site.submit([product("A"), product("B")])
    site.client.delete(f"/products/bulk/{job_id}")
    run_worker()
    assert site.document(job_id)["counts"] == counts(unprocessed=2)
    return job_id


def test_no_two_imports_have_the_same_rows(site: Site, run_worker: Any) -> None:
    """Without this, a second correction and a retry would create the rows again that the first correction created."""
    first = left_by_a_cancel(site, run_worker)
    tried = correct(site, first, {1: {"sku": "B1"}}, "?rehearse=true").json()["id"]
    run_worker()
    again = correct(site, tried, {1: {"sku": "B2"}}, "?rehearse=true").json()["id"]
    run_worker()
    imported = site.post(again, "run").json()["id"]

    answers = [
        correct(site, first, {1: {"sku": "B3"}}),
        correct(site, tried, {1: {"sku": "B4"}}),
        site.post(first, "retry"),
        site.post(tried, "run"),
    ]

    run_worker()
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(409, "sent_again")] * 4
    links = site.document(tried)["links"]
    assert [links[name] for name in ("retry", "run", "correct")] == [None] * 3
    assert all(imported in answer.json()["message"] for answer in answers)
    assert site.post(again, "run").json()["id"] == imported
    assert set(Product.objects.values_list("sku", flat=True)) == {"A", "B2"}
    assert ImportJob.objects.count() == 4


def test_a_rehearsed_correction_does_not_run_after_a_retry(site: Site, run_worker: Any) -> None:
    first = left_by_a_cancel(site, run_worker)
    rehearsal = correct(site, first, {1: {"sku": "B1"}}, "?rehearse=true").json()["id"]
    run_worker()
    assert site.post(first, "retry").status_code == 202
    run_worker()

    answer = site.post(rehearsal, "run")

    assert (answer.status_code, answer.json()["code"]) == (409, "sent_again")
    assert set(Product.objects.values_list("sku", flat=True)) == {"A", "B"}


def send_file(site: Site, table: str, changes: Any, query: str, key: str = "") -> Any:
    """Send a file with corrections of its rows, without a job that has the file."""
    form = {"file": SimpleUploadedFile("list.csv", table.encode()), "corrections": json.dumps({"rows": changes})}
    return site.client.post(f"/products/bulk?{query}", form, headers={"Idempotency-Key": key} if key else {})


def test_a_file_is_checked_and_imported_with_corrections_that_come_with_it(site: Site, run_worker: Any) -> None:
    """The rows keep their lines. The texts are read with the locale of the file. A repeated request is the same job."""
    table = TABLE.replace("B,Twin", "E,Twin")
    query = 'locale=de-DE&decimal={"price":"."}'
    wrong = send_file(site, table, {}, f"dry_run=true&{query}").json()
    assert [(error["line"], error["field"]) for error in wrong["errors"]] == [
        (4, "price"),
        (7, "category"),
        (8, "weight_kg"),
    ]
    changes: dict[int, dict[str, Any]] = {
        1: {"price": "12.50"},
        3: {"category": "tents"},
        4: {"weight_kg": "1,25", "name": None},
    }
    again = send_file(site, table, changes, f"dry_run=true&{query}").json()
    assert [(error["line"], error["field"], error["code"]) for error in again["errors"]] == [(8, "name", "required")]
    assert again["reading"]["header_line"] == 2

    changes[4]["name"] = "Pot"
    first, second = (send_file(site, table, changes, query, key="k") for _twice in range(2))
    assert (first.status_code, first.json()["id"]) == (202, second.json()["id"])
    assert send_file(site, table, {1: {"price": "1.00"}}, query, key="k").json()["code"] == "idempotency_key_reused"
    run_worker()
    assert dict(Product.objects.values_list("sku", "weight_kg")) == {
        "A": None,
        "B": None,
        "E": None,
        "C": None,
        "D": Decimal("1.250"),
    }
    assert str(Product.objects.get(sku="B").price) == "12.50"
    assert Product.objects.get(sku="D").name == "Pot"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({9: {"name": "Mug"}}, "unknown_row"), ({-1: {"name": "Mug"}}, "unknown_row"), ([1], "malformed_body")],
)
def test_corrections_of_no_row_are_refused_and_leave_nothing(site: Site, changes: Any, code: str) -> None:
    rows = json.dumps([product("A")])
    for name in ("list.json", "list.jsonl"):
        form = {
            "file": SimpleUploadedFile(name, (rows if name == "list.json" else rows[1:-1]).encode()),
            "corrections": SimpleUploadedFile("corrections", json.dumps({"rows": changes}).encode()),
        }
        answer = site.client.post("/products/bulk", form)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert not ImportJob.objects.exists()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b'"\xff"', "malformed_body"),
        (b'["\xff"]', "malformed_body"),
        (b"1e999", "invalid_rows"),
        (b"1" * 5000, "invalid_rows"),
    ],
)
def test_a_correction_that_is_no_json_value_is_refused(site: Site, value: bytes, code: str) -> None:
    content = b'{"rows": {"0": {"name": %b}}}' % value
    form = {
        "file": SimpleUploadedFile("list.json", json.dumps([product("A")]).encode()),
        "corrections": SimpleUploadedFile("corrections", content),
    }

    answer = site.client.post("/products/bulk", form)

    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_corrections_that_are_too_large_for_a_field_can_be_sent_as_a_file(site: Site, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    content = json.dumps({"rows": {"0": {"description": "x" * 1000}}})

    def send(corrections: Any) -> Any:
        file = SimpleUploadedFile("list.json", json.dumps([product("A")]).encode())
        return site.client.post("/products/bulk", {"file": file, "corrections": corrections})

    refused = send(content)
    assert (refused.status_code, "as a file" in refused.json()["message"]) == (413, True)
    assert send(SimpleUploadedFile("corrections.json", content.encode())).status_code == 202


def test_of_a_correction_and_a_retry_at_the_same_time_one_is_refused(site: Site, run_worker: Any) -> None:
    first = left_by_a_cancel(site, run_worker)

    answers = in_threads(
        lambda: correct(site, first, {1: {"sku": "B1"}}),
        lambda: correct(site, first, {1: {"sku": "B2"}}),
        lambda: site.post(first, "retry"),
    )

    accepted, *refused = sorted(answer.status_code for answer in answers)
    assert (accepted, set(refused) <= {409, 503}) == (202, True)  # 503: we read one upload of a user at a time
    run_worker()
    assert Product.objects.count() == 2
