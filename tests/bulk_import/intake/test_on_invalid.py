"""What happens to invalid rows: the import is refused, they are skipped, or a dry run only reports them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.request import Request
from rest_framework.test import APIClient, APIRequestFactory

from bulk_import.conf import conf
from bulk_import.intake import validation_result
from bulk_import.intake.payload import Payload
from bulk_import.intake.raw_rows import RawRow
from bulk_import.intake.validation import validate_rows
from bulk_import.models import ImportJob
from products.models import Category, Product
from tests.bulk_import.conftest import Aws, post_rows, product
from tests.counts import counts

PATH = "/products/bulk"
SKIP, DRY_RUN = f"{PATH}?on_invalid=skip", f"{PATH}?dry_run=true"
EAN, OTHER_EAN = "4006381333931", "5901234123457"

pytestmark = pytest.mark.django_db


def dry_run(client: APIClient, rows: Any) -> dict[str, Any]:
    answer = post_rows(client, rows, DRY_RUN)
    assert answer.status_code == 200
    result: dict[str, Any] = answer.json()
    return result


def places(result: dict[str, Any]) -> list[tuple[int, str | None, str]]:
    return [(error["index"], error["field"], error["code"]) for error in result["errors"]]


# --- reject, the default


@pytest.mark.parametrize("path", [PATH, f"{PATH}?on_invalid=reject"])
def test_one_invalid_row_refuses_the_whole_import(client_of_merchandiser: APIClient, aws: Aws, path: str) -> None:
    answer = post_rows(client_of_merchandiser, [product("A"), product("B", price="cheap")], path)

    refusal = answer.json()
    assert (answer.status_code, refusal["code"]) == (400, "invalid_rows")
    assert (refusal["error_count"], refusal["invalid_rows"]) == (1, 1)
    assert refusal["message"].startswith("1 row of 2 is not valid")
    assert (ImportJob.objects.count(), aws.payload_keys(), aws.messages()) == (0, [], [])


def test_errors_are_listed_up_to_a_limit_and_all_counted(
    client_of_merchandiser: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_result, "MAX_LISTED_ERRORS", 3)
    refusal = post_rows(client_of_merchandiser, [product(str(n), price="x", stock="y") for n in range(5)]).json()

    assert places(refusal) == [(0, "price", "invalid"), (0, "stock", "invalid"), (1, "price", "invalid")]
    assert (refusal["error_count"], refusal["invalid_rows"]) == (10, 5)


@pytest.mark.parametrize(("skip_invalid", "stored"), [(True, 3), (False, 1)])
def test_the_payload_of_a_refused_import_is_not_completed(*, skip_invalid: bool, stored: int) -> None:
    request = Request(APIRequestFactory().post(PATH))
    rows = [RawRow(json.dumps(row).encode()) for row in (product("A"), {}, product("B"))]
    with Payload() as payload:
        result = validate_rows(conf().target("products"), rows, request, payload, skip_invalid=skip_invalid)

        assert (result.rows, result.invalid_rows, len(payload.line_bytes)) == (3, 1, stored)


# --- skip


@pytest.mark.django_db(transaction=True)
def test_skipped_rows_are_rejected_with_their_errors_and_the_others_created(
    client_of_merchandiser: APIClient, aws: Aws, run_worker: Any
) -> None:
    """Of seven rows, 1, 3 and 6 are skipped, the endpoint rejects 0 and 4, and 2 and 5 are created."""
    Category.objects.create(slug="old", name="Old", is_open=False)
    rows = [
        json.dumps(product("CLOSED", category="old")),
        '{"sku": "B", "name": "Zelt \\u00e4 ä",  "price": 12.345, "stock": 1.50}',
        json.dumps(product("C")),
        "[1.10, null]",
        json.dumps(product("E", category="nowhere")),
        json.dumps(product("F")),
        json.dumps(product("C", name="Again")),
    ]
    location = post_rows(client_of_merchandiser, f"[{','.join(rows)}]".encode(), SKIP)["Location"]
    run_worker()

    job = client_of_merchandiser.get(location).json()
    assert job["status"] == "partially_succeeded"
    assert job["counts"] == counts(created=2, rejected=5)
    assert set(Product.objects.values_list("sku", flat=True)) == {"C", "F"}
    lines = client_of_merchandiser.get(f"{location}/failures").getvalue().splitlines()
    failures = [json.loads(line) for line in lines]
    assert [failure["index"] for failure in failures] == [0, 1, 3, 4, 6]
    assert {failure["outcome"] for failure in failures} == {"rejected"}
    assert [(failure["status"], failure["attempts"]) for failure in failures] == [
        (400, 1),
        (None, 0),
        (None, 0),
        (400, 1),
        (None, 0),
    ]
    assert [[error["field"] for error in failure["errors"]] for failure in failures] == [
        ["category"],
        ["price", "currency", "stock", "category"],
        [None],
        ["category"],
        ["sku"],
    ]
    assert failures[4]["errors"][0]["first_index"] == 2
    assert lines[1].endswith(b'"row": ' + rows[1].encode() + b"}")
    assert lines[2].endswith(b'"row": [1.10, null]}')
    assert {problem["field"]: problem["count"] for problem in job["problems"] if problem["field"] == "sku"} == {
        "sku": 1
    }


def test_skip_has_no_effect_if_all_rows_are_valid(client_of_merchandiser: APIClient, aws: Aws) -> None:
    job = post_rows(client_of_merchandiser, [product("A"), product("B")], SKIP).json()

    assert (job["rows"], job["counts"]["pending"]) == (2, 2)
    assert b"!" not in aws.payload(aws.payload_keys()[0])


def test_skipping_every_row_is_refused(client_of_merchandiser: APIClient, aws: Aws) -> None:
    answer = post_rows(client_of_merchandiser, [product("A", price="x"), 7], SKIP)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_rows")
    assert aws.payload_keys() == []


@pytest.mark.parametrize("row", ['{"sku": NaN}', '{"a": 1, "a": 2}', '{"sku": "\\ud800"}'])
def test_a_row_that_is_not_json_cannot_be_skipped(client_of_merchandiser: APIClient, aws: Aws, row: str) -> None:
    """It could neither be stored unchanged nor be returned to the client."""
    body = f"[{json.dumps(product('A'))}, {row}]".encode()
    answer = post_rows(client_of_merchandiser, body, SKIP)

    assert answer.status_code == 400
    assert places(answer.json()) == [(1, None, "malformed_row")]
    assert aws.payload_keys() == []


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ('{"sku": "a\\u0000b"}', "nul_character"),
        (f'{{"stock": {"9" * 31}}}', "integer_too_long"),
        ('{"price": 1e999}', "number_too_large"),
        ("[" * 40 + "]" * 40, "nested_too_deep"),
    ],
)
def test_a_row_beyond_a_limit_is_skipped_like_an_invalid_one(
    client_of_merchandiser: APIClient, aws: Aws, row: str, code: str
) -> None:
    body = f"[{json.dumps(product('A'))}, {row}]".encode()

    assert places(dry_run(client_of_merchandiser, body)) == [(1, None, code)]
    assert post_rows(client_of_merchandiser, body, SKIP).status_code == 202
    refused, stored = aws.payload(aws.payload_keys()[0]).splitlines()[1].split(b"\t")
    assert (json.loads(refused[1:])[0]["code"], stored.decode()) == (code, row)


# --- dry run


def test_a_dry_run_stores_nothing(client_of_merchandiser: APIClient, aws: Aws) -> None:
    result = dry_run(client_of_merchandiser, [product("A"), product("B", price="x"), product("C")])

    assert result["message"] == (
        "2 rows of 3 are valid. Nothing was imported: this was a dry run. "
        "Some rules are checked only when the rows are imported, for example rules over several fields."
    )
    assert (result["rows"], result["valid_rows"], result["invalid_rows"]) == (3, 2, 1)
    assert (result["error_count"], places(result)) == (1, [(1, "price", "invalid")])
    assert (ImportJob.objects.count(), aws.payload_keys(), aws.messages()) == (0, [], [])


def test_a_dry_run_does_not_need_s3_or_sqs(client_of_merchandiser: APIClient) -> None:
    assert dry_run(client_of_merchandiser, [product("A")])["valid_rows"] == 1


def test_a_dry_run_of_a_malformed_document_is_400(client_of_merchandiser: APIClient) -> None:
    assert post_rows(client_of_merchandiser, b"[{]", DRY_RUN).status_code == 400


def test_a_dry_run_needs_the_permission_to_create(shop: None, merchandiser: Any) -> None:
    merchandiser.user_permissions.clear()
    client = APIClient()
    client.force_login(merchandiser)

    assert post_rows(client, [product("A")], DRY_RUN).status_code == 403


# --- duplicates within one import


def test_a_duplicate_of_a_unique_field_names_both_rows(client_of_merchandiser: APIClient) -> None:
    result = dry_run(client_of_merchandiser, [product("A"), product("B"), product("A"), product("A")])

    assert places(result) == [(2, "sku", "duplicate"), (3, "sku", "duplicate")]
    assert [error["first_index"] for error in result["errors"]] == [0, 0]


def test_duplicates_in_two_fields_are_two_errors(client_of_merchandiser: APIClient) -> None:
    rows = [product("A"), product("B", barcode=EAN), product("A", barcode=EAN)]
    result = dry_run(client_of_merchandiser, rows)

    assert [(e["index"], e["field"], e["first_index"]) for e in result["errors"]] == [
        (2, "sku", 0),
        (2, "barcode", 1),
    ]


def test_null_and_blank_values_are_not_duplicates(client_of_merchandiser: APIClient) -> None:
    rows = [product("A", barcode=None), product("B", barcode=None), product("C", barcode=""), product("D", barcode="")]

    assert dry_run(client_of_merchandiser, [*rows, product("E")])["valid_rows"] == 5


def test_fields_that_are_not_unique_may_have_the_same_value(client_of_merchandiser: APIClient) -> None:
    assert dry_run(client_of_merchandiser, [product(str(number)) for number in range(3)])["valid_rows"] == 3


def test_values_that_the_serializer_makes_equal_are_duplicates(client_of_merchandiser: APIClient) -> None:
    """It converts a number to a text and strips blanks."""
    result = dry_run(client_of_merchandiser, [product("7"), product(" 7 "), {**product(""), "sku": 7}])

    assert [error["index"] for error in result["errors"]] == [1, 2]


def test_a_duplicate_of_an_invalid_row_does_not_count(client_of_merchandiser: APIClient) -> None:
    result = dry_run(client_of_merchandiser, [product("A", price="x"), product("A"), product("A")])

    assert [(e["index"], e["code"], e.get("first_index")) for e in result["errors"]] == [
        (0, "invalid", None),
        (2, "duplicate", 1),
    ]


def test_a_duplicate_of_a_duplicate_does_not_count_in_its_other_fields(client_of_merchandiser: APIClient) -> None:
    """Row 1 is invalid because of its SKU, so row 2 may use the same barcode."""
    rows = [product("A", barcode=EAN), product("A", barcode=OTHER_EAN), product("B", barcode=OTHER_EAN)]

    assert places(dry_run(client_of_merchandiser, rows)) == [(1, "sku", "duplicate")]


def test_a_row_that_exists_already_is_left_to_the_endpoint(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """An import does not compare its rows with the database; a dry run does."""
    Product.objects.create(sku="A", name="Tent", price=1, currency="EUR", category=Category.objects.get(slug="tents"))

    assert places(dry_run(client_of_merchandiser, [product("A")])) == [(0, "sku", "unique")]
    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202
