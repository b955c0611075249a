"""The public API: POST an import, GET the job, GET the failures."""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from bulk_import.models import ChunkStatus, ImportChunk, ImportJob
from bulk_import_wire.lines import failure_line
from tests.bulk_import.conftest import Aws, make_user, post_rows, product
from tests.counts import counts

if TYPE_CHECKING:
    from pytest_django import Settings

pytestmark = pytest.mark.django_db

ENDED = [ChunkStatus.DONE, ChunkStatus.DEAD]
AWAY = "http://127.0.0.1:9"
"""Nobody listens on the discard port."""


@pytest.fixture(autouse=True)
def _commit(transactional_db: None) -> None:
    """A submission commits for real: its messages are sent after that."""


def storage_away(settings: Settings, alias: str) -> None:
    storage = settings.STORAGES[alias]
    options = {**storage["OPTIONS"], "endpoint_url": AWAY}
    settings.STORAGES = {**settings.STORAGES, alias: {**storage, "OPTIONS": options}}


def queue_away(settings: Settings) -> None:
    client = {**settings.BULK_IMPORT["QUEUE_CLIENT"], "endpoint_url": AWAY}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "QUEUE_CLIENT": client}


def test_an_import_is_accepted_with_a_friendly_message(client_of_merchandiser: APIClient, aws: Aws) -> None:
    answer = post_rows(client_of_merchandiser, [product("A"), product("B")])

    job = answer.json()
    assert answer.status_code == 202
    assert answer["Location"] == job["links"]["self"] == f"http://testserver/products/bulk/{job['id']}"
    assert answer["Retry-After"] == "1"
    assert job["message"].startswith("We received 2 products")
    assert job["counts"] == counts(pending=2)


@pytest.mark.parametrize("path", ["/products/bulk", "/products/bulk/"])
def test_the_trailing_slash_does_not_matter(client_of_merchandiser: APIClient, aws: Aws, path: str) -> None:
    location = post_rows(client_of_merchandiser, [product("A")], path).json()["links"]["self"]

    assert client_of_merchandiser.get(location).status_code == 200
    assert client_of_merchandiser.get(f"{location}/").status_code == 200


def test_the_payload_holds_the_rows_as_they_were_sent(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """Numbers keep their digits, one row is one line. A row that was sent on several lines loses its blanks."""
    body = b'[ {"sku":"A","name":"T\\u00e9nt", "price": 12.50, "currency":"EUR","category":"tents"} ,\n{"sku":"B",\n'
    body += b'"name":"x","price":"1","currency":"EUR","category":"tents","weight_kg":0.100}]'
    post_rows(client_of_merchandiser, body)

    assert aws.payload(ImportJob.objects.get().payload_key) == (
        b'{"sku":"A","name":"T\\u00e9nt", "price": 12.50, "currency":"EUR","category":"tents"}\n'
        b'{"sku":"B","name":"x","price":"1","currency":"EUR","category":"tents","weight_kg":0.100}\n'
    )


def test_one_message_a_chunk_names_its_byte_range(client_of_merchandiser: APIClient, aws: Aws) -> None:
    post_rows(client_of_merchandiser, [product(f"SKU-{number}") for number in range(7)])

    messages = aws.messages()
    payload = aws.payload(messages[0].key)
    ranges = [payload[m.first_byte : m.first_byte + m.byte_count] for m in messages]
    assert [(m.first_index, m.row_count) for m in messages] == [(0, 3), (3, 3), (6, 1)]
    assert b"".join(ranges) == payload
    assert [part.count(b"\n") for part in ranges] == [3, 3, 1]
    assert ImportJob.objects.get().status == "queued"


def test_invalid_rows_are_all_named_and_nothing_is_kept(client_of_merchandiser: APIClient, aws: Aws) -> None:
    rows = [product("A"), product("B", price="cheap"), product("C", currency="XXX", stock=-1)]
    answer = post_rows(client_of_merchandiser, rows)

    refusal = answer.json()
    assert answer.status_code == 400
    assert refusal["code"] == "invalid_rows"
    assert refusal["error_count"] == 3
    assert [(error["index"], error["field"]) for error in refusal["errors"]] == [
        (1, "price"),
        (2, "currency"),
        (2, "stock"),
    ]
    assert not ImportJob.objects.exists()
    assert aws.payload_keys() == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty_body"),
        (b" \n", "empty_body"),
        (b"[]", "no_rows"),
        (b"{}", "not_an_array"),
        (b"7", "not_an_array"),
        (b'[{"sku": "A"}', "malformed_body"),
    ],
)
def test_what_is_no_array_of_rows_is_refused_with_its_own_sentence(
    client_of_merchandiser: APIClient, aws: Aws, body: bytes, code: str
) -> None:
    answer = post_rows(client_of_merchandiser, body)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["message"].endswith((".", "14", "column 13"))
    assert not ImportJob.objects.exists()


def test_another_content_type_is_415(client_of_merchandiser: APIClient) -> None:
    answer = client_of_merchandiser.post("/products/bulk", "<rows/>", content_type="application/xml")

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_body_over_the_limit_is_413(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_BODY_BYTES": 100}
    answer = post_rows(client_of_merchandiser, [product("A" * 60)])

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert aws.payload_keys() == []


def test_more_rows_than_allowed_are_413(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "MAX_ROWS": 2}
    answer = post_rows(client_of_merchandiser, [product("A"), product("B"), product("C")])

    assert (answer.status_code, answer.json()["code"]) == (413, "too_many_rows")
    assert aws.payload_keys() == []


def test_nobody_is_401(aws: Aws) -> None:
    answer = post_rows(APIClient(), [product("A")])

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_who_may_not_create_a_product_may_not_import_any(shop: None, aws: Aws) -> None:
    client = APIClient()
    client.force_login(make_user("visitor", "view_product"))
    answer = post_rows(client, [product("A")])

    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert not ImportJob.objects.exists()


def test_the_create_endpoints_authentication_serves(merchandiser: Any, aws: Aws) -> None:
    """Basic authentication is among the shop's, so it works here."""
    basic = b64encode(b"merchandiser:secret").decode()
    answer = post_rows(APIClient(headers={"Authorization": f"Basic {basic}"}), [product("A")])

    assert answer.status_code == 202


def test_a_session_needs_its_csrf_token(merchandiser: Any) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.login(username="merchandiser", password="secret")

    assert post_rows(client, [product("A")]).status_code == 403


def test_another_users_job_does_not_exist(client_of_merchandiser: APIClient, aws: Aws) -> None:
    location = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["self"]
    other = APIClient()
    other.force_login(make_user("rival", "add_product", "view_product"))

    assert other.get(location).status_code == 404
    assert other.get(f"{location}/failures").status_code == 404
    assert other.get(location).json() == other.get(f"/products/bulk/{uuid.uuid4()}").json()


def test_s3_away_is_503_and_leaves_no_job(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    storage_away(settings, "bulk_import_payloads")
    answer = post_rows(client_of_merchandiser, [product("A")])

    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "unavailable", "30")
    assert not ImportJob.objects.exists()
    assert aws.messages() == []


def test_killed_before_the_commit_leaves_an_orphan_and_a_retry_is_clean(
    client_of_merchandiser: APIClient, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SystemExit in place of the kill: nothing after it runs, the transaction ends uncommitted."""

    def killed(*_arguments: object) -> None:
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr("bulk_import.intake.accept.split_into_chunks", killed)
        with pytest.raises(SystemExit):
            post_rows(client_of_merchandiser, [product("A")], headers={"Idempotency-Key": "one"})
    assert (ImportJob.objects.count(), len(aws.payload_keys())) == (0, 1)

    answer = post_rows(client_of_merchandiser, [product("A")], headers={"Idempotency-Key": "one"})
    assert (answer.status_code, ImportJob.objects.count(), len(aws.payload_keys())) == (202, 1, 2)


def test_sqs_away_leaves_the_job_pending_for_the_relay(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    queue_away(settings)
    answer = post_rows(client_of_merchandiser, [product("A")])

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    assert ImportChunk.objects.unsent().count() == 1


def test_the_failures_of_a_job_without_any_are_empty(client_of_merchandiser: APIClient, aws: Aws) -> None:
    location = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["failures"]
    answer = client_of_merchandiser.get(location)

    assert (answer.status_code, answer.getvalue()) == (200, b"")


def test_failures_come_in_input_order(client_of_merchandiser: APIClient, aws: Aws) -> None:
    location = post_rows(client_of_merchandiser, [product(str(n)) for n in range(7)]).json()["links"]["failures"]
    for chunk in ImportChunk.objects.order_by("-number"):
        chunk.status = ENDED[chunk.number % len(ENDED)]
        chunk.failures_key = f"{chunk.job_id}/{chunk.number}.jsonl"
        chunk.save()
        line = failure_line({"index": chunk.first_index}, b"{}")
        aws.s3.put_object(Bucket="bulk-import-failures", Key=chunk.failures_key, Body=line)

    lines = client_of_merchandiser.get(location).getvalue().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 3, 6]


def test_what_a_chunk_that_goes_on_has_stored_is_not_told_yet(client_of_merchandiser: APIClient, aws: Aws) -> None:
    """Its rows may yet be created, or fail for another reason."""
    location = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["failures"]
    for status in set(ChunkStatus) - set(ENDED):
        ImportChunk.objects.update(status=status, failures_key="missing.jsonl")

        assert client_of_merchandiser.get(location).getvalue() == b""


def test_failures_that_cannot_be_read_are_503(client_of_merchandiser: APIClient, aws: Aws, settings: Settings) -> None:
    location = post_rows(client_of_merchandiser, [product("A")]).json()["links"]["failures"]
    ImportChunk.objects.update(status="done", failures_key="missing.jsonl")

    assert client_of_merchandiser.get(location).status_code == 503


def test_an_unknown_target_is_404(client_of_merchandiser: APIClient, settings: Settings) -> None:
    path = reverse("bulk-import-jobs", kwargs={"target": "products"})
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {}}

    assert post_rows(client_of_merchandiser, [product("A")], path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("get", ""), ("post", ""), ("get", "/no-job"), ("get", "/no-job/failures")]
)
def test_a_target_that_is_not_configured_is_not_found_like_anything_else(
    client_of_merchandiser: APIClient, settings: Settings, method: str, path: str
) -> None:
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {}}
    answer = client_of_merchandiser.generic(method.upper(), f"/products/bulk{path}")

    assert (answer.status_code, answer["Content-Type"]) == (404, "application/json")
    assert (answer.json().keys(), answer.json()["code"]) == ({"code", "message"}, "not_found")


def test_while_a_check_reports_an_error_new_imports_are_answered_503(
    client_of_merchandiser: APIClient, aws: Aws, settings: Settings
) -> None:
    configured = settings.BULK_IMPORT
    settings.BULK_IMPORT = {**configured, "TOKEN_KEYS": []}
    answer = post_rows(client_of_merchandiser, [product("A")])

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer["Retry-After"]
    assert (ImportJob.objects.count(), aws.payload_keys()) == (0, [])
    assert client_of_merchandiser.get("/products/bulk").status_code == 200

    settings.BULK_IMPORT = configured
    assert post_rows(client_of_merchandiser, [product("A")]).status_code == 202
